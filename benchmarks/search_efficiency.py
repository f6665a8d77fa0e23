"""What a search costs until it has found the best: `python -m benchmarks.search_efficiency`

The search layer alone, sampler, rungs and scheduler, in virtual time (`raygpt.search.simulation`)
on made-up learning curves (`benchmarks.learning_curves`, which names the model and its sources).

Searched are the five values of `search_spaces/lr_sched.yaml`, in two regimes that differ in the
budget alone. Every method gets as many tokens as `--trials` trials in full take; the figure is how
many it took until its incumbent, the trial of the lowest measured value among those that came to
the end of the budget, had an expected value within one noise sigma of the best of the space. Sigma
is the standard deviation over seeds at the end of the budget; the expected value has no noise, and
no method knows it. A method that does not come there is counted as not having done so.
"""

import argparse
import math
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from ray.tune import Callback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch
from scipy.optimize import differential_evolution
from scipy.stats import spearmanr

from benchmarks.learning_curves import AVERAGE_AT, AVERAGED, LearningCurves, expected_loss
from benchmarks.learning_curves import final_value, sigma
from raygpt.command import run_command
from raygpt.recipe import budget
from raygpt.recipe.ranges import LogUniform
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.search.cluster import Placement
from raygpt.search.sampler import StudySearcher, suggest_values
from raygpt.search.scheduler import METRIC, make_scheduler
from raygpt.search.simulation import SimulatedTrial, Simulation
from raygpt.search.warm_start import seed_study

SEARCHED = Path(__file__).parents[1] / "search_spaces" / "lr_sched.yaml"
REGIMES = {
    "noise of the rate": ("training.tokens=6.15G",),
    "under-trained": ("training.tokens=100M",),
}
IN_FULL = ("search.scheduler=fifo", "search.rungs=[1]")
METHODS = {
    "raygpt": (),
    "raygpt, averaged weights": ("search.rung_metric=average",),
    "raygpt, mid-run values": ("search.rung_metric=raw",),
    "raygpt, no rung below 1/3": ("search.rungs=[1/3, 1]",),
    "random in full": (*IN_FULL, "search.sampler=random"),
    "TPE in full": IN_FULL,
    # As users wire the two: all by Ray's own defaults, and every trial judged as it stands.
    "OptunaSearch and ASHA": ("search.rung_metric=raw",),
}
DEFAULT, REFERENCE, STOCK = "raygpt", "random in full", "OptunaSearch and ASHA"
AT_ONCE = 8
# What ends a search is its tokens.
NO_LIMIT = 10**6


@dataclass(frozen=True)
class Outcome:
    """Of one search; tokens are in full budgets."""

    regime: str
    method: str
    seed: int
    tokens: float
    """Until the incumbent was within one sigma of the best; infinite if it never was."""
    excess: float
    """Of the incumbent's expected value over the best, at the end and in sigmas."""
    trials: int
    completed: int
    cpu_seconds: float


class TellsOutcomes(Callback):
    """Tells a study how its trials ended, as `raygpt.search.recorder` does, without any tables."""

    def __init__(self, searcher: StudySearcher, last_rung: int):
        self._searcher = searcher
        self._last_rung = last_rung

    def on_trial_complete(
        self, iteration: int, trials: list, trial: SimulatedTrial, **info: Any
    ) -> None:
        row: dict[str, Any] = {}
        for result in trial.results:
            row |= {name: result[name] for name in (METRIC, "tokens", "rung") if METRIC in result}
        row["status"] = "completed" if row.get("rung") == self._last_rung else "stopped"
        if "diverged" in trial.last_result:
            row |= {"status": "diverged", "error": trial.last_result["diverged"]}
        self._searcher.ended(trial.trial_id, row)


def simulate(search_file: SearchFile, stock: bool, seed: int, most_tokens: float) -> Simulation:
    """A search of that file until its tokens are spent.

    Args:
        search_file: with the search's seed.
        stock: whether Ray's own parts search instead of raygpt's.
        seed: of the learning curves.
        most_tokens: of all trials together.
    """
    parts = stock_parts if stock else raygpt_parts
    searcher, scheduler, callbacks, recipe_of = parts(search_file)
    curves = LearningCurves(seed, sees_divergence=not stock)
    return Simulation(
        searcher,
        scheduler,
        lambda config: curves.reports(recipe_of(config)),
        trials=NO_LIMIT,
        at_once=AT_ONCE,
        callbacks=callbacks,
        most_tokens=most_tokens,
    ).run()


def raygpt_parts(search_file: SearchFile) -> tuple:
    """Searcher, scheduler, callbacks, and what makes a recipe of a trial's configuration."""
    study = optuna.create_study()
    seed_study(study, search_file)
    needed = Placement(workers=1, cpus=1, gpus=0)
    searcher = StudySearcher(study, search_file, needed, storage="/", resumed={})
    last_rung = len(search_file.search.rungs) - 1
    return (
        searcher,
        make_scheduler(search_file.search),
        [TellsOutcomes(searcher, last_rung)],
        lambda config: Recipe.model_validate_json(config["recipe"]),
    )


def stock_parts(search_file: SearchFile) -> tuple:
    """The same of Ray's own."""
    recipe = search_file.recipe(search_file.start_values())
    per_step = budget.tokens_per_step(recipe)
    searcher = OptunaSearch(
        lambda trial: suggest_values(search_file, trial),
        metric=METRIC,
        mode="min",
        seed=search_file.search.seed,
    )
    scheduler = ASHAScheduler(
        time_attr="tokens",
        metric=METRIC,
        mode="min",
        max_t=budget.budget_tokens(recipe),
        grace_period=budget.rung_steps(recipe)[0] * per_step,
        reduction_factor=search_file.search.reduction_factor,
    )
    return searcher, scheduler, [], search_file.recipe


def measure(regime: str, method: str, seed: int, trials: int) -> Outcome:
    """Run one search.

    Args:
        regime, method: names of them.
        seed: of the search and of the noise.
        trials: in full, whose tokens it may spend.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    overrides = (*REGIMES[regime], *METHODS[method], f"search.seed={seed}")
    search_file = load_search_file(SEARCHED, overrides=overrides)
    some_recipe = search_file.recipe(search_file.start_values())
    full = budget.budget_tokens(some_recipe)
    best, noise = best_value(regime), sigma(some_recipe)

    started = time.process_time()
    simulation = simulate(search_file, method == STOCK, seed, trials * full)
    cpu_seconds = time.process_time() - started

    tokens, expected = math.inf, math.inf
    lowest = math.inf
    completed = finished(simulation, full)
    for seconds, trial in completed:
        if trial.last_result[METRIC] < lowest:
            lowest = trial.last_result[METRIC]
            expected = final_value(recipe_of(trial, search_file))
            if expected <= best + noise:
                tokens = min(tokens, simulation.tokens(seconds) / full)
    return Outcome(
        regime=regime,
        method=method,
        seed=seed,
        tokens=tokens,
        excess=(expected - best) / noise,
        trials=len(simulation.trials),
        completed=len(completed),
        cpu_seconds=cpu_seconds,
    )


def finished(simulation: Simulation, full: int) -> list[tuple[float, SimulatedTrial]]:
    """The trials judged on a whole budget of so many tokens, and when; earliest first."""
    found = [
        (trial.began + trial.last_result["time_total_s"], trial)
        for trial in simulation.trials
        if METRIC in trial.last_result and trial.last_result["tokens"] == full
    ]
    return sorted(found, key=lambda pair: pair[0])


def recipe_of(trial: SimulatedTrial, search_file: SearchFile) -> Recipe:
    """What a trial trained; Ray's own searcher gives it bare values."""
    if "recipe" in trial.config:
        return Recipe.model_validate_json(trial.config["recipe"])
    return search_file.recipe(trial.config)


@cache
def best_value(regime: str) -> float:
    """The lowest expected bits per byte of the space."""
    search_file = load_search_file(SEARCHED, overrides=REGIMES[regime])

    def expected(shares: np.ndarray) -> float:
        pairs = zip(search_file.ranges.items(), shares, strict=True)
        return final_value(search_file.recipe({name: at(r, share) for (name, r), share in pairs}))

    unit = [(0, 1)] * len(search_file.ranges)
    return float(differential_evolution(expected, unit, seed=0, tol=1e-6).fun)


def at(found: Any, share: float) -> float:
    """The value at this share of the way through a range of floats."""
    low, high = found.extremes()
    return (
        low * (high / low) ** share if isinstance(found, LogUniform) else low + share * (high - low)
    )


def rank_correlations(regime: str, configurations: int = 300) -> pd.DataFrame:
    """Spearman's between what is measured at a rung and the expected value at the end.

    A row a metric, a column a rung; over configurations at random, diverged ones aside.
    """
    search_file = load_search_file(SEARCHED, overrides=REGIMES[regime])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggest_values(search_file, study.ask()) for _ in range(configurations)]
    table = {}
    for metric in ("cooldown", "average", "raw"):
        overrides = (*REGIMES[regime], f"search.rung_metric={metric}")
        recipes = map(load_search_file(SEARCHED, overrides=overrides).recipe, drawn)
        rows = []
        for recipe in recipes:
            *reports, (_, last) = LearningCurves(seed=0).reports(recipe)
            if METRIC in last:
                rows.append([*(report[METRIC] for _, report in reports), final_value(recipe)])
        *rungs, final = np.array(rows).T
        table[metric] = [spearmanr(values, final).statistic for values in rungs]
    rungs = [f"at {rung}" for rung in search_file.search.rungs[:-1]]
    return pd.DataFrame.from_dict(table, orient="index", columns=rungs)


def summary(outcomes: pd.DataFrame) -> pd.DataFrame:
    """A row a regime and method: quartiles of the tokens, in full budgets, and what else counts.

    `ratio` is the median over that of random search in full; NaN where either is not reached.
    """

    def row(group: pd.DataFrame) -> pd.Series:
        # No mean of two searches, one of which may not have come there.
        lower, median, upper = np.quantile(group["tokens"], [0.25, 0.5, 0.75], method="higher")
        return pd.Series(
            {
                "lower": lower,
                "median": median,
                "upper": upper,
                "reached": np.isfinite(group["tokens"]).mean(),
                "excess": group["excess"].median(),
                "trials": group["trials"].median(),
                "completed": group["completed"].median(),
            }
        )

    table = outcomes.groupby(["regime", "method"], sort=False).apply(row, include_groups=False)
    reference = table["median"].xs(REFERENCE, level="method")
    ratio = table["median"] / table.index.get_level_values("regime").map(reference)
    table.insert(3, "ratio", ratio.where(np.isfinite(table["median"])))
    return table
