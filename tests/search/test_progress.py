import re
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from raygpt.results.tables import RunTables
from raygpt.search.forecast import Forecast
from raygpt.search.plan import make_plan
from raygpt.search.progress import Progress, describe_values
from raygpt.training.probe import Pace


@pytest.fixture
def clock(monkeypatch):
    """The clock of the progress; tests set `clock.now`."""
    clock = SimpleNamespace(now=0.0)
    ticking = SimpleNamespace(monotonic=lambda: clock.now)
    monkeypatch.setattr("raygpt.search.progress.time", ticking)
    return clock


@pytest.fixture
def forecast(needed):
    """Forecasts a search of trials side by side, without a measured pace."""

    def forecast(tables, search_file, at_once=1, pace=None):
        return Forecast(tables, make_plan(search_file, at_once, needed, pace))

    return forecast


@pytest.fixture
def view(clock, make_search, forecast):
    """The last state of the live view, as lines."""

    def view(tables, width=100, trials=9, seconds=0.0, before=lambda progress: None):
        file = StringIO()
        console = Console(file=file, force_terminal=True, width=width, height=30)
        search_file = make_search(f"search.trials={trials}")
        progress = Progress(tables, search_file, console, forecast(tables, search_file))
        before(progress)
        clock.now += seconds
        with progress:
            file.truncate(0)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", file.getvalue()).strip("\0").splitlines()

    return view


# --- plain lines --------------------------------------------------------------------------------


def test_every_event_is_a_line(progress, clock, plain, tables, begin, report, search_file):
    progress = Progress(tables, search_file, plain)
    with progress:
        begin("0000")
        progress.began("0000")
        clock.now = 29.0
        tables.add_report("0000", report(0, 3.0))
        progress.reported("0000")
        clock.now = 3661.4
        tables.add_report("0000", report(2, 2.125))
        tables.end_trial("0000", "completed")
        progress.ended("0000")
        begin("0001", dropout=0.05, learning_rate=0.0123456)
        progress.began("0001")
        tables.end_trial("0001", "failed", "[bold]no[/] room")
        progress.ended("0001")
    assert plain.file.getvalue().splitlines() == [
        "0:00:00 trial 0000 started  dropout=0.1 learning_rate=0.001",
        "1:01:01 trial 0000 completed at 8,192 tokens: 2.1250 bits per byte",
        "1:01:01 trial 0001 started  dropout=0.05 learning_rate=0.0123456",
        "1:01:01 trial 0001 failed: [bold]no[/] room",
    ]


def test_a_summary_now_and_then(clock, plain, tables, begin, report, make_search, forecast):
    search_file = make_search("search.scheduler=fifo")
    progress = Progress(tables, search_file, plain, forecast(tables, search_file))
    begin("0000")
    progress.began("0000")
    clock.now = 10.0
    tables.add_report("0000", report(2))  # 8 seconds for 8,192 tokens
    progress.reported("0000")
    tables.end_trial("0000", "completed")
    begin("0001")
    progress.began("0001")
    for now in (31, 40, 60, 64):
        clock.now = float(now)
        progress.reported("0001")
    # Eight trials of 8 s, of which seven take 2 s to start.
    assert plain.file.getvalue().splitlines()[2:] == [
        "0:00:31 1 running, 1 completed, 7 to come; 264 tokens/s, 0:00:31 elapsed, "
        "about 0:01:18 left",
        "0:01:04 1 running, 1 completed, 7 to come; 128 tokens/s, 0:01:04 elapsed, "
        "about 0:01:18 left",
    ]


def test_the_pace_leaves_out_earlier_sessions(clock, plain, tables, begin, report, view):
    begin("0000")
    tables.add_report("0000", report(2))
    tables.end_trial("0000", "completed")
    assert "tokens/s" not in "".join(view(tables, seconds=10))

    def another(progress):
        begin("0001")
        tables.add_report("0001", report(0))

    assert "pace    205 tokens/s, 0:00:10 elapsed" in view(tables, seconds=10, before=another)[1]


def test_runs_that_confirm_are_counted_separately(
    clock, plain, tables, begin, report, make_search, forecast
):
    search_file = make_search("search.trials=2", "search.confirm={top: 2, seeds: 2}")
    pace = Pace(tokens_per_second=1024.0, evaluation_seconds=0.0)
    progress = Progress(tables, search_file, plain, forecast(tables, search_file, 2, pace))
    for number in range(2):
        begin(f"{number:04}", dropout=number / 10)
        tables.add_report(f"{number:04}", report(2))
        tables.end_trial(f"{number:04}", "completed")
    progress.confirming(4)
    begin("0001-1", confirms="0001", seed=9)
    progress.began("0001-1")
    clock.now = 31.0
    progress.reported("0001-1")
    assert plain.file.getvalue().splitlines() == [
        "0:00:00 the search has ended; 4 runs to confirm its best trials follow",
        "0:00:00 trial 0001-1 started  seed=9 dropout=0.1 learning_rate=0.001",
        "0:00:31 2 completed, 0 to come; confirming: 1 running, 3 to come; "
        "529 tokens/s, 0:00:31 elapsed, about 0:00:18 left",
    ]


# --- the live view ------------------------------------------------------------------------------


def test_before_the_first_trial(view, tables):
    lines = view(tables, seconds=5)
    assert lines[0].rstrip() == "trials  9 to come"
    assert lines[1].rstrip() == "pace    0:00:05 elapsed"
    assert "best" not in "".join(lines)


@pytest.fixture
def underway(tables, begin, report):
    """A search of every status."""

    def make(progress):
        for number, (status, rung, bits) in enumerate(
            [("completed", 2, 1.75), ("stopped", 0, 3.0), ("diverged", 0, 9.0), ("failed", 1, 2.0)]
        ):
            begin(f"{number:04}", learning_rate=0.0123)
            tables.add_report(f"{number:04}", report(rung, bits))
            tables.end_trial(f"{number:04}", status)
        begin("0004")
        tables.add_report("0004", report(1, 2.5))
        begin("0005", learning_rate=0.05)

    return make


def test_counts_pace_best_and_running_trials(view, tables, underway):
    lines = [line.rstrip() for line in view(tables, seconds=2, before=underway)]
    assert lines[0] == (
        "trials  2 running, 1 completed, 1 stopped, 1 failed, 1 diverged, 3 to come"
    )
    assert lines[1] == "pace    10,240 tokens/s, 0:00:02 elapsed"
    assert lines[2] == (
        "best    1.7500 bits per byte at 8,192 tokens: trial 0000  dropout=0.1 learning_rate=0.0123"
    )
    assert lines[3].split() == ["trial", "budget", "bits", "per", "byte", "values"]
    assert lines[4].split() == ["0004", "50%", "2.5000", "dropout=0.1", "learning_rate=0.001"]
    assert lines[5].split() == ["0005", "0%", "dropout=0.1", "learning_rate=0.05"]
    assert len(lines) == 6


def test_a_narrow_terminal_shows_everything_on_more_lines(view, tables, underway):
    lines = view(tables, width=60, seconds=2, before=underway)
    assert max(map(len, lines)) <= 60
    text = " ".join(" ".join(lines).split())
    for part in ("3 to come", "tokens/s", "trial 0000 dropout=0.1 learning_rate=0.0123", "2.5000"):
        assert part in text


def test_only_some_of_many_running_trials_are_shown(view, tables, begin, report):
    for number in range(40):
        begin(f"{number:04}")
        if number < 20:
            tables.add_report(f"{number:04}", report(2, 2.0))
            tables.end_trial(f"{number:04}", "completed")
    lines = [line.rstrip() for line in view(tables, trials=500)]
    assert lines[0] == "trials  20 running, 20 completed, 460 to come"
    shown = [line.split()[0] for line in lines[4:]]
    assert shown == [*(f"{number:04}" for number in range(20, 28)), "…"]
    assert "12 more" in lines[-1]


def test_no_part_of_the_view_goes_to_a_pipe(clock, plain, tables, search_file):
    with Progress(tables, search_file, plain):
        pass
    assert plain.file.getvalue() == ""


# --- figures ------------------------------------------------------------------------------------


def test_values_on_one_line(tmp_path):
    trial = {"seed": 7, "model.d_model": 1024, "model.compile": True, "data.tokenizer": "gpt2"}
    searched = ["model.d_model", "model.compile", "data.tokenizer"]
    assert describe_values(trial, searched) == "d_model=1024 compile=True tokenizer=gpt2"
    assert describe_values(trial, []) == "seed=7"
    assert RunTables(tmp_path, []).trials == []
