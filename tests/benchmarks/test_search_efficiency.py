import math
import statistics

import numpy as np
import pandas as pd
import pytest

from benchmarks import search_efficiency
from benchmarks.search_efficiency import best_value, finished, measure, recipe_of, simulate
from benchmarks.search_efficiency_report import (
    as_markdown,
    formatted,
    rank_correlations,
    summary,
    verdict,
)
from benchmarks.search_methods import METHODS, REGIMES, SEARCHED, STOCK
from raygpt.recipe import budget
from raygpt.recipe.search_file import load_search_file
from raygpt.search.estimate import plan_search
from raygpt.search.scheduler import METRIC
from raygpt.training.segments import tokens_trained

pytestmark = pytest.mark.filterwarnings("ignore")
NOISY, SHORT = "learning-rate noise", "under-trained"


def run(regime, method, trials, seed=1):
    overrides = (*REGIMES[regime], *METHODS[method], f"search.seed={seed}")
    search_file = load_search_file(SEARCHED, overrides=overrides)
    full = budget.budget_tokens(search_file.baseline())
    return search_file, full, simulate(search_file, method in STOCK, seed, trials * full)


def test_learning_rate_noise_misleads_mid_run_values_only():
    noisy, short = (rank_correlations(regime, configurations=40) for regime in (NOISY, SHORT))
    assert noisy.loc["raw", "at 1/3"] < 0.1
    assert noisy.loc["cooldown", "at 1/3"] > 0.7
    assert noisy.loc["average", "at 1/3"] > 0.7
    assert short.min(axis=None) > 0.6


@pytest.mark.parametrize("method", METHODS)
def test_every_token_is_counted(method):
    search_file, full, simulation = run(SHORT, method, trials=6)
    last = len(search_file.search.rungs) - 1
    ended = [trial for trial in simulation.trials if trial.ended is not None]
    for trial in ended:
        if METRIC in trial.last_result:
            trained = tokens_trained(recipe_of(trial, search_file), trial.last_result["rung"])
            assert trial.ended - trial.began == pytest.approx(trained)
    completed = [trial for trial in ended if trial.last_result.get("rung") == last]
    assert {trial for _, trial in finished(simulation, full)} == set(completed)
    assert simulation.tokens() == pytest.approx(6 * full)


def test_an_outcome_counts_the_tokens_until_one_sigma(monkeypatch):
    monkeypatch.setattr(search_efficiency, "best_value", lambda regime: 10.0)
    outcome = measure(SHORT, "random in full", seed=1, trials=12)
    # The first to complete is one of eight trials at once.
    assert 1 < outcome.tokens <= 8
    assert outcome.excess < 0
    monkeypatch.setattr(search_efficiency, "best_value", lambda regime: 0.0)
    outcome = measure(SHORT, "random in full", seed=1, trials=12)
    assert outcome.tokens == math.inf
    assert outcome.excess > 1


def test_the_best_value_of_the_space_is_better_than_random_trials():
    search_file, _, simulation = run(SHORT, "random in full", trials=20)
    values = [
        search_efficiency.final_value(recipe_of(trial, search_file)) for trial in simulation.trials
    ]
    assert best_value(SHORT) < min(values)


@pytest.mark.parametrize("rungs", ["[1/3, 1]", "[1/9, 1/3, 1]"])
def test_a_search_spends_the_planned_tokens(rungs):
    spent = []
    for seed in range(8):
        overrides = (*REGIMES[NOISY], "search.trials=16", f"search.rungs={rungs}")
        search_file = load_search_file(SEARCHED, overrides=(*overrides, f"search.seed={seed}"))
        spent.append(simulate(search_file, False, seed, at_once=2).tokens())
    plan = plan_search(search_file, at_once=2)
    assert plan.tokens == pytest.approx(statistics.mean(spent), rel=0.15)
    low, high = plan.usual_tokens
    assert sum(low * 0.9 <= tokens <= high * 1.1 for tokens in spent) >= 5


def outcomes(**tokens):
    """Outcomes of searches that spent these tokens, by method."""
    return pd.DataFrame(
        {
            "regime": SHORT,
            "method": method,
            "seed": seed,
            "tokens": value,
            "excess": 1.0,
            "trials": 9,
            "completed": 3,
        }
        for method, values in tokens.items()
        for seed, value in enumerate(values)
    )


def test_summary():
    inf = math.inf
    found = summary(
        outcomes(
            **{
                "raygpt": [4, 8, inf, 6, 2],
                "random in full": [20, 40, 30, inf, 10],
                "TPE in full": [inf, inf, inf, 3, 5],
            }
        )
    ).loc[SHORT]
    assert found["median"].tolist() == [6, 30, inf]
    assert found["lower"].tolist() == [4, 20, 5]
    assert found["ratio"].tolist() == [0.2, 1, inf]
    assert found["reached"].tolist() == [0.8, 0.8, 0.4]
    assert found.loc["raygpt", "p"] == pytest.approx(1, abs=0.1)
    text = as_markdown(formatted(found), "method")
    assert text.splitlines()[4].startswith("| TPE in full | 5 | – | – | – |")


def test_the_verdict_names_the_methods_that_are_sooner():
    slow, soon, never = [9, 8, 7], [3, 2, 1], [np.inf] * 3
    assert "No other" in verdict(summary(outcomes(**{"raygpt": soon, "random in full": slow})))
    text = verdict(summary(outcomes(**{"raygpt": slow, "random in full": soon, "x": never})))
    assert "**random in full** was within one sigma after 2 full budgets (median)" in text
    assert "**x**" not in text
    text = verdict(
        summary(outcomes(**{"raygpt": never, "random in full": never, "x": [*never, 1]}))
    )
    assert (
        "**x** was within one sigma only in 25% of searches, raygpt was within one sigma only in 0%"
        in text
    )
