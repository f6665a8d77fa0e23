"""A search that is interrupted twice."""

import itertools
import os
import re
import shlex
import signal

import optuna
import pytest
import torch
from optuna.trial import TrialState

from raygpt.data.prepare import prepare
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import load_results
from raygpt.search.sampler import make_sampler, suggest_values
from raygpt.training.loop import TrainingRun
from tests.tune.searches import (
    ENDED,
    SPEED,
    assert_all_in_tensorboard,
    assert_consistent,
    count_ended,
    study,
)

pytestmark = pytest.mark.slow

INTERRUPTED = {
    "search__trials": 8,
    "training__tokens": "64K",
    "training__checkpoint_every": "1/8",
    "training__report_every": "1/8",
    "training__learning_rate": "{loguniform: [1e-3, 3e-2]}",
    "model__dropout": 0.1,
}


@pytest.fixture(scope="module")
def interrupted(start, run_here, place):
    """A search that is killed, resumed, stopped by Ctrl-C and resumed by the command it printed.

    Returns the tables after each session, and exit status and output of the last two sessions.
    """
    runs = place / "my runs"
    folder = runs / "tiny"

    def underway(ended):
        """Whether enough trials have ended, and another has saved its state."""
        if count_ended(folder) < ended:
            return False
        trials = load_results(folder).trials
        return trials[trials["status"] == "running"]["checkpoint"].notna().any()

    left = []
    command = start("tiny.yaml", "--runs-dir", runs, SPEED, **INTERRUPTED)
    command.stop_when(lambda: underway(2))
    command.process.kill()
    assert command.ended()[0] == -signal.SIGKILL
    left.append(assert_consistent(folder))

    command = start("tiny.yaml", "--runs-dir", runs, "--resume")
    command.stop_when(lambda: underway(5))
    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does
    command.process.send_signal(signal.SIGCONT)
    stopped = command.ended()
    assert command.wait_until_alone()
    left.append(assert_consistent(folder))

    command_line = re.search(r"^  python -m raygpt\.tune (.*)$", stopped[1], re.MULTILINE)
    assert command_line, stopped[1]
    finished = run_here(*shlex.split(command_line[1]))
    left.append(assert_consistent(folder))
    return left, stopped, finished


def test_a_killed_search_leaves_correct_tables(interrupted):
    killed, *_ = interrupted[0]
    assert len(killed.trials) < 8
    assert "running" in set(killed.trials["status"])
    assert killed.trials["status"].isin(ENDED).sum() >= 2
    assert killed.trials["training.learning_rate"].notna().all()


def test_ctrl_c_prints_the_command_that_resumes_the_search(interrupted, place):
    status, printed = interrupted[1]
    assert status == 130, printed
    assert "Interrupted: " in printed
    assert "Traceback" not in printed
    assert "running" in set(interrupted[0][1].trials["status"])


def test_the_resumed_search_has_all_trials_once(interrupted, place):
    status, printed = interrupted[2]
    assert status == 0, printed
    assert "8 of 8 trials ended" in printed
    trials = interrupted[0][-1].trials
    assert sorted(trials["trial_id"]) == [f"{number:04}" for number in range(8)]
    assert set(trials["status"]) == {"completed", "stopped"}
    assert trials["error"].isna().all()
    states = [trial.state for trial in study(place / "my runs/tiny").trials]
    assert set(states) <= {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    assert sum(state != TrialState.FAIL for state in states) == 8


def test_trials_that_had_ended_are_not_changed(interrupted):
    left = interrupted[0]
    for before, after in itertools.pairwise(left):
        names = list(before.trials[before.trials["status"] != "running"]["trial_id"])
        assert names
        rows = [results.trials.set_index("trial_id").loc[names] for results in (before, after)]
        assert rows[0].equals(rows[1])
        rows = [
            results.history[results.history["trial_id"].isin(names)].reset_index(drop=True)
            for results in (before, after)
        ]
        assert rows[0].equals(rows[1])


def test_tensorboard_has_every_point_once(interrupted, place):
    assert_all_in_tensorboard(place / "my runs/tiny")


def test_proposals_equal_those_of_an_uninterrupted_search(interrupted, place):
    search_file = load_search_file(place / "my runs/tiny" / files.SEARCH)
    trials = interrupted[0][-1].trials
    assert list(trials[trials["baseline"]]["trial_id"]) == ["0000"]
    undisturbed = optuna.create_study()
    for trial in trials[~trials["baseline"]].to_dict("records"):
        undisturbed.sampler = make_sampler(search_file.search, int(trial["trial_id"]))
        values = suggest_values(search_file, undisturbed.ask())
        assert values == {"training.learning_rate": trial["training.learning_rate"]}


def test_a_resumed_trial_ends_like_an_uninterrupted_one(interrupted, place):
    left = interrupted[0]
    before, after = left[0].trials, left[-1].trials.set_index("trial_id")
    was_running = before[(before["status"] == "running") & before["checkpoint"].notna()]
    row = after.loc[was_running["trial_id"].iloc[0]]
    recipe = load_search_file(place / "my runs/tiny" / files.SEARCH).recipe(
        {"training.learning_rate": row["training.learning_rate"]}
    )
    for report in TrainingRun(
        recipe, prepare(recipe.data, budget_tokens(recipe)), torch.device("cpu")
    ).reports():
        if report.tokens == row["tokens"]:
            assert report.bits_per_byte == pytest.approx(row["bits_per_byte"], rel=1e-4)
            return
    raise AssertionError("no such report")
