"""Trials of two workers each, some of which hang."""

import pytest
from optuna.trial import TrialState

from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import load_results
from tests.tune.poisoned.sitecustomize import FREEZES, GOOD, HANGS
from tests.tune.searches import RATE, SPEED, assert_consistent, seed_of, study

pytestmark = pytest.mark.slow

BAD = 1e-7
GROUPS = {
    "search__trials": 4,
    "search__workers_per_trial": 2,
    "search__concurrent": 1,
    "search__hang_timeout": 12,
    "training__learning_rate": f"{{choice: [{FREEZES}, {HANGS}, {GOOD}, {BAD}]}}",
}


@pytest.fixture(scope="module")
def groups(start, place, poison):
    """A search whose four groups freeze, complete, are stopped, and hang, one after another.

    Returns its folder, whether all its processes ended, its exit status and its output.
    """
    seed = seed_of(place / "tiny.yaml", lambda rates: rates == [GOOD, BAD, HANGS], GROUPS)
    command = start("tiny.yaml", "--name=groups", SPEED, search__seed=seed, **GROUPS)
    status, printed = command.ended()
    return place / "runs/groups", command.wait_until_alone(), status, printed


def test_every_worker_group_frees_its_resources(groups):
    """This holds when one of its workers hangs and when the group is stopped."""
    folder, _, status, printed = groups
    assert status == 0, printed
    trials = assert_consistent(folder, workers_per_trial=2).trials
    assert list(trials[RATE]) == [FREEZES, GOOD, BAD, HANGS]
    assert list(trials["status"]) == ["failed", "completed", "stopped", "failed"], printed
    assert list(trials["tokens"][1:3]) == [8192, 2048]
    assert trials["error"][[0, 3]].str.startswith("no sign of life for 1").all()
    states = [trial.state for trial in study(folder).trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]


def test_no_process_is_left(groups):
    _, alone, *_ = groups
    assert alone


def test_two_workers_get_the_same_result_as_one(groups, train_main, tmp_path):
    folder, *_ = groups
    recipe = folder / files.BEST_RECIPE
    assert load_search_file(recipe).search.workers_per_trial == 2
    _, one = train_main(recipe, tmp_path)
    two = load_results(folder).best
    for name in ("bits_per_byte", "bits_per_token"):
        assert one[name] == pytest.approx(two[name], rel=1e-4)
