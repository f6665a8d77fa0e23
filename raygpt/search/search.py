"""Runs a search: sampler, scheduler, trials and tables put together."""

import shutil
import signal
from pathlib import Path

import optuna
from ray import tune
from ray.tune.logger import LoggerCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from rich.console import Console

from raygpt.data.dataset import Dataset
from raygpt.results import files
from raygpt.results.tables import Results, RunTables, load_results
from raygpt.search.confirm import RunSearcher, unfinished_runs, write_confirmed_best
from raygpt.search.forecast import Forecast
from raygpt.search.plan import SearchPlan
from raygpt.search.preparation import PreparedTokens
from raygpt.search.progress import Progress
from raygpt.search.recorder import Recorder
from raygpt.search.resume import rewind
from raygpt.search.sampler import StudySearcher, open_study, settle_study
from raygpt.search.scheduler import make_scheduler
from raygpt.search.tracking import TensorBoard, Tracker
from raygpt.search.trial import trainable
from raygpt.search.warm_start import seed_study
from raygpt.search.watchdog import Watchdog


def run_search(
    plan: SearchPlan,
    dataset: Dataset,
    folder: Path,
    console: Console,
    tracker: LoggerCallback | None = None,
) -> Results:
    """Run a search and its confirmation, or what is left of them, on the connected Ray cluster.

    Ctrl-C ends it early; its unfinished trials then stay "running" in the tables.

    Args:
        plan: the search, and how many of its trials run side by side.
        dataset: its tokens, prepared on this node.
        folder: the run folder; a run that is there already is resumed.
        console: where the progress is shown.
        tracker: from `open_tracker`, if the trials are logged there as well.
    """
    run = SearchRun(plan, dataset, folder, console, tracker)
    study = run.open_study()
    with run.progress:
        run.train_trials(study)
        run.confirm()
    run.finish()
    return load_results(folder)


class SearchRun:
    """The steps of a search; its state is in the run folder.

    Args:
        plan: the search, and how many of its trials run side by side.
        dataset: its tokens, prepared on this node.
        folder: the run folder.
        console: where the progress is shown.
        tracker: from `open_tracker`, if the trials are logged there as well.
    """

    def __init__(
        self,
        plan: SearchPlan,
        dataset: Dataset,
        folder: Path,
        console: Console,
        tracker: LoggerCallback | None = None,
    ):
        self.plan = plan
        self.search_file = plan.search_file
        self.folder = folder
        self.console = console
        data = self.search_file.data
        self._fingerprints = dataset.fingerprints(data.validation_tokens, data.context)
        self.tables = RunTables(folder, self.search_file.ranges, self._fingerprints)
        forecast = Forecast(self.tables, plan)
        self.progress = Progress(self.tables, self.search_file, console, forecast)
        self._tokens = PreparedTokens.of(dataset, self.search_file)
        self._tracker = tracker

    def open_study(self) -> optuna.Study:
        """The search's study, with the trials that it starts from; says what was taken over."""
        study = open_study(self.folder / files.STUDY, self.search_file.name)
        for line in seed_study(study, self.search_file, self._fingerprints):
            self.console.print(line, soft_wrap=True)
        return study

    def train_trials(self, study: optuna.Study) -> None:
        """Resume the search's unfinished trials, and propose new ones until there are enough."""
        rows = {row["trial_id"]: row for row in self.tables.trials}
        unfinished = settle_study(study, rows)
        if self._trials_left() == 0:
            return
        resumed = rewind(self.tables, self.search_file, unfinished)
        storage = self._new_session()
        searcher = StudySearcher(study, self.search_file, self.plan.needed, str(storage), resumed)
        own = {row["trial_id"] for row in self.tables.search_trials}
        reports = [row for row in self.tables.history if row["trial_id"] in own]
        scheduler = make_scheduler(self.search_file.search, reports)
        self._run_session(storage, searcher, scheduler, self._trials_left())

    def confirm(self) -> None:
        """Train the best configurations again, if the search has ended and its recipe says so."""
        if self._trials_left() > 0:
            return
        runs = unfinished_runs(self.tables.trials, self.search_file)
        if not runs:
            return
        self.progress.confirming(len(runs))
        resumed = rewind(self.tables, self.search_file, [run.trial_id for run in runs])
        storage = self._new_session()
        searcher = RunSearcher(runs, self.search_file, self.plan.needed, str(storage), resumed)
        self._run_session(storage, searcher, FIFOScheduler(), len(runs))

    def finish(self) -> None:
        """Write the confirmed best recipe, and delete checkpoints that nothing refers to."""
        write_confirmed_best(self.tables, self.search_file)
        remove_stray_checkpoints(self.tables)

    def _trials_left(self) -> int:
        """Number of the search's trials that have not ended."""
        ended = sum(row["status"] != "running" for row in self.tables.search_trials)
        return max(0, self.search_file.search.trials - ended)

    def _new_session(self) -> Path:
        """A folder for the trials of this process that does not exist yet.

        A resumed trial must not overwrite the checkpoint that it continues from.
        """
        sessions = len(list(self.folder.glob(f"{files.TRIAL_FOLDERS}*/")))
        name = f"{files.TRIAL_FOLDERS}-{sessions + 1}" if sessions else files.TRIAL_FOLDERS
        return self.folder.absolute() / name

    def _run_session(
        self,
        storage: Path,
        searcher: StudySearcher | RunSearcher,
        scheduler: TrialScheduler,
        trials: int,
    ) -> None:
        """Run `trials` trials in a new session folder, `storage`, which the searcher knows."""
        search = self.search_file.search
        recorder = Recorder(
            self.tables, self.progress, last_rung=len(search.rungs) - 1, ended=searcher.ended
        )
        callbacks = [
            recorder,  # first, because the others read the tables
            TensorBoard(self.tables),
            *([Tracker(self._tracker, self.tables, self.console)] if self._tracker else []),
            Watchdog(search.hang_timeout, recorder.give_up),
        ]
        tuner = tune.Tuner(
            trainable(self.plan.needed, self._tokens, self.search_file.own),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=trials,
                max_concurrent_trials=self.plan.at_once,
                reuse_actors=self.plan.needed.workers == 1,
                trial_name_creator=lambda trial: trial.config["trial"],
                trial_dirname_creator=lambda trial: trial.config["trial"],
            ),
            run_config=tune.RunConfig(
                name=storage.name,
                storage_path=str(storage.parent),
                callbacks=callbacks,
                verbose=0,
            ),
        )
        # Tune installs a handler of its own, and restores this one only if that was called.
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            tuner.fit()
        finally:
            signal.signal(signal.SIGINT, on_interrupt)
            self.tables.flush()


def remove_stray_checkpoints(tables: RunTables) -> None:
    """Delete checkpoints that the workers of a group saved while Tune was deciding to stop them.

    The workers do not wait for the decision, and nothing refers to those checkpoints.
    """
    for row in tables.trials:
        if "checkpoint" not in row:
            continue
        kept = tables.folder / row["checkpoint"]
        for folder in kept.parent.glob("checkpoint_*/"):
            if folder != kept:
                shutil.rmtree(folder, ignore_errors=True)
