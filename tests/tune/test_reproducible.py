"""Two runs of the same search at the same time: on a Ray that the command starts, and on a Ray that
runs already."""

import pytest

from raygpt.results.tables import load_results
from tests.tune.searches import SPEED, statuses

pytestmark = pytest.mark.slow

TWINS = {
    "search__trials": 14,
    "search__concurrent": 1,
    "search__sampler": "tpe",
    "model__dropout": "{uniform: [0, 0.5]}",
    "training__learning_rate": "{loguniform: [1e-3, 1e4], start: 2e-2}",
}


@pytest.fixture(scope="module")
def twins(start, run_here, place):
    """The tables of two searches with the same seed, one trial at a time, some of which diverge."""
    one = start("tiny.yaml", "--name=one", SPEED, **TWINS)
    one.wait_until(lambda: statuses(place / "runs/one"))
    other = run_here("tiny.yaml", "--name=other", SPEED, **TWINS)
    for status, printed in (one.ended(), other):
        assert status == 0, printed
    return [load_results(place / "runs" / name).trials for name in ("one", "other")]


def test_sequential_searches_with_the_same_seed_are_identical(twins):
    one, other = (trials.drop(columns=["seconds", "tokens_per_second"]) for trials in twins)
    assert list(one["trial_id"]) == [f"{number:04}" for number in range(14)]
    assert set(one["status"]) == {"completed", "stopped", "diverged"}
    assert one.equals(other)
