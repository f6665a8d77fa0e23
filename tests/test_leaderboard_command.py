import json
import subprocess
import sys

import pytest

from raygpt.errors import UserError
from raygpt.leaderboard import main
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
        f"error: {runs}: no run (no trials.parquet in it); runs in there: {runs}/lr_sched\n"
    )


def test_an_unknown_column(runs):
    done = command(runs / "lr_sched", "--sort", "weight_dcay")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --sort weight_dcay: there is no such column")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("top", ["0", "-1", "x"])
def test_a_top_that_is_no_number_of_trials(runs, top, capsys):
    with pytest.raises(SystemExit) as error:
        main([str(runs / "lr_sched"), f"--top={top}"])
    assert error.value.code == 2
    assert "--top" in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error(runs):
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

    def make(name, validation_set, searched, *scores, folder=tmp_path):
        run = folder / name
        run.mkdir(parents=True)
        data = validation_set and {"data": "d", "validation_set": validation_set}
        tables = RunTables(run, [searched], data)
        for number, bits in enumerate(scores):
            tables.begin_trial(f"{number:04}", 0, {searched: 0.25}, baseline=number == 0)
            figures = {"tokens": 2000, "tokens_trained": 2000, "seconds": 1.0, "rung": 0}
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


def test_runs_of_one_name_go_by_their_folders(run_of, tmp_path, capsys):
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
    assert len(printed(capsys, runs[1]).splitlines()) == 2
