"""The cost of the search layer per trial, without training: `python -m benchmarks.orchestration`

The complete search layer (study in SQLite, sampler, rungs, tables, event files, progress) runs a
search of many trials with simulated reports (`benchmarks.learning_curves`), about twenty per
completed trial. It runs first in virtual time, which measures its own work alone, and then on Ray
with trials that only wait and report, which adds the time that Ray takes to place trials and to
transfer their reports.
"""

import argparse
import inspect
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import optuna
import pandas as pd

from raygpt.search import cluster

# Imported after `cluster`, which sets the environment variables that Ray reads when it is imported.
import ray  # isort: skip
from ray import tune
from ray.train import Checkpoint
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY
from rich.console import Console

from benchmarks.learning_curves import LearningCurves
from raygpt.command import run_command
from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import load_search_file
from raygpt.results import files
from raygpt.results.tables import RunTables
from raygpt.search import search
from raygpt.search.plan import make_plan
from raygpt.search.progress import Progress
from raygpt.search.recorder import Recorder
from raygpt.search.sampler import StudySearcher, open_study
from raygpt.search.scheduler import METRIC, make_scheduler
from raygpt.search.simulation import Report, Simulation
from raygpt.search.tracking import TensorBoard
from raygpt.search.trial import ALIVE
from raygpt.search.warm_start import seed_study

SEARCHED = Path(__file__).parents[1] / "search_spaces" / "lr_sched.yaml"
AT_ONCE = 8
SECONDS_IN_FULL = 0.5
"""How long a trial on Ray waits instead of training a full budget."""


class Stopwatch:
    """Measures the seconds spent in the methods of objects; nested calls are not counted twice.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self.seconds: Counter[str] = Counter()
        self._within: list[float] = []

    def watch(self, part: str, watched: Any) -> None:
        """Count the time of an object's public methods towards a part."""
        for name, method in inspect.getmembers(watched, inspect.ismethod):
            if not name.startswith("_"):
                setattr(watched, name, self._watching(part, method))

    def _watching(self, part: str, method: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._within.append(0.0)
            started = self._clock()
            try:
                return method(*args, **kwargs)
            finally:
                seconds = self._clock() - started
                self.seconds[part] += seconds - self._within.pop()
                if self._within:
                    self._within[-1] += seconds

        return call


def in_virtual_time(trials: int, folder: Path) -> pd.DataFrame:
    """Run the search layer in this process.

    Args:
        trials: number of trials, at least ten.
        folder: run folder to create.

    Returns:
        CPU milliseconds per trial: a row for each part, and columns for the first tenth of the
        trials, the last tenth, and all.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True)
    search_file = load_search_file(SEARCHED, overrides=[f"search.trials={trials}"])
    last_rung = len(search_file.search.rungs) - 1
    watch = Stopwatch(time.process_time)
    tables = RunTables(folder, search_file.ranges)
    watch.watch("tables", tables)
    progress = Progress(tables, search_file, Console(file=StringIO()))
    watch.watch("progress", progress)
    study = open_study(folder / files.STUDY, search_file.name)
    seed_study(study, search_file)
    needed = cluster.Placement(workers=1, cpus=1, gpus=0)
    searcher = StudySearcher(study, search_file, needed, str(folder))
    watch.watch("sampler and study", searcher)
    scheduler = make_scheduler(search_file.search)
    watch.watch("rungs", scheduler)
    recorder = Recorder(tables, progress, last_rung, searcher.ended)
    watch.watch("recorder", recorder)
    tensorboard = TensorBoard(tables)
    watch.watch("event files", tensorboard)

    seconds = {}

    def objective(config: Mapping[str, Any]) -> Iterator[Report]:
        seconds[len(simulation.trials)] = Counter(watch.seconds)
        return with_checkpoints(config, folder)

    callbacks = [recorder, tensorboard]
    simulation = Simulation(searcher, scheduler, objective, trials, AT_ONCE, callbacks=callbacks)
    simulation.run()
    begin, early, late = (seconds[number] for number in (1, trials // 10, trials - trials // 10))
    parts = {
        "first tenth": pd.Series(early - begin) / (trials // 10),
        "last tenth": pd.Series(watch.seconds - late) / (trials // 10),
        "all": pd.Series(watch.seconds) / trials,
    }
    return 1e3 * pd.DataFrame(parts).fillna(0).sort_values("all", ascending=False)


def with_checkpoints(config: Mapping[str, Any], folder: Path) -> Iterator[Report]:
    """The reports of a trial; reports at rungs name a checkpoint folder."""
    recipe = Recipe.model_validate_json(config["recipe"])
    yield 0, {ALIVE: 0}
    for tokens, report in LearningCurves(seed=0, between=True).reports(recipe):
        if METRIC not in report:
            yield tokens, report
            continue
        checkpoint = folder / files.TRIAL_FOLDERS / config["trial"] / f"rung{report['rung']}"
        checkpoint.mkdir(parents=True)
        yield tokens, {**report, CHECKPOINT_PATH_KEY: str(checkpoint)}


@dataclass(frozen=True)
class OnRay:
    """The time that a search on Ray took."""

    trials: int
    seconds: float
    waited: float
    """The part of `seconds` that trials waited instead of training; the rest is orchestration."""
    driver_cpu_seconds: float

    @property
    def seconds_a_trial(self) -> float:
        """Seconds of orchestration per trial."""
        return (self.seconds - self.waited) / self.trials


def on_ray(trials: int, folder: Path) -> OnRay:
    """Run the search layer on a Ray instance started on this machine.

    Args:
        trials: number of trials.
        folder: run folder to create.
    """
    folder.mkdir(parents=True)
    held = cluster.hold_logs()
    cluster.send_logs_to(folder / files.LOG, held)
    cluster.start_on_this_machine(dashboard=False)
    cpus = ray.cluster_resources()["CPU"] / AT_ONCE
    needed = cluster.Placement(workers=1, cpus=cpus, gpus=0)
    search_file = load_search_file(SEARCHED, overrides=[f"search.trials={trials}"])
    reporting = tune.with_resources(wait_and_report, {"CPU": cpus})
    no_data = SimpleNamespace(folder=folder, fingerprints=lambda *scored: {})
    plan = make_plan(search_file, AT_ONCE, needed, pace=None)
    started, cpu = time.perf_counter(), time.process_time()
    try:
        with mock.patch.object(search, "trainable", return_value=reporting):
            results = search.run_search(plan, no_data, folder, Console(file=StringIO()))
    finally:
        ray.shutdown()
    full = budget.budget_tokens(search_file.baseline())
    return OnRay(
        trials=len(results.trials),
        seconds=time.perf_counter() - started,
        waited=results.trials["tokens_trained"].sum() / full * SECONDS_IN_FULL / AT_ONCE,
        driver_cpu_seconds=time.process_time() - cpu,
    )


def wait_and_report(config: dict[str, Any]) -> None:
    """The Tune function of a trial that waits instead of training."""
    recipe = Recipe.model_validate_json(config["recipe"])
    full = budget.budget_tokens(recipe)
    tune.report({ALIVE: 0})
    before = 0.0
    for tokens, report in LearningCurves(seed=0, between=True).reports(recipe):
        time.sleep((tokens - before) / full * SECONDS_IN_FULL)
        before = tokens
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "checkpoint.pt").write_bytes(b"state")
            checkpoint = Checkpoint.from_directory(folder) if METRIC in report else None
            tune.report(dict(report), checkpoint=checkpoint)


def main(arguments: list[str] | None = None) -> None:
    """Print both measurements."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.orchestration", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--trials", type=int, default=1000, help="in virtual time")
    parser.add_argument("--ray-trials", type=int, default=1000, help="on Ray; 0 for none")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        print(in_virtual_time(options.trials, Path(folder) / "virtual").round(2))
        if options.ray_trials:
            print(on_ray(options.ray_trials, Path(folder) / "ray"))


if __name__ == "__main__":
    run_command(main)
