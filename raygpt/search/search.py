"""The assembly: sampler, scheduler, trials and tables make a search."""

import shutil
import signal
from collections.abc import Callable, Iterable
from pathlib import Path

from ray import tune
from ray.tune.logger import LoggerCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from rich.console import Console

from raygpt.data.dataset import Dataset
from raygpt.recipe.search_file import SearchFile
from raygpt.results import files
from raygpt.results.tables import Results, RunTables, load_results
from raygpt.search.cluster import Placement
from raygpt.search.confirm import RunSearcher, unfinished_runs, write_confirmed_best
from raygpt.search.preparation import PreparedTokens
from raygpt.search.progress import Progress
from raygpt.search.recorder import Recorder
from raygpt.search.sampler import StudySearcher, open_study, settle_study, trial_name
from raygpt.search.scheduler import make_scheduler
from raygpt.search.tracking import TensorBoard, Tracker
from raygpt.search.trial import trainable
from raygpt.search.warm_start import seed_study
from raygpt.search.watchdog import Watchdog


def run_search(
    search_file: SearchFile,
    dataset: Dataset,
    folder: Path,
    needed: Placement,
    at_once: int,
    console: Console,
    tracker: LoggerCallback | None = None,
) -> Results:
    """Run a search and its confirmation, or what is left of them, on the cluster that Ray is
    connected to.

    Ctrl-C ends it early; its unfinished trials then stay "running" in the tables.

    Args:
        search_file: ranges and recipe.
        dataset: its tokens, prepared on this node.
        folder: the run folder; what an earlier call left there is gone on from.
        needed: resources of a trial.
        at_once: trials that the cluster has room for.
        console: where the progress is shown.
        tracker: from `open_tracker`, for a search that is handed on to it as well.
    """
    search = search_file.search
    recipe = search_file.baseline()
    tokens = PreparedTokens.of(dataset, search_file)
    tables = RunTables(
        folder,
        search_file.ranges,
        dataset.fingerprints(recipe.data.validation_tokens, recipe.data.context),
    )
    study = open_study(folder / files.STUDY, search_file.name)
    unfinished = settle_study(study, {row["trial_id"]: row for row in tables.trials})
    for line in seed_study(study, search_file):
        console.print(line, soft_wrap=True)
    progress = Progress(tables, search_file, console)
    trackers = [Tracker(tracker, tables, console)] if tracker else []

    def to_come() -> int:
        return search.trials - sum(row["status"] != "running" for row in tables.search_trials)

    def run(
        make_searcher: Callable[[str], Searcher], scheduler: TrialScheduler, trials: int
    ) -> None:
        """So many trials, in a new folder that the searcher is told."""
        session = next_session(folder)
        storage = folder.absolute()
        searcher = make_searcher(str(storage / session))
        recorder = Recorder(tables, progress, last_rung=len(search.rungs) - 1, ended=searcher.ended)
        tuner = tune.Tuner(
            trainable(needed, tokens, search_file.own),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=scheduler,
                num_samples=trials,
                max_concurrent_trials=min(at_once, search.concurrent or at_once),
                reuse_actors=needed.workers == 1,
                trial_name_creator=lambda trial: trial.config["trial"],
                trial_dirname_creator=lambda trial: trial.config["trial"],
            ),
            run_config=tune.RunConfig(
                name=session,
                storage_path=str(storage),
                callbacks=[
                    recorder,
                    TensorBoard(tables),
                    *trackers,
                    Watchdog(search.hang_timeout, recorder.give_up),
                ],
                verbose=0,
            ),
        )
        # Tune puts its own in place, and takes it away only if it was called.
        on_interrupt = signal.getsignal(signal.SIGINT)
        try:
            tuner.fit()
        finally:
            signal.signal(signal.SIGINT, on_interrupt)
            tables.flush()

    with progress:
        if to_come() > 0:
            checkpoints = rewind(tables, map(trial_name, unfinished))
            resumed = {number: checkpoints[trial_name(number)] for number in unfinished}
            own = {row["trial_id"] for row in tables.search_trials}
            run(
                lambda storage: StudySearcher(study, search_file, needed, storage, resumed),
                make_scheduler(search, [row for row in tables.history if row["trial_id"] in own]),
                to_come(),
            )
        if to_come() <= 0 and (runs := unfinished_runs(tables.trials, search_file)):
            progress.confirming(len(runs))
            checkpoints = rewind(tables, [confirming.trial_id for confirming in runs])
            run(
                lambda storage: RunSearcher(runs, search_file, needed, storage, checkpoints),
                FIFOScheduler(),
                len(runs),
            )
    write_confirmed_best(tables, search_file)
    remove_stray_checkpoints(tables)
    return load_results(folder)


def next_session(folder: Path) -> str:
    """The name of a new folder for trials, in the run folder.

    A resumed trial must not write its checkpoints over the one that it started from.
    """
    sessions = len(list(folder.glob(f"{files.TRIAL_FOLDERS}*/")))
    return f"{files.TRIAL_FOLDERS}-{sessions + 1}" if sessions else files.TRIAL_FOLDERS


def remove_stray_checkpoints(tables: RunTables) -> None:
    """Delete what the workers of groups saved while Tune was deciding to stop them.

    They do not wait for its decision, and nothing refers to those checkpoints.
    """
    for row in tables.trials:
        if "checkpoint" not in row:
            continue
        kept = tables.folder / row["checkpoint"]
        for folder in kept.parent.glob("checkpoint_*/"):
            if folder != kept:
                shutil.rmtree(folder, ignore_errors=True)


def rewind(tables: RunTables, unfinished: Iterable[str]) -> dict[str, str | None]:
    """Where each unfinished trial goes on from: the folder of its last checkpoint, or None.

    The reports that it is going to make again are taken out of the tables.

    Args:
        tables: of the run.
        unfinished: trial_ids; of those that are not in the tables, too.
    """
    known = {row["trial_id"]: row for row in tables.trials}
    checkpoints = {}
    for trial_id in unfinished:
        row = known.get(trial_id, {})
        path = tables.folder.absolute() / row["checkpoint"] if "checkpoint" in row else None
        there = path is not None and path.is_dir()
        checkpoints[trial_id] = str(path) if there else None
        tables.drop_reports_after(trial_id, row["checkpoint_tokens"] if there else 0)
    return checkpoints
