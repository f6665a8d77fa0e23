"""A search in which some learning rates make trials diverge, crash, die or hang."""

import os

import optuna
import pytest
from optuna.trial import TrialState

from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import load_results
from raygpt.search.warm_start import seed_study
from tests.tune.poisoned.sitecustomize import (
    DIES,
    DIVERGES,
    DIVERGES_LATE,
    FREEZES,
    GOOD,
    HANGS,
    RAISES,
    RATES,
)
from tests.tune.searches import RATE, SPEED, overrides, seed_of, study

pytestmark = pytest.mark.slow

POISONED = {
    "name": "poisoned",
    "search__trials": 8,
    "search__scheduler": "fifo",
    "search__hang_timeout": 12,
    "training__learning_rate": f"{{choice: {RATES}}}",
}


@pytest.fixture(scope="module")
def ends(place, start, poison):
    """Exit status and output of a search with a trial of each kind."""

    def one_of_each(rates):
        return set(rates) == set(RATES)

    seed = seed_of(place / "tiny.yaml", one_of_each, POISONED)
    command = start("tiny.yaml", SPEED, search__seed=seed, **POISONED)
    ends = command.ended()
    assert command.wait_until_alone()
    return ends


@pytest.fixture(scope="module")
def folder(place, ends):
    return place / "runs/poisoned"


ENDS = {
    GOOD: ("completed", TrialState.COMPLETE, None),
    DIVERGES: ("diverged", TrialState.PRUNED, "the training loss is "),
    DIVERGES_LATE: ("diverged", TrialState.PRUNED, "the training loss is "),
    RAISES: ("failed", TrialState.FAIL, "ValueError: the poison is at work"),
    DIES: ("failed", TrialState.FAIL, "its process died: "),
    HANGS: ("failed", TrialState.FAIL, "no sign of life for 1"),
    FREEZES: ("failed", TrialState.FAIL, "no sign of life for 1"),
}


def test_every_trial_ends_with_the_right_status(ends, folder):
    """Each also frees its resources; otherwise the search could not end."""
    status, printed = ends
    assert status == 0, printed
    assert "8 of 8 trials ended" in printed
    trials = load_results(folder).trials.set_index("trial_id")
    assert set(trials[RATE]) == set(RATES)
    found = study(folder).trials
    assert len(found) == len(trials) == 8
    for trial in found:
        row = trials.loc[f"{trial.number:04}"]
        assert trial.params == {RATE: row[RATE]}
        status, state, error = ENDS[row[RATE]]
        assert (row["status"], trial.state) == (status, state)
        assert trial.constraints == ({"diverged": 1.0} if status == "diverged" else {})
        if error is None:
            assert trial.value == row["bits_per_byte"]
        else:
            assert row["error"].startswith(error)
            assert "\n" not in row["error"]
            assert trial.user_attrs["error"] == row["error"]
        reached = {GOOD: [2048, 8192], DIVERGES_LATE: [2048]}.get(row[RATE], [])
        assert list(trial.intermediate_values) == reached


def test_the_search_begins_with_its_baseline(folder):
    trials = load_results(folder).trials
    baseline = trials[trials["baseline"]]
    assert list(baseline["trial_id"]) == ["0000"]
    assert list(baseline[RATE]) == [GOOD]  # the first choice, as the recipe names no start


def test_no_diverged_or_failed_trial_is_the_best(folder):
    best = load_search_file(folder / files.BEST_RECIPE).single_recipe()
    assert best.training.learning_rate == GOOD == load_results(folder).best[RATE]


def test_frozen_processes_have_ended(place, folder):
    pids = (place / "frozen").read_text().split()
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_another_search_warm_starts_from_it(place, folder):
    learning = optuna.create_study()
    search_file = load_search_file(
        place / "tiny.yaml", overrides=[*overrides(POISONED), f"search.warm_start=[{folder}]"]
    )
    trials = load_results(folder).trials
    failed = (trials["status"] == "failed").sum()
    assert seed_study(learning, search_file) == [
        f"Warm start: {8 - failed} of 8 trials of {folder}, {failed} failed or unfinished."
    ]
    for trial in learning.trials[:-1]:
        assert trial.state == ENDS[trial.params[RATE]][1]
