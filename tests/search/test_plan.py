import json
from dataclasses import replace

import pytest

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.tables import load_results
from raygpt.search.cluster import Placement
from raygpt.search.plan import (
    Spending,
    describe_plan,
    describe_spending,
    load_plan,
    make_plan,
    save_plan,
)
from raygpt.training.probe import Pace

PACE = Pace(tokens_per_second=1000.0, evaluation_seconds=2.0)


@pytest.fixture
def in_full(make_search):
    """Six trials with their full budget, evaluated at a quarter, at half and at the end."""
    return make_search("search.trials=6", "search.scheduler=fifo", "search.rung_metric=raw")


def test_without_stops_the_mean_is_exact(in_full, needed):
    made = make_plan(in_full, 2, needed, PACE)
    assert made.expected.tokens == made.largest.tokens == 6 * 8192
    # Each of two workers trains three trials, evaluates each three times and starts it.
    assert made.expected.seconds == pytest.approx(3 * (8192 / 1000 + 3 * 2 + 1))
    assert made.largest.seconds == pytest.approx(made.expected.seconds)
    assert made.expected.gpu_hours == 0


def test_workers_share_training_and_evaluation_and_all_their_gpus_count(in_full):
    made = make_plan(in_full, 1, Placement(workers=4, cpus=1, gpus=0.5), PACE)
    assert made.tokens_per_second == 4000
    assert made.expected.seconds == pytest.approx(6 * (8192 / 4000 + 3 * 2 / 4 + 1))
    assert made.expected.gpu_hours == pytest.approx(2 * made.expected.seconds / 3600)


def test_the_largest_time_is_never_less_than_the_mean(make_search, needed):
    search_file = make_search("search.trials=5", "search.confirm={top: 3, seeds: 3}")
    for at_once in (1, 4, 8, 64):
        made = make_plan(search_file, at_once, needed, PACE)
        assert made.expected.seconds <= made.largest.seconds


def test_stops_save_tokens_and_time(make_search, needed):
    made = make_plan(make_search(), 2, needed, PACE)
    assert made.expected.tokens < 0.8 * made.largest.tokens
    assert made.expected.seconds < made.largest.seconds


def test_trials_limit_how_many_run_side_by_side(make_search, needed):
    assert make_plan(make_search("search.trials=3"), 8, needed, PACE).at_once == 3
    assert make_plan(make_search("search.concurrent=2"), 8, needed, PACE).at_once == 2


def test_a_plan_in_words(make_search):
    made = make_plan(make_search("search.confirm={top: 2, seeds: 3}"), 2, Placement(1, 1, 1), PACE)
    text = describe_plan(made, gpu_hour_price=2.5)
    rows = {line[:14].strip(): line[14:] for line in text.splitlines() if line[:14].strip()}
    assert rows["trials"] == "9, 2 at once"
    assert rows["rung 1/4"] == "2,048 tokens: 9.0 of 9 trials expected"
    assert rows["full budget"].startswith("8,192 tokens (")
    assert f"({made.plan.rung_tokens[2]:,.0f} trained, with cooldowns)" in rows["full budget"]
    assert "model sizes" not in rows
    assert "runs expected" in rows["confirmation"]
    low, high = made.plan.usual_tokens
    assert rows["tokens"].startswith(f"{low:,.0f} to {high:,.0f} in 8 of 10 searches, ")
    assert rows["tokens"].endswith(f"{made.plan.tokens:,.0f} on average")
    assert f"{made.plan.largest_tokens:,} if no trial is stopped" in text
    low, high = made.expected.usual_seconds
    assert rows["time"].startswith(f"{low / 60:.1f} to {high / 60:.1f} minutes, ")
    assert rows["time"].endswith(f"{made.expected.seconds / 60:.1f} minutes on average")
    assert "at 1,000 tokens/s in a trial of the baseline" in text
    assert rows["GPU-hours"].startswith(f"{made.expected.gpu_hours:.2f} expected")
    assert rows["cost"].startswith(f"{made.expected.gpu_hours * 2.5:,.2f} expected")


def test_without_gpus_the_cost_is_unknown(make_search, needed):
    text = describe_plan(make_plan(make_search(), 2, needed, PACE), gpu_hour_price=2.5)
    assert text.splitlines()[-1] == "cost          not known, as no trial holds a GPU"


def test_a_plan_without_a_measurement_says_what_to_do(make_search, needed):
    made = make_plan(make_search(), 2, needed, None)
    assert made.expected == Spending(made.plan.tokens, None, None)
    text = describe_plan(made, None)
    assert "give --tokens-per-second" in text
    assert "GPU-hours" not in text


def test_the_summary_compares_spending_with_the_plan(in_full, needed, tables, begin, report):
    made = make_plan(in_full, 2, needed, PACE)
    save_plan(tables.folder, made)
    assert load_plan(tables.folder) == made.expected
    for number in range(5):
        begin(f"{number:04}")
        tables.add_report(f"{number:04}", report(rung=2))
    text = describe_spending(load_results(tables.folder), made, made.expected.seconds * 1.1, None)
    planned = made.expected.seconds / 60
    low, high = (seconds / 60 for seconds in made.expected.usual_seconds)
    usually = f"usually {low:.1f} to {high:.1f}"
    minutes = f"{planned * 1.1:.1f} minutes (plan {planned:.1f}, {usually}, +10%)"
    assert text == f"40,960 tokens (plan 49,152, -17%), {minutes}"
    # Without a plan, and with a time that is not known because the run was interrupted.
    (tables.folder / files.PLAN).unlink()
    assert describe_spending(load_results(tables.folder), made, None, 2.5) == "40,960 tokens"


def test_the_plan_of_a_resumed_search_is_kept_until_its_tokens_change(make_search, needed, tables):
    made = make_plan(make_search(), 2, needed, PACE)
    save_plan(tables.folder, made)
    # Resumed: nothing is measured, and nothing has changed.
    save_plan(tables.folder, make_plan(make_search(), 2, needed, None))
    assert load_plan(tables.folder) == made.expected
    longer = make_plan(make_search("search.confirm={top: 2, seeds: 3}"), 2, needed, None)
    assert longer.expected.tokens > made.expected.tokens
    save_plan(tables.folder, longer)
    assert load_plan(tables.folder) == Spending(longer.expected.tokens, None, None)


def test_gpu_hours_and_their_cost_are_spent_too(in_full, tables):
    made = make_plan(in_full, 2, Placement(1, 1, 1), PACE)
    text = describe_spending(load_results(tables.folder), made, 1800, gpu_hour_price=3)
    assert text == "0 tokens, 30.0 minutes, 1.00 GPU-hours, a cost of 3.00"


def test_a_broken_plan_is_named(tables):
    (tables.folder / files.PLAN).write_text(json.dumps({"tokens": 1, "hours": 2}))
    with pytest.raises(UserError, match=r"plan\.json cannot be read"):
        load_plan(tables.folder)


# --- the range of the time ----------------------------------------------------------------------


def test_the_time_has_the_range_of_the_pace_where_nothing_else_varies(in_full, needed):
    """Six trials that all run their full budget take as long in every simulated search."""
    seconds = 3 * (8192 / 1000 + 3 * 2)
    low, high = make_plan(in_full, 2, needed, PACE).expected.usual_seconds
    assert (low, high) == pytest.approx((seconds / 1.15 + 3, seconds * 1.15 + 3))
    # If the speed varied more during the measurement, the range is wider.
    busy = replace(PACE, blocks=(600.0, 1100.0, 1300.0))
    low, high = make_plan(in_full, 2, needed, busy).expected.usual_seconds
    assert (low, high) == pytest.approx((seconds / 1.3 + 3, seconds / 0.6 + 3))


def test_the_range_grows_with_the_differences_between_searches(make_search, needed):
    def width(*overrides):
        plan = make_plan(make_search(*overrides), 2, needed, PACE)
        low, high = plan.expected.usual_seconds
        assert low < plan.expected.seconds < high < plan.largest.seconds * 1.2
        return high / low

    assert width() > width("search.scheduler=fifo")


def test_a_plan_keeps_its_range_on_disk_and_older_ones_have_none(in_full, needed, tables):
    made = make_plan(in_full, 2, needed, PACE)
    save_plan(tables.folder, made)
    assert load_plan(tables.folder).usual_seconds == made.expected.usual_seconds
    path = tables.folder / files.PLAN
    path.write_text(json.dumps({"tokens": 49152.0, "seconds": 50.0, "gpu_hours": 0.0}))
    assert load_plan(tables.folder) == Spending(49152.0, 50.0, 0.0)
    text = describe_spending(load_results(tables.folder), made, 60.0, None)
    assert text == "0 tokens (plan 49,152, -100%), 1.0 minutes (plan 0.8, +20%)"


# --- what is searched ---------------------------------------------------------------------------


def test_seeds_of_one_recipe_are_planned_to_run_their_full_budget(without_ranges, needed):
    text = describe_plan(make_plan(without_ranges, 2, needed, PACE), None)
    assert "full budget   8,192 tokens; no trial is stopped" in text.splitlines()
    assert "tokens        73,728" in text.splitlines()
    assert "rung" not in text
    assert "if no trial is stopped" not in text


def test_a_search_over_the_size_says_that_larger_models_cost_more(make_search, needed):
    width = "model.d_model={choice: [16, 64]}"
    made = make_plan(make_search(width, "search.scheduler=fifo"), 2, needed, PACE)
    low, high = made.plan.token_costs
    assert low == 1 < high
    text = describe_plan(made, None)
    assert f"model sizes   1 to {high:.2g} times the baseline's operations" in text
    assert f"model takes {high:.1f} times the operations of the smallest, and about" in text
    assert f"about {high:.1f} times the time" in text
    # If the largest model was measured, its time is known to grow less than its operations.
    measured = make_plan(made.search_file, 2, needed, replace(PACE, fixed_share=0.5))
    assert measured.plan.operations == (low, high)
    assert measured.plan.token_costs == (1, pytest.approx((1 + high) / 2))
    assert measured.expected.seconds < made.expected.seconds
    assert f"about {(1 + high) / 2:.1f} times the time" in describe_plan(measured, None)
    # The time of a search over sizes is not that of the baseline.
    only_baseline = make_plan(
        make_search("model.d_model=16", "search.scheduler=fifo"), 2, needed, PACE
    )
    assert made.expected.tokens == only_baseline.expected.tokens
    assert made.expected.seconds > 1.2 * only_baseline.expected.seconds
    assert made.largest.seconds > made.expected.seconds
