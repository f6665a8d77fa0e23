import statistics
import time

import pytest

from raygpt.recipe import budget
from raygpt.search.estimate import plan_search
from raygpt.training.flops import flops_per_token
from raygpt.training.segments import tokens_trained

NINTHS = "search.rungs=[1/9, 1/3, 1]"
RAW = "search.rung_metric=raw"
LONG = ("training.tokens=92160", "training.hold={uniform: [0, 0.9]}")


@pytest.fixture
def plan(make_search):
    """Plans a search with overrides of its recipe; tokens are in full budgets."""

    def plan(*overrides, at_once=2):
        search_file = make_search(*LONG, *overrides)
        full = budget.budget_tokens(search_file.baseline())
        return plan_search(search_file, at_once), full

    return plan


@pytest.mark.parametrize("trials", [1, 5, 40])
@pytest.mark.parametrize("setting", ["search.scheduler=fifo", "search.rungs=[1]"])
def test_without_stops_every_trial_takes_its_budget(plan, trials, setting):
    found, full = plan(RAW, f"search.trials={trials}", setting)
    assert found.tokens == found.largest_tokens == trials * full
    assert found.usual_tokens == (trials * full, trials * full)
    assert set(found.rung_trials) == {trials}


def test_one_trial_is_never_stopped(plan):
    found, full = plan(RAW, "search.trials=1")
    assert found.tokens == full
    assert {(load.work, load.evaluations, load.starts) for load in found.loads} == {(full, 3, 1)}


def test_seeds_of_one_recipe_are_never_stopped(plan):
    fixed = ("model.dropout=0.1", "training.learning_rate=1e-3", "training.hold=0.5")
    found, full = plan(*fixed, "search.trials=4", "search.scheduler=asha", NINTHS)
    assert found.rung_trials == (4, 4, 4)
    assert found.tokens == found.largest_tokens == 4 * full
    assert set(found.loads) == {found.largest_load}


@pytest.mark.parametrize("trials", [2, 10, 30])
@pytest.mark.parametrize("rungs", ["[1/9, 1/3, 1]", "[1/2, 1]", "[1/50, 1/3, 1]"])
def test_tokens_lie_between_all_trials_stopped_and_none(plan, trials, rungs):
    found, full = plan(RAW, f"search.trials={trials}", f"search.rungs={rungs}")
    least = full + (trials - 1) * found.rung_tokens[0]  # the first trains to the end
    assert least <= found.usual_tokens[0] <= found.tokens <= found.usual_tokens[1]
    assert found.tokens < found.largest_tokens == trials * full


def test_a_long_random_search_takes_the_tokens_that_the_factor_implies(plan):
    # One in three continues past each rung: 1/9 + 1/3 · (1/3 - 1/9) + 1/9 · (1 - 1/3) of a budget.
    settings = ("search.trials=300", "search.reduction_factor=3", "search.sampler=random", NINTHS)
    found, full = plan(RAW, *settings)
    assert found.tokens / 300 / full == pytest.approx(0.26, abs=0.04)
    assert found.rung_trials == pytest.approx((300, 100, 33), rel=0.25)


def test_more_trials_of_tpe_continue(plan):
    many, few = (
        plan(f"search.sampler={name}", "search.trials=30")[0] for name in ("tpe", "random")
    )
    assert many.tokens > 1.1 * few.tokens


def test_a_larger_factor_takes_fewer_tokens(plan):
    few, many = (plan(f"search.reduction_factor={n}", "search.trials=20")[0] for n in (2, 4))
    assert many.tokens < few.tokens


def test_cooldown_tokens_are_planned(plan, make_search):
    found, full = plan(NINTHS)
    # The part of a rung without hold is a cooldown: on average 0.55 of the rung.
    assert found.rung_tokens[0] == pytest.approx(full / 9, rel=0.01)
    assert found.rung_tokens[1] == pytest.approx(full * (1 / 3 + 0.55 / 9), rel=0.05)
    assert found.rung_tokens[2] == pytest.approx(full * (1 + 0.55 * 4 / 9), rel=0.05)
    search_file = make_search(*LONG, NINTHS)
    without_hold = search_file.recipe(search_file.start_values() | {"training.hold": 0.0})
    assert found.largest_tokens == 9 * tokens_trained(without_hold, 2)
    assert found.tokens < found.largest_tokens
    # If no trial is stopped, none has a cooldown.
    assert plan(NINTHS, "search.scheduler=fifo")[0].rung_tokens[2] == full


def test_the_first_trial_is_the_baseline(plan):
    held = plan("search.trials=1", "training.hold={uniform: [0, 0.9], start: 0.9}")[0]
    short = plan("search.trials=1", "training.hold={uniform: [0, 0.9], start: 0}")[0]
    assert held.tokens < short.tokens == short.largest_tokens == held.largest_tokens


def test_trials_side_by_side_share_the_work(plan):
    fifo = (RAW, "search.scheduler=fifo", "search.trials=9")
    for at_once, rounds in [(1, 9), (2, 5), (4, 3), (9, 1), (20, 1)]:
        found, full = plan(*fifo, at_once=at_once)
        assert {load.work for load in found.loads} == {rounds * full}
        assert found.largest_load.work == rounds * full
    limited, full = plan(*fifo, "search.concurrent=2", at_once=9)
    assert {load.work for load in limited.loads} == {5 * full}


def test_confirmation(plan):
    without, full = plan(RAW, "search.trials=20")
    confirm = "search.confirm={top: 2, seeds: 3}"
    found, _ = plan(RAW, "search.trials=20", confirm)
    assert found.confirming_runs == 9
    assert found.confirming_tokens == 9 * full
    assert found.tokens == without.tokens + 9 * full
    assert found.largest_tokens == without.largest_tokens + 9 * full
    for load, before in zip(found.loads, without.loads, strict=True):
        assert load.work == before.work + 5 * full
        assert load.evaluations == before.evaluations + 9 * 3 / 2
        assert load.starts == before.starts + 9 / 2
    # Fewer than that can be confirmed, and without ranges nothing.
    assert plan("search.trials=1", confirm)[0].confirming_runs == 3
    fixed = ("model.dropout=0.1", "training.learning_rate=1e-3", "training.hold=0.5", confirm)
    assert plan(*fixed)[0].confirming_runs == 0


def test_the_same_search_gets_the_same_plan_quickly(plan):
    started = time.process_time()
    first = plan("search.trials=32")
    assert time.process_time() - started < 3
    assert first == plan("search.trials=32")


# --- searches over the size of the model --------------------------------------------------------

SIZES = ("search.scheduler=fifo", "model.dropout=0", "training.learning_rate=1e-3")


def test_larger_models_are_more_work(plan, make_search):
    width = "model.d_model={choice: [8, 16, 128], start: 16}"
    found, full = plan(*SIZES, width, "training.hold=0", "search.trials=30", at_once=1)
    baseline, small, large = (
        flops_per_token(
            make_search(*SIZES, f"model.d_model={wide}", "training.hold=0").recipe(), 300
        )
        for wide in (16, 8, 128)
    )
    assert found.token_costs == (small / baseline, large / baseline)
    # The tokens are the same for all; the work of a trial at random is that of the mean size.
    assert found.tokens == found.largest_tokens == 30 * full
    assert found.rung_work[-1] / full == pytest.approx(
        (1 + found.token_costs[0] + found.token_costs[1]) / 3, rel=0.25
    )
    work = statistics.mean(load.work for load in found.loads)
    assert work == pytest.approx(full + 29 * found.rung_work[-1], rel=0.1)
    assert found.largest_load.work == pytest.approx(30 * full * found.token_costs[1])


def test_the_confirmation_trains_the_sizes_that_it_confirms(plan):
    settings = ("model.d_model={choice: [8, 128], start: 8}", "search.trials=9", "training.hold=0")
    without, _ = plan(*SIZES, *settings, at_once=1)
    found, _ = plan(*SIZES, *settings, "search.confirm={top: 8, seeds: 2}", at_once=1)
    for load, before in zip(found.loads, without.loads, strict=True):
        assert load.work == pytest.approx(3 * before.work)  # every trial again, twice


def test_other_ranges_do_not_change_the_cost_of_a_token(plan):
    compiled = "model.compile={choice: [true, false]}"
    assert plan(compiled)[0].token_costs == (1, 1)
