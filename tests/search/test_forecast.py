import pytest

from raygpt.results.tables import RunTables
from raygpt.search.forecast import Forecast, expected_work, passing_shares
from raygpt.search.plan import make_plan
from raygpt.training.probe import Pace

FULL = 8192
SECONDS = FULL / 1024
"""Time of a whole trial, as in the reports of the fixture `report`."""
PACE = Pace(tokens_per_second=512.0, evaluation_seconds=0.0)
FIFO = "search.scheduler=fifo"


@pytest.fixture
def forecast(tables, make_search, needed):
    """Forecasts a search with overrides of its recipe; by default its trials are not stopped."""

    def forecast(*overrides, at_once=1, pace=PACE, tables=tables):
        search_file = make_search(*(overrides or [FIFO]))
        return Forecast(tables, make_plan(search_file, at_once, needed, pace))

    return forecast


@pytest.fixture
def run_trial(tables, begin, report):
    """Runs a trial up to a rung, in the view of a forecast too; ends it if there is a status."""

    def run(found, trial_id, rung, status=None, began=0.0, heard=10.0, **what):
        begin(trial_id, **what)
        found.began(trial_id, began)
        tables.add_report(trial_id, report(rung))
        found.reported(trial_id, heard)
        if status:
            tables.end_trial(trial_id, status)

    return run


# --- seconds ------------------------------------------------------------------------------------


def test_before_any_report_the_forecast_is_the_plan(forecast):
    assert forecast(FIFO, pace=None).seconds_left() is None
    found = forecast("search.trials=6", FIFO)
    # At half the speed of the reports, and a second to start each trial.
    assert found.seconds_left() == pytest.approx(6 * (FULL / 512 + 1))


def test_the_plan_is_corrected_by_the_trials_that_ran(forecast, run_trial):
    found = forecast("search.trials=6", FIFO)
    run_trial(found, "0000", 2, "completed", heard=SECONDS + 3)
    # Five trials are left, at the measured speed, and each takes 3 seconds to start.
    assert found.seconds_left() == pytest.approx(5 * (SECONDS + 3))


def test_trials_run_side_by_side_and_the_longest_sets_the_end(forecast, run_trial):
    found = forecast("search.trials=8", FIFO, at_once=4)
    run_trial(found, "0000", 2, "completed", heard=SECONDS)
    assert found.seconds_left() == pytest.approx(7 / 4 * SECONDS)
    last = forecast("search.trials=2", FIFO, at_once=4)
    assert last.seconds_left() == pytest.approx(FULL / 512 + 1 / 2)


def test_tokens_of_an_earlier_process_do_not_count_as_speed(
    tables, begin, report, forecast, run_trial
):
    run_trial(forecast(), "0000", 0)  # killed here
    found = forecast("search.trials=1", FIFO)
    begin("0000")
    found.began("0000", 100.0)
    assert found.seconds_left() == pytest.approx((FULL - 2048) / 512)
    tables.add_report("0000", report(0))
    found.reported("0000", 101.0)
    assert found.seconds_left() == pytest.approx((FULL - 2048) / 512)
    tables.add_report("0000", report(1) | {"seconds": 2 + 6.0})  # 2,048 tokens in 6 seconds
    found.reported("0000", 107.0)
    assert found.seconds_left() == pytest.approx((FULL - 4096) * 6 / 2048)


def test_a_search_over_the_size_counts_operations(tmp_path, make_search, needed, report):
    width = "model.d_model={choice: [16, 128], start: 16}"
    search_file = make_search(FIFO, width, "search.trials=3", "model.dropout=0")
    tables = RunTables(tmp_path, search_file.ranges)
    plan = make_plan(search_file, 1, needed, PACE)
    found, (_, cost) = Forecast(tables, plan), plan.plan.token_costs
    for trial_id, wide in (("0000", 16), ("0001", 128)):
        values = {"model.d_model": wide, "training.learning_rate": 1e-3}
        tables.begin_trial(trial_id, 5, values)
        found.began(trial_id, 0.0)
    tables.add_report("0000", report(2))
    found.reported("0000", SECONDS)
    tables.end_trial("0000", "completed")
    # The large model takes longer in proportion to its operations; the third size is unknown.
    unknown = plan.plan.rung_work[-1] / FULL
    assert found.seconds_left() == pytest.approx((cost + unknown) * SECONDS)


def test_a_confirmation_follows_the_search(forecast, run_trial):
    confirm = "search.confirm={top: 3, seeds: 2}"
    found = forecast("search.trials=2", confirm, FIFO)
    run_trial(found, "0000", 2, "completed", heard=SECONDS, baseline=True)
    # Until the search has ended, the runs of as many configurations as are asked for.
    assert found.seconds_left() == pytest.approx((1 + 8) * SECONDS)
    run_trial(found, "0001", 2, "completed", heard=SECONDS, dropout=0.2)
    assert found.seconds_left() == pytest.approx(4 * SECONDS)
    run_trial(found, "0000-1", 0, heard=SECONDS / 4, confirms="0000")
    assert found.seconds_left() == pytest.approx(3.75 * SECONDS)
    found._tables.end_trial("0000-1", "diverged")
    assert found.seconds_left() == pytest.approx(3 * SECONDS)


def test_the_confirmation_waits_for_the_last_trial(forecast):
    found = forecast("search.trials=3", "search.confirm={top: 1, seeds: 2}", FIFO, at_once=2)
    # Three trials on two places, and then, without a baseline so far, two runs.
    assert found.seconds_left() == pytest.approx((1.5 + 1) * FULL / 512 + (3 + 2) / 2)


# --- work ---------------------------------------------------------------------------------------


def test_a_trial_is_expected_to_reach_its_next_rung_and_perhaps_others():
    rungs, passing = (10.0, 30.0, 100.0), [0.5, 0.25]
    assert expected_work(rungs, passing, 0.0, None) == 10 + 0.5 * 20 + 0.125 * 70
    assert expected_work(rungs, passing, 4.0, None) == 6 + 0.5 * 20 + 0.125 * 70
    assert expected_work(rungs, passing, 10.0, 0) == 20 + 0.25 * 70
    assert expected_work(rungs, passing, 90.0, 1) == 10
    assert expected_work(rungs, passing, 100.0, 2) == 0


def test_the_share_that_continues_is_the_planned_one_until_trials_are_judged():
    planned = (16.0, 8.0, 2.0)
    assert passing_shares(planned, []) == [0.5, 0.25]
    # Of four judged at the lowest rung all continued, and one of two beyond the next.
    rows = [
        {"rung": 2, "status": "completed"},
        {"rung": 1, "status": "stopped"},
        {"rung": 0, "status": "running"},
        {"rung": 0, "status": "running"},
        {"status": "running"},
        {"status": "failed"},
    ]
    assert passing_shares(planned, rows) == [(4 + 4 * 0.5) / 8, (1 + 4 * 0.25) / 6]


def test_fewer_stops_than_planned_lengthen_the_forecast(forecast, run_trial, tables):
    found = forecast("search.trials=30", "search.rung_metric=raw")
    run_trial(found, "0000", 2, "completed", heard=SECONDS)
    before = found.seconds_left()
    assert before < 29 * SECONDS
    for number in range(1, 8):
        run_trial(found, f"{number:04}", 2, "completed", heard=SECONDS)
    assert found.seconds_left() / 22 > 1.2 * before / 29
