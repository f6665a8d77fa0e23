"""Real searches some of whose trials diverge, crash, die and hang, by their learning rates.

The poison is in the trials' processes alone: a sitecustomize module on their path changes what a
learning rate does.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import optuna
import pytest
from optuna.trial import TrialState

from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import load_results
from raygpt.search.sampler import make_sampler, suggest_values
from raygpt.search.warm_start import seed_study

RATE = "training.learning_rate"
GOOD, DIVERGES, DIVERGES_LATE = 1e-2, 1e6, 5e-3
RAISES, DIES, HANGS, FREEZES = 1e-3, 2e-3, 3e-3, 4e-3
RATES = [GOOD, DIVERGES, DIVERGES_LATE, RAISES, DIES, HANGS, FREEZES]

POISON = f"""\
import importlib.util, math, os, signal, sys, time

class Poison:
    def find_spec(self, name, path, target=None):
        if name != "raygpt.training.loop":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), poison(module))
        return spec

def poison(loop):
    healthy = loop.TrainingRun.learning_rate

    def learning_rate(self, step, *budget):
        rate = self.recipe.training.learning_rate
        if rate == {DIVERGES_LATE} and self.step > 8:  # past the rung
            return math.nan
        if step == 5 and loop.worker_rank() == loop.worker_count() - 1:
            if rate == {RAISES}:
                raise ValueError("the poison is at work")
            if rate == {DIES}:
                os._exit(7)
            if rate == {HANGS}:
                time.sleep(10**6)
            if rate == {FREEZES}:
                with open(os.environ["FROZEN"], "a") as file:
                    print(os.getpid(), file=file)
                os.kill(os.getpid(), signal.SIGSTOP)
        return healthy(self, step, *budget)

    loop.TrainingRun.learning_rate = learning_rate

# What the command itself trains, to see how fast it is, stays as it is.
if any("default_worker.py" in argument for argument in sys.orig_argv):
    sys.meta_path.insert(0, Poison())
"""

# Of 32 steps; the rung is after 8 of them.
RECIPE = """\
data: {{corpus: "jsonl:{}", min_document_bytes: 0, tokenizer: bpe-280, context: 32,
  validation_fraction: 0.1, validation_tokens: 500}}
model: {{d_model: 16, n_layers: 1, n_heads: 2, dropout: 0}}
training: {{tokens: 8192, batch_tokens: 256, micro_batch: 8, learning_rate: {{choice: {}}}}}
search: {{trials: 8, rungs: [1/4, 1], scheduler: fifo, sampler: random, hang_timeout: 12}}
"""
PATIENCE = 300  # seconds


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("poisoned")
    draw = random.Random(0)
    words = ["the", "of", "and", "river", "city", "model", "learning", "rate"]
    texts = (" ".join(draw.choices(words, k=40)) for _ in range(200))
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    (folder / "poisoned.yaml").write_text(RECIPE.format(folder / "texts.jsonl", RATES))
    (folder / "sitecustomize.py").write_text(POISON)
    return folder


@pytest.fixture(scope="module")
def start(place):
    """Starts the command; whatever it leaves is ended with the tests."""
    started = []

    def start(*settings):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]),
            "RAYGPT_CACHE": str(place / "cache"),
            "FROZEN": str(place / "frozen"),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("RAY_ADDRESS", None)
        command = subprocess.Popen(
            [sys.executable, "-m", "raygpt.tune", "poisoned.yaml", "--tokens-per-second=20K"]
            + [f"--set={setting}" for setting in settings],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(command)
        return command

    yield start
    for command in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        command.wait()


def seed_of(path, wanted, *overrides):
    """The first seed of a search whose trials after the baseline have the rates that are wanted."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search_file = load_search_file(path, overrides=overrides)
    search = search_file.search
    try:
        for seed in range(10_000):
            study, rates = optuna.create_study(), []
            for trial in range(1, search.trials):
                study.sampler = make_sampler(search.model_copy(update={"seed": seed}), trial)
                rates.append(suggest_values(search_file, study.ask())[RATE])
            if wanted(rates):
                return f"search.seed={seed}"
    finally:
        optuna.logging.set_verbosity(verbosity)


GROUP = [
    "name=group",
    "search.trials=2",
    "search.workers_per_trial=2",
    "search.cpus_per_worker=1",
    f"{RATE}={{choice: [{FREEZES}, {HANGS}]}}",
]


@pytest.fixture(scope="module")
def ends(place, start):
    """Of two searches side by side, each with a Ray of its own: one with a trial of each kind, and
    one of worker groups. The exit status of each and what it printed.
    """

    def one_of_each(rates):
        return set(rates) == set(RATES)

    recipe = place / "poisoned.yaml"
    commands = [start(seed_of(recipe, one_of_each))]
    # Not both at the same moment, which may be too much for Ray.
    while not (place / "runs/poisoned" / files.TRIALS).exists() and commands[0].poll() is None:
        time.sleep(0.1)
    commands.append(start(*GROUP, seed_of(recipe, lambda rates: rates == [HANGS], *GROUP)))
    printed = [command.communicate(timeout=PATIENCE)[0] for command in commands]
    return [(command.returncode, text) for command, text in zip(commands, printed, strict=True)]


@pytest.fixture(scope="module")
def folder(place, ends):
    return place / "runs/poisoned"


ENDS = {
    GOOD: ("completed", TrialState.COMPLETE, None),
    DIVERGES: ("diverged", TrialState.PRUNED, "the training loss is "),
    DIVERGES_LATE: ("diverged", TrialState.PRUNED, "the training loss is "),
    RAISES: ("failed", TrialState.FAIL, "ValueError: the poison is at work"),
    DIES: ("failed", TrialState.FAIL, "its process died: "),
    HANGS: ("failed", TrialState.FAIL, "no sign of life for 1"),
    FREEZES: ("failed", TrialState.FAIL, "no sign of life for 1"),
}


def test_every_trial_ends_as_what_it_is(ends, folder):
    """Nor does one of them keep the place of another: with two, the search would never end."""
    status, printed = ends[0]
    assert status == 0, printed
    assert "8 of 8 trials ended" in printed
    trials = load_results(folder).trials.set_index("trial_id")
    assert set(trials[RATE]) == set(RATES)
    study = optuna.load_study(study_name="poisoned", storage=f"sqlite:///{folder / files.STUDY}")
    assert len(study.trials) == len(trials) == 8
    for trial in study.trials:
        row = trials.loc[f"{trial.number:04}"]
        assert trial.params == {RATE: row[RATE]}
        status, state, error = ENDS[row[RATE]]
        assert (row["status"], trial.state) == (status, state)
        assert trial.constraints == ({"diverged": 1.0} if status == "diverged" else {})
        if error is None:
            assert trial.value == row["bits_per_byte"]
        else:
            assert row["error"].startswith(error)
            assert "\n" not in row["error"]
            assert trial.user_attrs["error"] == row["error"]
        reached = {GOOD: [2048, 8192], DIVERGES_LATE: [2048]}.get(row[RATE], [])
        assert list(trial.intermediate_values) == reached


def test_the_search_begins_with_its_baseline(folder):
    trials = load_results(folder).trials
    baseline = trials[trials["baseline"]]
    assert list(baseline["trial_id"]) == ["0000"]
    assert list(baseline[RATE]) == [GOOD]  # the first choice, as the recipe names no start


def test_none_of_them_is_the_best(folder):
    best = load_search_file(folder / files.BEST_RECIPE).single_recipe()
    assert best.training.learning_rate == GOOD == load_results(folder).best[RATE]


def test_what_was_frozen_is_gone(place, folder):
    pids = (place / "frozen").read_text().split()
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_another_search_learns_from_it(place, folder):
    study = optuna.create_study()
    search_file = load_search_file(
        place / "poisoned.yaml", overrides=[f"search.warm_start=[{folder}]"]
    )
    trials = load_results(folder).trials
    failed = (trials["status"] == "failed").sum()
    assert seed_study(study, search_file) == [
        f"Warm start: {8 - failed} of 8 trials of {folder}, {failed} failed or unfinished."
    ]
    for trial in study.trials[:-1]:
        assert trial.state == ENDS[trial.params[RATE]][1]


def test_a_worker_that_hangs_takes_its_group_along(ends, place):
    """Otherwise the next group would wait for ever for its place."""
    status, printed = ends[1]
    assert status == 1
    trials = load_results(place / "runs/group").trials
    assert list(trials[RATE]) == [FREEZES, HANGS]
    assert list(trials["status"]) == ["failed", "failed"], printed
    assert trials["error"].str.startswith("no sign of life for 1").all()


@pytest.fixture(scope="module")
def twins(place, start):
    """The tables of two searches by the same seed, one trial at a time, in which some diverge."""
    settings = [
        "search.trials=14",
        "search.concurrent=1",
        "search.hang_timeout=null",
        "search.sampler=tpe",
        "search.scheduler=asha",
        "search.reduction_factor=2",
        "model.dropout={uniform: [0, 0.5]}",
        f"{RATE}={{loguniform: [1e-3, 1e4], start: 2e-2}}",
    ]
    commands = {name: start(f"name={name}", *settings) for name in ("one", "other")}
    for command in commands.values():
        printed, _ = command.communicate(timeout=PATIENCE)
        assert command.returncode == 0, printed
    return [load_results(place / "runs" / name).trials for name in commands]


def test_one_at_a_time_the_same_seed_gives_the_same_search(twins):
    one, other = (trials.drop(columns=["seconds", "tokens_per_second"]) for trials in twins)
    assert list(one["trial_id"]) == [f"{number:04}" for number in range(14)]
    assert set(one["status"]) == {"completed", "stopped", "diverged"}
    assert one.equals(other)
