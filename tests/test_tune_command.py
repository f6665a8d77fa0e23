"""Real searches by the real command. Each is run once; several tests look at what it left."""

import itertools
import json
import os
import random
import re
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict

import mlflow
import optuna
import pytest
import ray  # noqa: F401 (psutil comes with it)
import torch
from optuna.trial import TrialState
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from raygpt import leaderboard, train
from raygpt.data.prepare import prepare
from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import HISTORY_COLUMNS, TRIAL_COLUMNS, RunTables, load_results
from raygpt.search.confirm import confirming_runs
from raygpt.search.sampler import make_sampler, suggest_values
from raygpt.training.loop import TrainingRun
from raygpt.training.probe import Pace

import psutil  # isort: skip

# Of 8,192 tokens: 32 steps of 256, with a report in the middle and at the rungs.
RECIPE = """\
data: {{corpus: "jsonl:{}", min_document_bytes: 0, tokenizer: bpe-300, context: 32,
  validation_fraction: 0.1, validation_tokens: 500}}
model: {{d_model: 16, n_layers: 1, n_heads: 2, dropout: 0}}
training: {{tokens: 8192, batch_tokens: 256, micro_batch: 8, learning_rate: 1e-2,
  report_every: 1/2, checkpoint_every: 1/2}}
search: {{rungs: [1/4, 1], reduction_factor: 2, sampler: random}}
"""
WORDS = "the of and river city model wide small learning rate long night tree stone house".split()  # noqa: SIM905
ENDED = ["completed", "stopped", "failed", "diverged"]
PATIENCE = 300  # seconds, after which a search hangs
# Measured by the search of many trials; the others are told, as that takes two processes a while.
SPEED = "--tokens-per-second=20K"


# --- running the command ------------------------------------------------------------------------


class Command:
    """`python -m raygpt.tune …` in a session of its own, which its Ray processes stay in."""

    def __init__(self, folder, *arguments):
        self.output = folder / f"output-{time.monotonic_ns()}"
        with self.output.open("w") as output:
            # A file, because processes left behind would hold a pipe open.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "raygpt.tune", *map(str, arguments)],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self):
        """Its exit status and what it printed."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs:\n{self.output.read_text()}") from None
        return status, self.output.read_text()

    def processes(self):
        """All that run in its session."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid:
                    found.append(process)
            except ProcessLookupError:
                pass
        return found

    def training_processes(self):
        """Resident bytes of the processes that hold a trial, by process."""
        found = {}
        for process in self.processes():
            try:
                if "".join(process.cmdline()[:1]).startswith("ray::ImplicitFunc"):
                    found[process.pid] = process.memory_info().rss
            except psutil.NoSuchProcess:
                pass
        return found

    def wait_until(self, condition):
        """Look again and again, while it runs."""
        until = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < until, f"it hangs:\n{self.output.read_text()}"
            time.sleep(0.05)

    def wait_until_alone(self):
        """Whether every process of its session ends soon after it."""
        until = time.monotonic() + 30
        while self.processes() and time.monotonic() < until:
            time.sleep(0.2)
        return not self.processes()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Where the commands run: a recipe on a small corpus, and an environment for both."""
    folder = tmp_path_factory.mktemp("tune")
    draw = random.Random(0)
    texts = (" ".join(draw.choices(WORDS, k=40)) for _ in range(200))
    corpus = folder / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (folder / "tiny.yaml").write_text(RECIPE.format(corpus))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("RAYGPT_CACHE", str(folder / "cache"))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        # Threads that wait for each other take most of the time of a model this small.
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield folder
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def start(place):
    """Starts a command; whatever it leaves is ended with the tests."""
    started = []

    def start(*arguments, **settings):
        sets = (f"--set={key.replace('__', '.')}={value}" for key, value in settings.items())
        started.append(Command(place, *arguments, *sets))
        return started[-1]

    yield start
    for command in started:
        for process in command.processes():
            process.kill()
        command.process.wait()


def statuses(folder):
    """How many trials there are of each status; none before there is a table."""
    if not (folder / files.TRIALS).exists():
        return {}
    return load_results(folder).trials["status"].value_counts().to_dict()


def count_ended(folder):
    counts = statuses(folder)
    return sum(counts.get(status, 0) for status in ENDED)


def study(folder):
    storage = f"sqlite:///{folder / files.STUDY}"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def assert_consistent(folder, workers_per_trial=1):
    """What holds for the tables of any search at any time."""
    results = load_results(folder)
    trials, history = results.trials, results.history
    assert list(trials)[: len(TRIAL_COLUMNS)] == list(TRIAL_COLUMNS)
    assert list(history) == list(HISTORY_COLUMNS)
    assert trials["trial_id"].is_unique
    assert not history.duplicated(["trial_id", "tokens_trained"]).any()
    assert set(history["trial_id"]) <= set(trials["trial_id"])
    for row in trials.to_dict("records"):
        reports = history[history["trial_id"] == row["trial_id"]]
        assert reports["tokens_trained"].is_monotonic_increasing
        at_rungs = reports[reports["rung"].notna()]
        assert list(at_rungs["rung"]) == list(range(len(at_rungs)))
        if len(at_rungs) and row["status"] in ("completed", "stopped"):
            last = at_rungs.iloc[-1]
            for name in ("tokens", "rung", "bits_per_byte"):
                assert row[name] == last[name]
        if row["status"] in ("completed", "stopped"):
            assert 0 < row["bits_per_byte"] < 8
            # The last checkpoint is in the run folder; no other is kept, but for those that the
            # workers of a group saved while it was being decided to stop them.
            assert (folder / row["checkpoint"] / "checkpoint.pt").is_file()
            if workers_per_trial == 1:
                kept = list((folder / row["checkpoint"]).parent.glob("checkpoint_*/"))
                assert len(kept) == 1
    return results


# --- searches side by side ---------------------------------------------------------------------

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


TROUBLED = {
    "search__trials": 5,
    "search__concurrent": 1,
    "search__scheduler": "fifo",
    "data__validation_fraction": 0.2,  # or its tokens would be in the other cache too
    "training__learning_rate": "{choice: [1e-2, 1e30]}",
}


def spoil(command, place):
    """Cut a token shard short once a trial has completed and another has diverged."""
    folder = place / "runs/troubled"
    command.wait_until(lambda: set(statuses(folder)) >= {"completed", "diverged"})
    (shard,) = place.glob("spoilt/*/00000.tokens")
    # Replaced, so that who has it mapped is not disturbed.
    shard.with_name("short").write_bytes(shard.read_bytes()[:-2])
    shard.with_name("short").replace(shard)


@pytest.fixture(scope="module")
def together(start, place):
    """Three searches at once on this machine: of many trials, one in which all go wrong, and one
    whose tokens are spoilt half-way.

    Exit status, output, and the memory of the first one's training processes as it went on: how
    many trials had ended and the processes' bytes, again and again.
    """
    commands, samples, over = {}, [], threading.Event()

    def begin(name, *arguments, **settings):
        """Start it, and wait until it is under way: all at once may be too much for Ray."""
        commands[name] = command = start("tiny.yaml", f"--name={name}", *arguments, **settings)
        command.wait_until(lambda: statuses(place / "runs" / name))
        return command

    many = begin("many", **MANY)

    def look():
        while not over.wait(0.1):
            samples.append((count_ended(place / "runs/many"), many.training_processes()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        settings = TROUBLED | {"data__cache": place / "spoilt"}
        spoil(begin("troubled", "--tracker=mlflow", SPEED, **settings), place)
        settings = {"training__learning_rate": 1e30, "search__trials": 2, "search__concurrent": 1}
        begin("hopeless", SPEED, **settings)
        ends = {name: command.ended() for name, command in commands.items()}
    finally:
        over.set()
        thread.join()
    assert all(command.wait_until_alone() for command in commands.values())
    return ends, samples


@pytest.fixture(scope="module")
def many(together, place):
    """The folder of a search of many trials."""
    return place / "runs/many"


def test_a_whole_search(together, many):
    status, printed = together[0]["many"]
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
    # Plain lines, of which none is Ray's own.
    assert {character for character in printed if not character.isprintable()} == {"\n"}
    events = [line.split()[3] for line in lines if re.match(r"\d:\d\d:\d\d trial", line)]
    assert events.count("started") == TRIALS
    assert events.count("stopped") == counts["stopped"]


def test_what_a_search_leaves_behind(many):
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


def test_trials_share_a_few_processes_whose_memory_does_not_grow(together):
    samples = together[1]
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


def assert_all_in_tensorboard(folder):
    """Every report of the tables, and its figures at rungs, is there once."""
    found = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    for trial_id, reports in load_results(folder).history.groupby("trial_id"):
        name = f"{files.EVENT_FILES}/{trial_id}"
        runs = [run for run in found.Runs() if run == name or run.startswith(f"{name}/")]
        drawn = [run for run in runs if "training/learning_rate" in found.Runs()[run]["scalars"]]
        points = [event for run in drawn for event in found.Scalars(run, "training/learning_rate")]
        rates = sorted(zip(reports["tokens"], reports["learning_rate"], strict=True))
        assert sorted(event.step for event in points) == [tokens for tokens, _ in rates]
        values = [value for _, value in sorted((event.step, event.value) for event in points)]
        assert values == pytest.approx([rate for _, rate in rates])
        at_rungs = reports[reports["rung"].notna()]
        bits = found.Scalars(name, "validation/bits_per_byte") if len(at_rungs) else []
        assert [event.step for event in bits] == list(at_rungs["tokens"])
        assert [event.value for event in bits] == pytest.approx(list(at_rungs["bits_per_byte"]))


def test_tensorboard_has_every_curve(many):
    assert_all_in_tensorboard(many)


@pytest.fixture
def train_main(place, monkeypatch, capsys):
    """Trains a recipe in this process; the row of its table."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    pace = Pace(tokens_per_second=1000.0, evaluation_seconds=1.0)
    monkeypatch.setattr("raygpt.training.probe.measure_pace", lambda *_: pace)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(recipe, runs):
        try:
            assert train.main([str(recipe), "--runs-dir", str(runs)]) == 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        (folder,) = runs.iterdir()
        return folder.name, load_results(folder).trials.loc[0]

    return run


def test_the_best_recipe_trains_to_the_best_result(many, train_main, tmp_path):
    name, row = train_main(many / files.BEST_RECIPE, tmp_path)
    assert name == "many-best"
    best = load_results(many).best
    assert row["tokens"] == best["tokens"] == 8192
    assert row["bits_per_byte"] == pytest.approx(best["bits_per_byte"], rel=1e-4)


def test_the_leaderboard_has_it_on_top(many, capsys):
    leaderboard.main([str(many)])
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if re.match(r"\d{4} ", line)]
    assert len(rows) == TRIALS
    best = load_results(many).best
    assert rows[0].split()[:3] == [best["trial_id"], "completed", f"{best['bits_per_byte']:.4f}"]


def test_a_search_in_which_all_goes_wrong(together, place):
    status, printed = together[0]["hopeless"]
    assert status == 1, printed
    assert "2 of 2 trials ended (2 diverged)." in printed
    trials = assert_consistent(place / "runs/hopeless").trials
    assert list(trials["status"]) == ["diverged"] * 2
    # Nothing is searched, so that trials differ in their seed.
    assert sorted(trials["seed"]) == [0, 1]
    for error in trials["error"]:
        assert "loss is" in error
        assert "\n" not in error
    assert not (place / "runs/hopeless" / files.BEST_RECIPE).exists()
    for trial in study(place / "runs/hopeless").trials:
        assert (trial.state, trial.constraints) == (TrialState.PRUNED, {"diverged": 1.0})


def test_the_search_goes_on_past_trials_that_fail(together, place):
    status, printed = together[0]["troubled"]
    assert status == 0, printed
    trials = assert_consistent(place / "runs/troubled").trials
    assert len(trials) == 5
    assert set(trials["status"]) == {"completed", "diverged", "failed"}
    for row in trials.to_dict("records"):
        if row["status"] == "failed":
            assert row["error"].startswith("The token shard ")
            assert "spoilt/" in row["error"]
            assert "00000.tokens is absent or damaged" in row["error"]
        if row["status"] == "diverged":
            assert "loss is" in row["error"]
        assert row["status"] == "completed" or "\n" not in row["error"]
        assert (row["training.learning_rate"] == 1e30) <= (row["status"] != "completed")
    states = [trial.state for trial in study(place / "runs/troubled").trials]
    ends = {
        "completed": TrialState.COMPLETE,
        "diverged": TrialState.PRUNED,
        "failed": TrialState.FAIL,
    }
    assert states == [ends[status] for status in trials["status"]]
    assert "Traceback" not in printed


def test_a_tracker_has_every_trial(together, place):
    trials = load_results(place / "runs/troubled").trials
    runs = mlflow.search_runs(experiment_names=["troubled"], order_by=["tags.mlflow.runName"])
    assert list(runs["tags.mlflow.runName"]) == list(trials["trial_id"])
    ends = {"completed": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}
    assert list(runs["status"]) == [ends[status] for status in trials["status"]]
    rates = runs["params.training.learning_rate"].astype(float)
    assert list(rates) == list(trials["training.learning_rate"])
    bits = list(trials["bits_per_byte"])
    assert list(runs["metrics.bits_per_byte"]) == pytest.approx(bits, nan_ok=True)


# --- interruptions ------------------------------------------------------------------------------

INTERRUPTED = {
    "search__trials": 8,
    "training__tokens": "64K",
    "training__checkpoint_every": "1/8",
    "training__report_every": "1/8",
    "training__learning_rate": "{loguniform: [1e-3, 3e-2]}",
    "model__dropout": 0.1,
}


@pytest.fixture(scope="module")
def interrupted(start, place):
    """A search that is killed, resumed, stopped by Ctrl-C and resumed as it says.

    The tables after each session, and the last output.
    """
    runs = place / "my runs"
    folder = runs / "tiny"

    def underway(ended):
        """So many trials have ended, and another has saved its state."""
        if count_ended(folder) < ended:
            return False
        trials = load_results(folder).trials
        return trials[trials["status"] == "running"]["checkpoint"].notna().any()

    def held():
        """Whether it was caught in that state, and stopped: else the trial might end meanwhile."""
        if not underway(2):
            return False
        command.process.send_signal(signal.SIGSTOP)
        if underway(2):
            return True
        command.process.send_signal(signal.SIGCONT)
        return False

    left = []
    command = start("tiny.yaml", "--runs-dir", runs, SPEED, **INTERRUPTED)
    command.wait_until(held)
    command.process.kill()
    assert command.ended()[0] == -signal.SIGKILL
    left.append(assert_consistent(folder))

    command = start("tiny.yaml", "--runs-dir", runs, "--resume")
    command.wait_until(lambda: underway(5))
    os.killpg(command.process.pid, signal.SIGINT)  # as a terminal does
    stopped = command.ended()
    assert command.wait_until_alone()
    left.append(assert_consistent(folder))

    told = re.search(r"^  python -m raygpt\.tune (.*)$", stopped[1], re.MULTILINE)
    assert told, stopped[1]
    finished = start(*shlex.split(told[1])).ended()
    left.append(assert_consistent(folder))
    return left, stopped, finished


def test_a_killed_search_leaves_its_tables_right(interrupted):
    killed, *_ = interrupted[0]
    assert len(killed.trials) < 8
    assert "running" in set(killed.trials["status"])
    assert killed.trials["status"].isin(ENDED).sum() >= 2
    assert killed.trials["training.learning_rate"].notna().all()


def test_ctrl_c_ends_it_with_the_command_that_goes_on(interrupted, place):
    status, printed = interrupted[1]
    assert status == 130, printed
    assert "Interrupted: " in printed
    assert "Traceback" not in printed
    assert "running" in set(interrupted[0][1].trials["status"])


def test_resumed_to_the_end_it_has_all_trials_once(interrupted, place):
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


def test_what_had_ended_is_not_touched_again(interrupted):
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


def test_proposals_are_those_of_an_undisturbed_search(interrupted, place):
    search_file = load_search_file(place / "my runs/tiny" / files.SEARCH)
    trials = interrupted[0][-1].trials
    assert list(trials[trials["baseline"]]["trial_id"]) == ["0000"]
    undisturbed = optuna.create_study()
    for trial in trials[~trials["baseline"]].to_dict("records"):
        undisturbed.sampler = make_sampler(search_file.search, int(trial["trial_id"]))
        values = suggest_values(search_file, undisturbed.ask())
        assert values == {"training.learning_rate": trial["training.learning_rate"]}


def test_a_resumed_trial_ends_where_it_would_have_ended(interrupted, place):
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


# --- trials of several workers ------------------------------------------------------------------


@pytest.fixture(scope="module")
def grouped(start):
    """A search whose trials are of two workers; some are stopped."""
    command = start(
        "tiny.yaml",
        "--name=grouped",
        SPEED,
        search__trials=3,
        search__workers_per_trial=2,
        search__cpus_per_worker=1,
        search__seed=4,  # good, bad, bad
        search__concurrent=1,
        training__learning_rate="{choice: [1e-2, 1e-7]}",
    )
    return command, command.ended()


def test_worker_groups_end_and_leave_no_process(grouped, place):
    command, (status, printed) = grouped
    assert status == 0, printed
    assert command.wait_until_alone()
    trials = assert_consistent(place / "runs/grouped", workers_per_trial=2).trials
    assert list(trials["training.learning_rate"]) == [1e-2, 1e-7, 1e-7]
    assert list(trials["status"]) == ["completed", "stopped", "stopped"]
    assert list(trials["tokens"]) == [8192, 2048, 2048]
    states = [trial.state for trial in study(place / "runs/grouped").trials]
    assert states == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED]


def test_two_workers_come_to_what_one_comes_to(grouped, place, train_main, tmp_path):
    recipe = place / "runs/grouped" / files.BEST_RECIPE
    assert load_search_file(recipe).search.workers_per_trial == 2
    _, one = train_main(recipe, tmp_path)
    two = load_results(place / "runs/grouped").best
    for name in ("bits_per_byte", "bits_per_token"):
        assert one[name] == pytest.approx(two[name], rel=1e-4)


# --- confirmation -------------------------------------------------------------------------------

CONFIRMED = {
    "search__trials": 3,
    "search__scheduler": "fifo",
    "search__confirm": "{top: 1, seeds: 2}",
    "training__tokens": "16Ki",
    "training__checkpoint_every": "1/8",
    "training__learning_rate": "{loguniform: [1e-3, 3e-2], start: 1e-2}",
}


@pytest.fixture(scope="module")
def confirmed(start, place):
    """A search that is killed while it is confirmed, and resumed to confirm more.

    The folder, the tables that the kill left, and the last session's exit status and output.
    """
    folder = place / "runs/confirmed"

    def underway():
        """A run that confirms has ended, and another has saved its state."""
        if not (folder / files.TRIALS).exists():
            return False
        trials = load_results(folder).trials
        runs = trials[trials["confirms"].notna()]
        running = runs[runs["status"] == "running"]
        return "completed" in set(runs["status"]) and running["checkpoint"].notna().any()

    command = start("tiny.yaml", "--name=confirmed", SPEED, **CONFIRMED)
    command.wait_until(underway)
    command.process.kill()
    command.ended()
    killed = assert_consistent(folder)
    more = start("tiny.yaml", "--name=confirmed", "--resume", search__confirm="{top: 2, seeds: 2}")
    return folder, killed, more.ended()


def test_the_best_are_trained_again_with_further_seeds(confirmed):
    folder, killed, (status, printed) = confirmed
    assert status == 0, printed
    assert "3 of 3 trials ended (3 completed). 6 of 6 runs that confirm them ended (6" in printed
    results = assert_consistent(folder)
    runs = results.trials[results.trials["confirms"].notna()]
    best = results.trials[results.trials["confirms"].isna()].sort_values("bits_per_byte")
    assert set(runs["confirms"]) == set(best["trial_id"])
    assert len(killed.trials["confirms"].dropna().unique()) == 2
    assert results.trials.loc[runs.index, "seed"].is_unique
    assert set(runs["seed"]) == {1, 2, 3, 4, 5, 6}
    assert set(runs["tokens"]) == {16_384}
    own = results.trials.set_index("trial_id")
    for row in runs.to_dict("records"):
        values = own.loc[row["confirms"], "training.learning_rate"]
        assert row["training.learning_rate"] == values
        assert row["trial_id"].rpartition("-")[0] == row["confirms"]
    # What had ended before the kill was not touched again.
    ended = killed.trials[killed.trials["status"] != "running"].set_index("trial_id")
    assert own.loc[ended.index].equals(ended)


def test_a_run_resumed_from_its_state_ends_where_it_would_have_ended(confirmed):
    folder, killed, _ = confirmed
    trials = killed.trials
    resumed = trials[(trials["status"] == "running") & trials["checkpoint"].notna()].iloc[0]
    search_file = load_search_file(folder / files.SEARCH)
    runs = confirming_runs(RunTables(folder, search_file.ranges).trials, search_file)
    run = next(run for run in runs if run.trial_id == resumed["trial_id"])
    assert run.seed == resumed["seed"]
    recipe = run.recipe(search_file)
    *_, last = TrainingRun(
        recipe, prepare(recipe.data, budget_tokens(recipe)), torch.device("cpu")
    ).reports()
    rows = load_results(folder).trials.set_index("trial_id")
    assert last.bits_per_byte == pytest.approx(rows.loc[run.trial_id, "bits_per_byte"], rel=1e-4)


def test_its_conclusions_stand_below_the_leaderboard(confirmed, capsys):
    folder, _, (_, printed) = confirmed
    leaderboard.main([str(folder)])
    text = capsys.readouterr().out
    assert "6 runs of 3 configurations, each with a seed of its own." in text
    assert "Tukey's HSD test" in text
    assert "baseline 0000" in text
    first = text.splitlines()[1].split()
    assert first[:2] == [load_results(folder).best["trial_id"], "2"]
    assert "runs of 3 configurations" in printed


def test_the_winner_is_a_recipe_that_trains(confirmed, train_main, tmp_path):
    folder, *_ = confirmed
    best = load_results(folder).best
    text = (folder / files.BEST_RECIPE).read_text()
    assert text.startswith(f"# Trial {best['trial_id']}: ")
    assert " bits per byte at 16,384 tokens, mean and standard error of 2 runs" in text
    _, row = train_main(folder / files.BEST_RECIPE, tmp_path)
    # By the seed of the search, whose run of it this is.
    assert row["bits_per_byte"] == pytest.approx(best["bits_per_byte"], rel=1e-4)


# --- refusals -----------------------------------------------------------------------------------


def test_what_cannot_run_is_one_message_and_leaves_nothing(start, place):
    refused = place / "refused"
    (refused / "taken").mkdir(parents=True)
    attempts = {
        "taken is there already and is not overwritten; go on with it with --resume, or start "
        "another run with --name NAME": ["--name=taken"],
        "training.tokns: unknown key": ["--set=training.tokns=1"],
        "--scale full needs a GPU": ["--scale=full"],
        "--scale mini: ": ["--scale=mini"],
        "there is no run in": ["--resume"],
        f"search.warm_start: {place / 'nowhere'}: no such folder": [
            "--set=search.warm_start=[nowhere]",
            "--set=training.learning_rate={loguniform: [1e-3, 1e-2]}",
        ],
        "a trial needs 1 worker with 64 CPU": ["--set=search.cpus_per_worker=64"],
    }
    started = {
        message: start("tiny.yaml", "--runs-dir", refused, *arguments)
        for message, arguments in attempts.items()
    }
    for message, command in started.items():
        status, printed = command.ended()
        assert status == 2, printed
        assert printed.startswith("error: ")
        assert message in printed
        assert printed.count("\n") == 1
        assert command.wait_until_alone()
    assert [path.name for path in refused.iterdir()] == ["taken"]
    assert list((refused / "taken").iterdir()) == []
