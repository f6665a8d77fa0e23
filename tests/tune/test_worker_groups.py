"""Trials of two workers each, some of which hang."""

import pytest
from optuna.trial import TrialState

from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import load_results
from tests.tune.poisoned.sitecustomize import FREEZES, GOOD, HANGS
from tests.tune.searches import RATE, SPEED, assert_consistent, seed_of, study

BAD = 1e-7
GROUPS = {
    "search__trials": 4,
    "search__workers_per_trial": 2,
    "search__cpus_per_worker": 1,
    "search__concurrent": 1,
    "search__hang_timeout": 12,
    "training__learning_rate": f"{{choice: [{FREEZES}, {HANGS}, {GOOD}, {BAD}]}}",
}


@pytest.fixture(scope="module")
def groups(start, place, poison):
    """The folder, whether all processes ended, exit status and output of a search whose groups,
    each in its turn: freeze, hang, come to the end, and are stopped.
    """
    seed = seed_of(place / "tiny.yaml", lambda rates: rates == [HANGS, GOOD, BAD], GROUPS)
    command = start("tiny.yaml", "--name=groups", SPEED, search__seed=seed, **GROUPS)
    status, printed = command.ended()
    return place / "runs/groups", command.wait_until_alone(), status, printed


def test_a_worker_that_hangs_takes_its_group_along(groups):
    """Otherwise the next group would wait for ever for its place."""
    folder, _, status, printed = groups
    assert status == 0, printed
    trials = assert_consistent(folder, workers_per_trial=2).trials
    assert list(trials[RATE]) == [FREEZES, HANGS, GOOD, BAD]
    assert list(trials["status"]) == ["failed", "failed", "completed", "stopped"], printed
    assert trials["error"][:2].str.startswith("no sign of life for 1").all()
    states = [trial.state for trial in study(folder).trials]
    assert states == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED]


def test_groups_end_and_leave_no_process(groups):
    folder, alone, *_ = groups
    assert alone
    assert list(load_results(folder).trials["tokens"][2:]) == [8192, 2048]


def test_two_workers_come_to_what_one_comes_to(groups, train_main, tmp_path):
    folder, *_ = groups
    recipe = folder / files.BEST_RECIPE
    assert load_search_file(recipe).search.workers_per_trial == 2
    _, one = train_main(recipe, tmp_path)
    two = load_results(folder).best
    for name in ("bits_per_byte", "bits_per_token"):
        assert one[name] == pytest.approx(two[name], rel=1e-4)
