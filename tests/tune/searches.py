"""Starts searches by the command that users run, and checks what is true of every search."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time

import optuna
import psutil
import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import HISTORY_COLUMNS, TRIAL_COLUMNS, load_results
from raygpt.search.cluster import LOGGERS
from raygpt.search.sampler import make_sampler, suggest_values

RATE = "training.learning_rate"
ENDED = ["completed", "stopped", "failed", "diverged"]
PATIENCE = 300  # seconds until a search counts as hung
# Spares a search the measurement, which takes two more processes.
SPEED = "--tokens-per-second=20K"


def overrides(settings):
    """training__tokens="1K" is training.tokens=1K."""
    return [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]


class Command:
    """`python -m raygpt.tune …` in a session of its own, to which its Ray processes belong."""

    def __init__(self, folder, *arguments):
        self.output = folder / f"output-{time.monotonic_ns()}"
        with self.output.open("w") as output:
            # To a file: processes that outlive the command would hold a pipe open.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "raygpt.tune", *map(str, arguments)],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self):
        """Wait for the end; the exit status and what was printed."""
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it hangs:\n{self.output.read_text()}") from None
        return status, self.output.read_text()

    def processes(self):
        """All processes of its session."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid:
                    found.append(process)
            except ProcessLookupError:
                pass
        return found

    def training_processes(self):
        """Resident bytes of each process that holds a trial."""
        found = {}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                if holds_trial(process):
                    found[process.pid] = process.memory_info().rss
        return found

    def wait_until(self, condition):
        """Poll a condition while the command runs."""
        until = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() < until, f"it hangs:\n{self.output.read_text()}"
            time.sleep(0.05)

    def stop_when(self, condition):
        """Suspend the command at a moment at which a condition on its results is true.

        Otherwise a trial may end between the check and what the test does next.
        """

        def stopped():
            if not condition():
                return False
            self.process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if condition():
                return True
            self.process.send_signal(signal.SIGCONT)
            return False

        self.wait_until(stopped)

    def wait_until_alone(self):
        """Wait for the other processes of its session; whether all ended within 30 seconds."""
        until = time.monotonic() + 30
        while self.processes() and time.monotonic() < until:
            time.sleep(0.2)
        return not self.processes()


def holds_trial(process):
    """Whether this process of Ray's is (or was last) the actor of a trial."""
    try:
        return "".join(process.cmdline()[:1]).startswith("ray::ImplicitFunc")
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def restored_signals_and_logging():
    """Undo what a command that runs in this process does to both."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [(list(logger.handlers), logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logging.captureWarnings(False)
        for logger, (own, propagate) in zip(loggers, before, strict=True):
            for handler in set(logger.handlers) - set(own):
                handler.close()
            logger.handlers, logger.propagate = own, propagate


def statuses(folder):
    """The number of trials of each status; empty before the table exists."""
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


def seed_of(path, wanted, settings):
    """The first seed with which the trials after the baseline get the rates that are wanted."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search_file = load_search_file(path, overrides=overrides(settings))
    search = search_file.search
    try:
        for seed in range(10_000):
            proposing, rates = optuna.create_study(), []
            for trial in range(1, search.trials):
                proposing.sampler = make_sampler(search.model_copy(update={"seed": seed}), trial)
                rates.append(suggest_values(search_file, proposing.ask())[RATE])
            if wanted(rates):
                return seed
        raise AssertionError("no seed proposes what is wanted")
    finally:
        optuna.logging.set_verbosity(verbosity)


def assert_consistent(folder, workers_per_trial=1):
    """Check what is true of the tables of any search at any time."""
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
            # The last checkpoint is in the run folder. No other is kept, except those that the
            # workers of a group saved before the decision to stop them reached them.
            assert (folder / row["checkpoint"] / "checkpoint.pt").is_file()
            if workers_per_trial == 1:
                kept = list((folder / row["checkpoint"]).parent.glob("checkpoint_*/"))
                assert len(kept) == 1
    return results


def assert_all_in_tensorboard(folder):
    """Every report of the tables is there once, with its validation figures if it is of a rung."""
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
