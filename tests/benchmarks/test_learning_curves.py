import statistics

import pytest

from benchmarks.learning_curves import (
    GUESS,
    LearningCurves,
    divergence_probability,
    expected_loss,
    final_value,
    sigma,
)
from benchmarks.search_methods import REGIMES, SEARCHED
from raygpt.recipe import budget
from raygpt.recipe.search_file import load_search_file
from raygpt.search.scheduler import METRIC
from raygpt.training.segments import segments, tokens_trained

SAFE = {
    "model.dropout": 0.05,
    "training.learning_rate": 1e-3,
    "training.weight_decay": 0.1,
    "training.warmup": 0.02,
    "training.hold": 0.5,
}
WILD = SAFE | {"training.learning_rate": 4e-3, "training.warmup": 0.002}


def recipe(values=SAFE, regime="learning-rate noise", *overrides):
    return load_search_file(SEARCHED, overrides=(*REGIMES[regime], *overrides)).recipe(values)


def reports(found, seed=0, **options):
    return list(LearningCurves(seed, **options).reports(found))


def with_seed(wanted, found, **options):
    """The reports with the first seed for which the run diverges, or does not."""
    for seed in range(100):
        said = reports(found, seed, **options)
        if ("diverged" in said[-1][1]) == wanted:
            return said
    raise AssertionError


@pytest.mark.parametrize("metric", ["cooldown", "average", "raw"])
def test_reports_at_rungs_count_the_tokens_of_the_segments(metric):
    found = recipe(SAFE, "under-trained", f"search.rung_metric={metric}")
    said = with_seed(False, found)
    assert [tokens for tokens, _ in said] == [
        tokens_trained(found, rung) for rung in range(len(found.search.rungs))
    ]
    for (tokens, figures), rung in zip(said, found.search.rungs, strict=True):
        assert figures["tokens_trained"] == tokens
        assert figures["tokens"] == round(rung * budget.steps(found)) * 256_000
    assert [figures["rung_metric"] for _, figures in said][-1] == "raw"


def test_between_rungs_it_reports_as_training_does():
    found = recipe()
    said = with_seed(False, found, between=True)
    assert 20 <= len(said) <= 40
    assert [tokens for tokens, _ in said] == sorted(tokens for tokens, _ in said)
    assert sum(METRIC in figures for _, figures in said) == len(found.search.rungs)
    assert said[-1][0] == tokens_trained(found, len(found.search.rungs) - 1)


def test_the_same_seed_gives_the_same_reports_and_another_seed_others():
    assert reports(recipe(), 3) == reports(recipe(), 3)
    assert reports(recipe(), 3) != reports(recipe(), 4)


def test_the_noise_at_the_end_has_standard_deviation_sigma():
    found = recipe(SAFE, "under-trained")
    measured = [reports(found, seed)[-1][1].get(METRIC) for seed in range(150)]
    measured = [value for value in measured if value]
    assert statistics.mean(measured) == pytest.approx(final_value(found), abs=sigma(found) / 3)
    assert statistics.stdev(measured) == pytest.approx(sigma(found), rel=0.25)


def test_a_high_rate_with_a_short_warmup_diverges():
    assert divergence_probability(recipe(SAFE)) < 0.01
    assert divergence_probability(recipe(WILD)) > 0.9
    tokens, figures = with_seed(True, recipe(WILD))[-1]
    assert tokens < budget.budget_tokens(recipe(WILD))
    assert set(figures) == {"diverged"}


def test_without_a_check_a_diverged_run_continues_at_the_value_of_guessing():
    found = recipe(WILD)
    for seed in range(20):
        seen, unseen = (reports(found, seed, sees_divergence=sees) for sees in (True, False))
        if "diverged" in seen[-1][1]:
            assert unseen[-1][1][METRIC] == GUESS
            assert unseen[-1][0] == tokens_trained(found, 1)
            break
    else:
        raise AssertionError


def test_annealing_removes_learning_rate_noise():
    found = recipe()
    steps = budget.steps(found)
    held, decaying, annealed = (expected_loss(found, s * steps, steps)[1] for s in (0.5, 0.8, 1))
    assert held > 2 * decaying > 10 * annealed > 0
    # A cooldown to a rung removes it already there.
    assert expected_loss(found, steps / 3, steps / 3)[1] < held / 10


def test_the_loss_falls_with_the_steps():
    found = recipe()
    steps = budget.steps(found)
    losses = [expected_loss(found, share * steps, steps)[0] for share in (0.1, 0.3, 0.5, 1)]
    assert losses == sorted(losses, reverse=True)
    assert len(segments(found)) >= 2
