import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest

from raygpt.errors import UserError
from raygpt.leaderboard import main
from raygpt.results.run_folder import hold_run
from raygpt.results.tables import RunTables


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one run, of three trials."""
    folder = tmp_path_factory.mktemp("runs")
    run = folder / "lr_sched"
    run.mkdir()
    tables = RunTables(run, ["training.weight_decay"])
    for number, (weight_decay, bits) in enumerate([(0.1, 1.5), (0.3, 1.25), (0.2, 1.75)]):
        trial_id = f"{number:04}"
        tables.begin_trial(trial_id, 0, {"training.weight_decay": weight_decay})
        figures = {"tokens": 2000, "tokens_trained": 2000, "seconds": 1.0, "rung": 0}
        figures |= {"bits_per_byte": bits, "bits_per_token": 4.0, "next_token_accuracy": 0.25}
        tables.add_report(trial_id, figures)
        tables.end_trial(trial_id, "completed")
    return folder


def printed(capsys, *arguments):
    main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_best_first(runs, capsys):
    assert printed(capsys, runs / "lr_sched").splitlines() == [
        "trial  status     bits per byte  tokens  weight decay",
        "0001   completed         1.2500   2,000           0.3",
        "0000   completed         1.5000   2,000           0.1",
        "0002   completed         1.7500   2,000           0.2",
    ]


def test_top_sort_and_format(runs, capsys):
    options = ("--top", 2, "--sort", "weight_decay", "--format", "json")
    rows = json.loads(printed(capsys, runs / "lr_sched", *options))
    assert [row["trial_id"] for row in rows] == ["0000", "0002"]
    text = printed(capsys, runs / "lr_sched", "--sort=-weight_decay", "--format", "csv")
    assert [line[:4] for line in text.splitlines()] == ["tria", "0001", "0002", "0000"]
    text = printed(capsys, runs / "lr_sched", "--format", "markdown", "--top", 1)
    assert text.splitlines()[-1] == "| 0001 | completed | 1.2500 | 2,000 | 0.3 |"


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "raygpt.leaderboard", *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_not_a_run_folder_lists_the_runs_in_it(runs):
    done = command(runs)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {runs}: not a run folder (no trials.parquet in it); run folders in it: "
        f"{runs}/lr_sched\n"
    )


def test_an_unknown_column(runs):
    done = command(runs / "lr_sched", "--sort", "weight_dcay")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --sort weight_dcay: there is no such column")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("top", ["0", "-1", "x"])
def test_an_invalid_top_is_refused(runs, top, capsys):
    with pytest.raises(SystemExit) as error:
        main([str(runs / "lr_sched"), f"--top={top}"])
    assert error.value.code == 2
    assert "--top" in capsys.readouterr().err


def test_a_closed_pipe_is_not_an_error(runs):
    child = subprocess.Popen(
        [sys.executable, "-m", "raygpt.leaderboard", str(runs / "lr_sched")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 141


# --- several runs -------------------------------------------------------------------------------


@pytest.fixture
def run_of(tmp_path):
    """Makes a run of completed trials, whose bits per byte are given, on some validation set."""

    def make(name, validation_set, searched, *scores, folder=tmp_path, tokens=2000, **others):
        run = folder / name
        run.mkdir(parents=True)
        text = {"context": 64, "scored_tokens": 300, "scored_bytes": 900}
        data = validation_set and {"data": "d", "validation_set": validation_set} | text | others
        tables = RunTables(run, [searched], data)
        for number, bits in enumerate(scores):
            tables.begin_trial(f"{number:04}", 0, {searched: 0.25}, baseline=number == 0)
            figures = {"tokens": tokens, "tokens_trained": tokens, "seconds": 1.0, "rung": 0}
            figures |= {"bits_per_byte": bits, "bits_per_token": 4.0, "next_token_accuracy": 0.25}
            tables.add_report(f"{number:04}", figures)
            tables.end_trial(f"{number:04}", "completed")
        return run

    return make


def test_several_runs_stand_in_one_order(run_of, capsys):
    runs = run_of("a", "v", "model.dropout", 1.5, 1.25), run_of("b", "v", "training.hold", 1.375)
    assert printed(capsys, *runs).splitlines() == [
        "run  trial  status     bits per byte      gain  tokens  dropout  hold",
        "a    0001   completed         1.2500   +0.2500   2,000     0.25",
        "b    0000   completed         1.3750  baseline   2,000           0.25",
        "a    0000   completed         1.5000  baseline   2,000     0.25",
    ]


def test_runs_with_the_same_name_are_shown_by_path(run_of, tmp_path, capsys):
    run = run_of("a", "v", "x.y", 1.5)
    other = run_of("a", "v", "x.y", 1.25, folder=tmp_path / "other")
    rows = json.loads(printed(capsys, run, other, "--format", "json"))
    assert [row["run"] for row in rows] == [str(other), str(run)]


@pytest.mark.parametrize("known", ["w", None])
def test_different_validation_sets_are_not_compared_unless_forced(run_of, known, capsys):
    runs = run_of("a", "v", "x.y", 1.5), run_of("b", known, "x.y", 1.25)
    with pytest.raises(UserError, match=f"a: v; b: {known or 'not known'}.*--force"):
        main(list(map(str, runs)))
    rows = json.loads(printed(capsys, *runs, "--force", "--format", "json"))
    assert [row["run"] for row in rows] == ["b", "a"]
    note = printed(capsys, *runs, "--force").partition("\n\n")[2]
    assert note.startswith("Bits per byte of these runs do not compare: validation_set (a: v; b:")
    assert len(printed(capsys, runs[1]).splitlines()) == 2


@pytest.mark.parametrize("style", ["table", "markdown"])
def test_runs_of_different_budgets_are_listed_with_a_line_that_says_so(run_of, style, capsys):
    small, large = run_of("a", "v", "x.y", 1.25), run_of("b", "v", "x.y", 1.5, tokens=4000)
    text = printed(capsys, small, large, "--format", style)
    table, note = text.split("\n\n")
    assert [line.strip("| ")[0] for line in table.splitlines()[-2:]] == ["b", "a"]
    assert "budgets (training.tokens: a 2,000, b 4,000)" in note
    assert "budgets" not in printed(capsys, small, run_of("c", "v", "x.y", 1.5))


# --- which rows, and whether they change --------------------------------------------------------


def test_conditions(runs, capsys):
    options = ("--where", "weight_decay >= 0.2", "--where", "bits_per_byte<1.5", "--format", "json")
    rows = json.loads(printed(capsys, runs / "lr_sched", *options))
    assert [row["trial_id"] for row in rows] == ["0001"]


def test_an_invalid_condition(runs):
    done = command(runs / "lr_sched", "--where", "weight_decay < often")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: --where 'weight_decay < often': training.weight_decay is a number, and often is "
        "not; write it like 0.1, 2e-4 or 300M\n"
    )


def test_a_condition_without_matches_shows_existing_values(runs):
    wanted = ("status = complete", "bits_per_byte < 1.5", "error = x")
    options = [part for condition in wanted for part in ("--where", condition)]
    done = command(runs / "lr_sched", *options, "--format", "json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert done.stderr == (
        "No trial meets --where 'status = complete' --where 'bits_per_byte < 1.5' --where "
        "'error = x': status is completed; bits_per_byte is 1.25 to 1.75; error is missing\n"
    )


def test_watch_shows_only_tables(runs, capsys):
    with pytest.raises(SystemExit) as error:
        main([str(runs / "lr_sched"), "--watch", "--format", "json"])
    assert error.value.code == 2
    assert "--watch shows a table" in capsys.readouterr().err


def test_watching_a_finished_run_shows_it_and_ends(runs, capsys):
    _, counts, empty, *table = printed(capsys, runs / "lr_sched", "--watch").splitlines()
    assert (counts, empty) == ("3 completed", "")
    assert table == printed(capsys, runs / "lr_sched").splitlines()


def watching(run):
    """A watch of a run, begun in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "raygpt.leaderboard", str(run), "--watch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def read_until(child, words):
    """The output up to a line that has these words."""
    lines = []
    while not lines or words not in lines[-1]:
        lines.append(child.stdout.readline())
        assert lines[-1], f"it ended: {lines} {child.stderr.read()}"
    return lines


def test_a_watch_sees_changes_and_the_end(run_of):
    run = run_of("a", "v", "x.y", 1.5)
    with hold_run(run):
        child = watching(run)
        read_until(child, "1 completed")
        read_until(child, "0000")
        tables = RunTables(run, ["x.y"])
        tables.begin_trial("0001", 0, {"x.y": 0.5})
        read_until(child, "1 running")
        read_until(child, "0001   running")
        assert child.poll() is None
    out, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (0, "")
    assert "0001" not in out  # nothing has changed since


def test_ctrl_c_ends_a_watch_without_a_traceback(run_of):
    run = run_of("a", "v", "x.y", 1.5)
    with hold_run(run):
        child = watching(run)
        read_until(child, "0000")
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors) == (130, "interrupted\n")


def test_in_a_terminal_trials_are_links_to_their_folders(run_of):
    run = run_of("a", "v", "x.y", 1.5, 1.25)
    folder = run / "trials/0001"
    folder.mkdir(parents=True)
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "raygpt.leaderboard", str(run)],
        stdout=theirs,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"},
    )
    os.close(theirs)
    written = b""
    # At the end Linux raises an error.
    with contextlib.suppress(OSError):
        while more := os.read(ours, 65536):
            written += more
    os.close(ours)
    assert child.wait() == 0
    link = rb"\x1b\]8;id=\d+;" + re.escape(folder.as_uri().encode()) + rb"\x1b\\0001\x1b\]8;;\x1b"
    assert re.search(link, written)
    plain = re.sub(rb"\x1b\]8;[^\x1b]*\x1b\\|\x1b\[[\d;]*m", b"", written).decode()
    assert plain.splitlines() == command(run).stdout.splitlines()
