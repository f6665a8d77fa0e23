import pytest

from raygpt.recipe.schema import Search
from raygpt.search.estimate import expected_budgets

RUNGS = ("1/9", "1/3", "1")


@pytest.mark.parametrize("trials", [1, 5, 40])
def test_without_stops_every_trial_takes_its_budget(trials):
    assert expected_budgets(Search(trials=trials, rungs=RUNGS, scheduler="fifo")) == trials
    assert expected_budgets(Search(trials=trials, rungs=("1",))) == trials


def test_one_trial_is_never_stopped():
    assert expected_budgets(Search(trials=1, rungs=RUNGS)) == 1


@pytest.mark.parametrize("trials", [2, 10, 50])
@pytest.mark.parametrize("rungs", [RUNGS, ("1/2", "1"), ("1/100", "1/3", "1")])
def test_between_all_stopped_and_none(trials, rungs):
    search = Search(trials=trials, rungs=rungs)
    least = 1 + (trials - 1) * float(search.rungs[0])  # the first goes on to the end
    assert least <= expected_budgets(search) < trials


def test_in_the_long_run_it_is_what_the_factor_says():
    # One in three goes on past each rung: 1/9 + 1/3 · (1/3 − 1/9) + 1/9 · (1 − 1/3) of a budget.
    budgets = expected_budgets(Search(trials=400, rungs=RUNGS))
    assert budgets / 400 == pytest.approx(0.26, abs=0.04)


def test_the_more_are_stopped_the_less_it_takes():
    few, many = (expected_budgets(Search(trials=40, reduction_factor=f)) for f in (2, 4))
    assert many < few


def test_it_is_the_same_every_time():
    assert expected_budgets(Search()) == expected_budgets(Search())
