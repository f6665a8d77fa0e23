from itertools import pairwise

import pytest

from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.training.schedule import learning_rate
from raygpt.training.segments import (
    Segment,
    is_in_segment,
    segment_at,
    segments,
    tokens_trained,
    trunk_steps,
)


def recipe(metric="cooldown", rungs=("1/9", "1/3", 1), **training):
    """900 steps of 8 tokens, its rungs at 100, 300 and 900 steps unless others are given."""
    return Recipe(
        name="x",
        data={"context": 8},
        training={"tokens": 7200, "batch_tokens": 8, "learning_rate": 1, "warmup": 0} | training,
        search={"rungs": rungs, "rung_metric": metric},
    )


def test_a_trial_leaves_its_trunk_for_a_cooldown_to_each_rung():
    # The trunk has 18 steps of warmup, then half of the rest: 18 + (100 - 18) / 2 = 59.
    assert segments(recipe(warmup=0.02, hold=0.5)) == (
        Segment(0, 59, 900),
        Segment(59, 100, 100, cooldown=True, rung=0, metric="cooldown"),
        Segment(59, 159, 900),
        Segment(159, 300, 300, cooldown=True, rung=1, metric="cooldown"),
        Segment(159, 900, 900, rung=2),
    )


@pytest.mark.parametrize("metric", ["raw", "average"])
def test_without_cooldowns_the_rungs_lie_on_the_trunk(metric):
    assert segments(recipe(metric, hold=0.5)) == (
        Segment(0, 100, 900, rung=0, metric=metric),
        Segment(100, 300, 900, rung=1, metric=metric),
        Segment(300, 900, 900, rung=2),
    )


def test_a_rate_that_falls_from_the_start_shares_no_trunk():
    assert segments(recipe(hold=0)) == (
        Segment(0, 100, 100, cooldown=True, rung=0, metric="cooldown"),
        Segment(0, 300, 300, cooldown=True, rung=1, metric="cooldown"),
        Segment(0, 900, 900, rung=2),
    )


def test_a_rate_that_never_falls_needs_no_cooldown():
    plan = segments(recipe(hold=1))
    assert [(segment.start, segment.stop) for segment in plan if segment.cooldown] == [
        (100, 100),
        (300, 300),
    ]
    assert tokens_trained(recipe(hold=1), 2) == 7200


def test_a_trial_with_one_rung_is_one_segment():
    assert segments(recipe(rungs=[1])) == (Segment(0, 900, 900, rung=0),)


def test_several_metrics_share_one_plan():
    plan = segments(recipe(hold=0.5), ["raw", "average", "cooldown"])
    assert [(s.start, s.stop, s.rung, s.metric) for s in plan] == [
        (0, 50, None, "raw"),
        (50, 100, 0, "cooldown"),
        (50, 100, 0, "average"),
        (100, 100, 0, "raw"),
        (100, 150, None, "raw"),
        (150, 300, 1, "cooldown"),
        (150, 300, 1, "average"),
        (300, 300, 1, "raw"),
        (300, 900, 2, "raw"),
    ]


@pytest.mark.parametrize("warmup", [0, 0.003, 0.05, 1 / 9])
@pytest.mark.parametrize("hold", [0, 0.013, 0.5, 0.87, 1])
@pytest.mark.parametrize("rungs", [["1/9", "1/3", 1], ["1/7", "2/7", "6/7", 1], ["1/900", 1]])
def test_the_trunk_trains_every_step_of_the_whole_run_once(warmup, hold, rungs):
    """Each step has the full schedule's rate; cooldowns branch off from the trunk."""
    if warmup > 1 / 9 or (rungs[0] == "1/900" and warmup):
        warmup = 0
    made = recipe(rungs=rungs, warmup=warmup, hold=hold)

    def rate(step, budget_steps):
        return learning_rate(
            step + 0.5, budget_steps, peak=1, warmup=warmup, hold=hold, final=0, full_budget=900
        )

    plan = segments(made)
    trunk = [segment for segment in plan if not segment.cooldown]
    assert all(one.stop == other.start for one, other in pairwise(trunk))
    assert (trunk[0].start, trunk[-1].stop) == (0, 900)
    position = 0
    for segment in plan:
        assert segment.start == position
        if segment.cooldown:
            assert segment.stop == segment.budget == budget.rung_steps(made)[segment.rung]
            # Until the cooldown begins, the rung's own schedule is the full one.
            for step in range(segment.start):
                assert rate(step, segment.budget) == rate(step, 900)
            if segment.start < segment.stop:
                assert rate(segment.start, segment.budget) < 1
        else:
            position = segment.stop


@pytest.mark.parametrize(
    ("scheduler", "metric"), [("asha", "cooldown"), ("fifo", "raw"), ("hyperband", "cooldown")]
)
def test_only_trials_that_are_never_stopped_are_judged_by_the_mid_run_value(scheduler, metric):
    made = recipe(hold=0.5)
    search = made.search.model_copy(update={"scheduler": scheduler})
    plan = segments(made.model_copy(update={"search": search}))
    assert [segment.metric for segment in plan if segment.rung in (0, 1)] == [metric] * 2


def test_the_tokens_that_a_trial_has_trained_at_each_rung():
    made = recipe(warmup=0.02, hold=0.5)
    # At the first rung its budget; then 100 more steps of the trunk, and 141 of cooldown.
    assert tokens_trained(made, 0) == 8 * 100
    assert tokens_trained(made, 1) == 8 * (100 + 100 + 141)
    assert tokens_trained(made, 2) == 8 * (900 + 41 + 141)
    assert [tokens_trained(recipe("raw", hold=0.5), rung) for rung in range(3)] == [
        800,
        2400,
        7200,
    ]


def test_the_trunk_ends_before_the_first_step_below_the_peak():
    # The decay of 10 steps with a hold of 0.45 begins at 4.5, the middle of the fifth step, where
    # the rate is still the peak.
    assert trunk_steps(recipe(hold=0.45), 10) == 5
    assert trunk_steps(recipe(hold=0.44), 10) == 4


# --- the place of a saved run -------------------------------------------------------------------


def places(plan):
    """(number, step, trunk_step) of a run of the plan before each step and between segments."""
    position, number = 0, 0
    for number, segment in enumerate(plan):
        trunk_step = segment.start if segment.cooldown else None
        # When the segment before has ended, this one's snapshot is still to be taken.
        yield number, position, None
        for step in range(segment.start, segment.stop + 1):
            yield number, step, trunk_step
        position = segment.start if segment.cooldown else segment.stop
    yield number + 1, position, None


@pytest.mark.parametrize("hold", [0, 0.5, 1])
@pytest.mark.parametrize("metric", ["cooldown", "raw"])
def test_every_position_of_a_plan_is_in_it(metric, hold):
    plan = segments(recipe(metric, hold=hold))
    assert all(is_in_segment(plan, *place) for place in places(plan))


def test_a_position_in_another_plan_is_not_in_this_plan():
    with_cooldowns, without = (segments(recipe(m, hold=0.5)) for m in ("cooldown", "raw"))
    # In the cooldown 50 to 100; on the trunk 50 to 150; on the rest of it; at the end.
    for place in [(1, 70, 50), (2, 80, None), (4, 400, None), (5, 900, None)]:
        assert is_in_segment(with_cooldowns, *place)
        assert not is_in_segment(without, *place)
    assert not is_in_segment(with_cooldowns, 1, 70, None)
    assert not is_in_segment(with_cooldowns, 1, 70, 49)
    assert not is_in_segment(with_cooldowns, 6, 900, None)


def test_a_step_of_the_trunk_is_found_in_any_plan():
    without = segments(recipe("raw", hold=0.5))
    steps = (0, 99, 100, 299, 300, 899, 900)
    assert [segment_at(without, step) for step in steps] == [0, 0, 1, 1, 2, 2, 3]
    with_cooldowns = segments(recipe(hold=0.5))
    # At 50 and 150 the cooldowns begin.
    steps = (0, 49, 50, 51, 150, 151, 900)
    assert [segment_at(with_cooldowns, step) for step in steps] == [0, 0, 1, 2, 3, 4, 5]
