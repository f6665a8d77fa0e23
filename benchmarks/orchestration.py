"""What the search layer costs a trial, training aside: `python -m benchmarks.orchestration`

The whole assembly (study in SQLite, sampler, rungs, tables, progress) runs a search of many trials
whose reports are made up (`benchmarks.learning_curves`), about twenty for one that comes to the end.
First in virtual time, where nothing is left but its own work; then on Ray, with trials that only
wait and report, which adds what Ray takes to place them and to carry their reports.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pandas as pd
import ray
from ray import tune
from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY
from rich.console import Console

from benchmarks.learning_curves import LearningCurves
from raygpt.command import run_command
from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.results import files
from raygpt.results.tables import RunTables
from raygpt.search import search
from raygpt.search.cluster import Placement
from raygpt.search.progress import Progress
from raygpt.search.recorder import Recorder
from raygpt.search.sampler import StudySearcher, open_study
from raygpt.search.scheduler import METRIC, make_scheduler
from raygpt.search.simulation import Report, Simulation
from raygpt.search.trial import ALIVE
from raygpt.search.warm_start import seed_study

SEARCHED = Path(__file__).parents[1] / "search_spaces" / "lr_sched.yaml"
AT_ONCE = 8


class Stopwatch:
    """Measures the seconds spent in the methods of objects, those within others not counted twice.

    Args:
        clock: of seconds.
    """

    def __init__(self, clock: Any = time.perf_counter):
        self._clock = clock
        self.seconds: Counter[str] = Counter()
        self._within: list[float] = []

    def watch(self, part: str, watched: Any, *names: str) -> None:
        """Count calls of these methods of an object to a part."""
        for name in names:
            setattr(watched, name, self._watching(part, getattr(watched, name)))

    def _watching(self, part: str, method: Any) -> Any:
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
    """Run the assembly in this process.

    Args:
        trials: of the search.
        folder: for its run folder.

    Returns:
        CPU milliseconds a trial; a row a part, with columns for the first and the last tenth of
        the trials and for all of them.
    """
    search_file = load_search_file(SEARCHED, overrides=[f"search.trials={trials}"])
    tables = RunTables(folder, search_file.ranges)
    study = open_study(folder / files.STUDY, search_file.name)
    seed_study(study, search_file)
    placement = Placement(workers=1, cpus=1, gpus=0)
    searcher = StudySearcher(study, search_file, placement, str(folder), resumed={})
    scheduler = make_scheduler(search_file.search)
    progress = Progress(tables, search_file, Console(file=StringIO()))
    last_rung = len(search_file.search.rungs) - 1
    recorder = Recorder(tables, progress, last_rung, searcher.ended)

    watch = Stopwatch(time.process_time)
    watch.watch("sampler and study", searcher, "suggest", "on_trial_result", "ended")
    watch.watch("rungs", scheduler, "on_trial_add", "on_trial_result", "on_trial_complete")
    watch.watch("tables", tables, *TABLE_METHODS)
    watch.watch("progress", progress, "began", "reported", "ended")
    watch.watch("recorder", recorder, "on_trial_start", "on_trial_result", "on_trial_complete")
    marks = {}

    def mark() -> None:
        marks[len(simulation.trials)] = Counter(watch.seconds)

    def objective(config: Mapping[str, Any]) -> Iterator[Report]:
        mark()
        return with_checkpoints(config, folder)

    simulation = Simulation(searcher, scheduler, objective, trials, AT_ONCE, callbacks=[recorder])
    simulation.run()
    mark()
    tenth = trials // 10
    begin, early, late, end = (marks[n] for n in (1, tenth, trials - tenth, trials))
    return 1e3 * pd.DataFrame(
        {
            "first tenth": pd.Series(early - begin) / tenth,
            "last tenth": pd.Series(end - late) / tenth,
            "all": pd.Series(end) / trials,
        }
    )


def with_checkpoints(config: Mapping[str, Any], folder: Path) -> Iterator[Report]:
    """The reports of a trial, at rungs with the folder of a checkpoint."""
    recipe = Recipe.model_validate_json(config["recipe"])
    yield 0, {ALIVE: 0}
    for tokens, report in LearningCurves(seed=0, between=True).reports(recipe):
        if METRIC not in report:
            yield tokens, report
            continue
        checkpoint = folder / files.TRIAL_FOLDERS / config["trial"] / f"rung{report['rung']}"
        checkpoint.mkdir(parents=True)
        yield tokens, {**report, CHECKPOINT_PATH_KEY: str(checkpoint)}


TABLE_METHODS = ("begin_trial", "add_report", "set_checkpoint", "end_trial", "best")
