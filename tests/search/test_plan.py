import json

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
    """Six trials that all run out, evaluated at a quarter, at half and at the end."""
    return make_search("search.trials=6", "search.scheduler=fifo", "search.rung_metric=raw")


def test_without_stops_all_is_known(in_full, needed):
    made = make_plan(in_full, 2, needed, PACE)
    assert made.expected.tokens == made.largest.tokens == 6 * 8192
    # Each of two workers trains three trials, evaluates each three times and starts it.
    assert made.expected.seconds == pytest.approx(3 * (8192 / 1000 + 3 * 2 + 1))
    assert made.largest.seconds == pytest.approx(made.expected.seconds)
    assert made.expected.gpu_hours == 0


def test_workers_train_and_evaluate_together_and_all_their_gpus_are_paid(in_full):
    made = make_plan(in_full, 1, Placement(workers=4, cpus=1, gpus=0.5), PACE)
    assert made.tokens_per_second == 4000
    assert made.expected.seconds == pytest.approx(6 * (8192 / 4000 + 3 * 2 / 4 + 1))
    assert made.expected.gpu_hours == pytest.approx(2 * made.expected.seconds / 3600)


def test_the_most_is_never_less_than_what_is_expected(make_search, needed):
    search_file = make_search("search.trials=5", "search.confirm={top: 3, seeds: 3}")
    for at_once in (1, 4, 8, 64):
        made = make_plan(search_file, at_once, needed, PACE)
        assert made.expected.seconds <= made.largest.seconds


def test_stops_save_tokens_and_time(make_search, needed):
    made = make_plan(make_search(), 2, needed, PACE)
    assert made.expected.tokens < 0.8 * made.largest.tokens
    assert made.expected.seconds < made.largest.seconds


def test_more_room_than_trials_is_not_used(make_search, needed):
    assert make_plan(make_search("search.trials=3"), 8, needed, PACE).at_once == 3
    assert make_plan(make_search("search.concurrent=2"), 8, needed, PACE).at_once == 2


def test_a_plan_says_all_that_it_knows(make_search):
    made = make_plan(make_search("search.confirm={top: 2, seeds: 3}"), 2, Placement(1, 1, 1), PACE)
    text = describe_plan(made, gpu_hour_price=2.5)
    rows = {line[:14].strip(): line[14:] for line in text.splitlines() if line[:14].strip()}
    assert rows["trials"] == "9, 2 at once"
    assert rows["rung 1/4"].startswith("2,048 tokens, 2,048 trained on the way: 9.0 trials")
    assert "8,192 tokens" in rows["full budget"]
    assert "runs expected" in rows["confirmation"]
    assert f"{made.plan.tokens:,.0f} expected" in rows["tokens"]
    assert f"{made.plan.largest_tokens:,} at most" in text
    assert "at 1,000 tokens/s a trial" in rows["time"]
    assert rows["GPU-hours"].startswith(f"{made.expected.gpu_hours:.2f} expected")
    assert rows["cost"].startswith(f"{made.expected.gpu_hours * 2.5:,.2f} expected")


def test_without_gpus_nothing_is_said_to_cost_nothing(make_search, needed):
    text = describe_plan(make_plan(make_search(), 2, needed, PACE), gpu_hour_price=2.5)
    assert text.splitlines()[-1] == "cost          not known, as no trial holds a GPU"


def test_a_plan_without_a_measurement_says_what_to_do(make_search, needed):
    made = make_plan(make_search(), 2, needed, None)
    assert made.expected == Spending(made.plan.tokens, None, None)
    text = describe_plan(made, None)
    assert "give --tokens-per-second" in text
    assert "GPU-hours" not in text


def test_what_was_spent_stands_beside_the_plan(in_full, needed, tables, begin, report):
    made = make_plan(in_full, 2, needed, PACE)
    save_plan(tables.folder, made)
    assert load_plan(tables.folder) == made.expected
    for number in range(5):
        begin(f"{number:04}")
        tables.add_report(f"{number:04}", report(rung=2))
    text = describe_spending(load_results(tables.folder), made, made.expected.seconds * 1.1, None)
    planned = made.expected.seconds / 60
    minutes = f"{planned * 1.1:.1f} minutes (plan {planned:.1f}, +10%)"
    assert text == f"40,960 tokens (plan 49,152, -17%), {minutes}"
    # Of a run that was interrupted nobody knows how long it took, and one may be without a plan.
    (tables.folder / files.PLAN).unlink()
    assert describe_spending(load_results(tables.folder), made, None, 2.5) == "40,960 tokens"


def test_a_plan_follows_the_search_that_goes_on(make_search, needed, tables):
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
