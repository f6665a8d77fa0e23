"""A search of many trials: its output, its files, and the commands that read these."""

import re
import statistics
import threading
from collections import defaultdict

import pytest
from optuna.trial import TrialState

from raygpt import leaderboard
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import TRIAL_COLUMNS, load_results
from tests.tune.searches import assert_all_in_tensorboard, assert_consistent, count_ended, study

TRIALS = 36
MANY = {
    "search__trials": TRIALS,
    "search__rungs": "[1/8, 1/2, 1]",
    "search__sampler": "tpe",
    "training__learning_rate": "{loguniform: [1e-4, 3e-2]}",
    "training__weight_decay": "{uniform: [0, 0.2]}",
    "model__dropout": "{choice: [0, 0.1]}",
}
RUNG_TOKENS = [1024, 4096, 8192]
# Without warmup and hold the rate falls from the start: no trunk is shared.
TRAINED = [1024, 1024 + 4096, 1024 + 4096 + 8192]


@pytest.fixture(scope="module")
def outcome(start, place):
    """The search's exit status, its output, and samples of the memory of its training processes:
    the number of trials that had ended, and the bytes of each process.
    """
    samples, over = [], threading.Event()
    command = start("tiny.yaml", "--name=many", **MANY)

    def look():
        while not over.wait(0.1):
            samples.append((count_ended(place / "runs/many"), command.training_processes()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        status, printed = command.ended()
    finally:
        over.set()
        thread.join()
    assert command.wait_until_alone()
    return status, printed, samples


@pytest.fixture(scope="module")
def many(outcome, place):
    """The search's folder."""
    return place / "runs/many"


def test_a_whole_search(outcome, many):
    status, printed, _ = outcome
    assert status == 0, printed
    results = assert_consistent(many)
    assert sorted(results.trials["trial_id"]) == [f"{number:04}" for number in range(TRIALS)]
    assert set(results.trials["status"]) == {"completed", "stopped"}
    searched = ["model.dropout", "training.learning_rate", "training.weight_decay"]
    assert list(results.trials) == [*TRIAL_COLUMNS, *searched]
    assert set(results.trials["model.dropout"]) == {0, 0.1}
    assert results.trials["training.learning_rate"].between(1e-4, 3e-2).all()
    counts = results.trials["status"].value_counts()
    lines = printed.splitlines()
    assert lines[0].startswith("Found no GPU and ")
    assert f"({TRIALS} trials of up to 8,192 tokens; " in lines[0]
    assert f"{TRIALS} of {TRIALS} trials ended (" in printed
    assert f"{counts['stopped']} stopped" in printed
    # Plain lines; none of them is Ray's.
    assert {character for character in printed if not character.isprintable()} == {"\n"}
    events = [line.split()[3] for line in lines if re.match(r"\d:\d\d:\d\d trial", line)]
    assert events.count("started") == TRIALS
    assert events.count("stopped") == counts["stopped"]


def test_the_files_of_a_run_folder(many):
    names = {path.name for path in many.iterdir()}
    assert names == {
        *(files.SEARCH, files.ENVIRONMENT, files.TRIALS, files.HISTORY, files.LEADERBOARD),
        *(files.STUDY, files.BEST_RECIPE, files.PLAN, files.LOG, files.LOCK, files.TRIAL_FOLDERS),
        files.EVENT_FILES,
    }
    assert "Traceback" not in (many / files.LOG).read_text()
    again = load_search_file(many / files.SEARCH)
    assert again.search.trials == TRIALS
    assert len(again.ranges) == 3


def test_reports_stand_exactly_at_the_rungs(many):
    results = load_results(many)
    at_rungs = results.history[results.history["rung"].notna()]
    assert [RUNG_TOKENS[rung] for rung in at_rungs["rung"]] == list(at_rungs["tokens"])
    assert (
        at_rungs[["bits_per_byte", "bits_per_token", "next_token_accuracy"]].notna().all(axis=None)
    )
    assert set(results.history["tokens"]) == set(RUNG_TOKENS)
    for row in results.trials.itertuples():
        assert (row.tokens, row.tokens_trained) == (RUNG_TOKENS[row.rung], TRAINED[row.rung])
        assert (row.status == "completed") == (row.rung == 2)


def test_the_first_completed_and_the_stopped_were_worse(many):
    trials = load_results(many).trials
    first_rung = load_results(many).history.query("rung == 0").set_index("trial_id")
    beaten = trials[trials["rung"] == 0]["trial_id"]
    went_on = trials[trials["rung"] > 0]["trial_id"]
    bits = first_rung["bits_per_byte"]
    assert bits[went_on].median() < bits[beaten].median()


def test_trials_share_a_few_processes_whose_memory_does_not_grow(outcome):
    *_, samples = outcome
    assert 1 <= len({pid for _, sizes in samples for pid in sizes}) <= 4
    quarters = defaultdict(list)
    for ended, sizes in samples:
        quarters[min(3, ended * 4 // TRIALS)] += sizes.values()
    second, last = (statistics.median(quarters[number]) for number in (1, 3))
    assert last <= 1.15 * second


def test_the_study_agrees_with_the_tables(many):
    trials = load_results(many).trials.set_index("trial_id")
    found = study(many).trials
    assert len(found) == TRIALS
    for trial in found:
        row = trials.loc[f"{trial.number:04}"]
        completed = row["status"] == "completed"
        assert trial.state == (TrialState.COMPLETE if completed else TrialState.PRUNED)
        assert list(trial.intermediate_values) == RUNG_TOKENS[: row["rung"] + 1]
        assert trial.intermediate_values[row["tokens"]] == row["bits_per_byte"]
        assert trial.params == {key: row[key] for key in trial.params}
        assert len(trial.params) == 3


def test_tensorboard_has_every_curve(many):
    assert_all_in_tensorboard(many)


def test_the_best_recipe_trains_to_the_best_result(many, train_main, tmp_path):
    name, row = train_main(many / files.BEST_RECIPE, tmp_path)
    assert name == "many-best"
    best = load_results(many).best
    assert row["tokens"] == best["tokens"] == 8192
    assert row["bits_per_byte"] == best["bits_per_byte"]


def test_the_leaderboard_shows_the_best_trial_first(many, capsys):
    leaderboard.main([str(many)])
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if re.match(r"\d{4} ", line)]
    assert len(rows) == TRIALS
    best = load_results(many).best
    assert rows[0].split()[:3] == [best["trial_id"], "completed", f"{best['bits_per_byte']:.4f}"]
