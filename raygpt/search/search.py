"""The assembly: sampler, scheduler, trials and tables make a search."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from ray import tune
from rich.console import Console

from raygpt.recipe.search_file import SearchFile
from raygpt.results import files
from raygpt.results.tables import Results, RunTables, load_results
from raygpt.search.cluster import Placement
from raygpt.search.progress import Progress
from raygpt.search.recorder import Recorder
from raygpt.search.sampler import StudySearcher, open_study, settle_study, trial_name
from raygpt.search.scheduler import make_scheduler
from raygpt.search.trial import trainable


def run_search(
    search_file: SearchFile, folder: Path, needed: Placement, at_once: int, console: Console
) -> Results:
    """Run a search, or what is left of it, on the cluster that Ray is connected to.

    Ctrl-C ends it early; its unfinished trials then stay "running" in the tables.

    Args:
        search_file: ranges and recipe.
        folder: the run folder; what an earlier call left there is gone on from.
        needed: resources of a trial.
        at_once: trials that the cluster has room for.
        console: where the progress is shown.
    """
    search = search_file.search
    tables = RunTables(folder, search_file.ranges)
    study = open_study(folder / files.STUDY, search_file.name)
    unfinished = settle_study(study, {row["trial_id"]: row for row in tables.trials}, search_file)
    checkpoints = rewind(tables, unfinished)
    ended = sum(row["status"] != "running" for row in tables.trials)
    if ended >= search.trials:
        return load_results(folder)

    progress = Progress(tables, search_file, console)
    # A folder of its own for each session: a resumed trial must not write its checkpoints over the
    # one that it started from.
    sessions = len(list(folder.glob(f"{files.TRIAL_FOLDERS}*/")))
    session = f"{files.TRIAL_FOLDERS}-{sessions + 1}" if sessions else files.TRIAL_FOLDERS
    storage = folder.absolute()
    tuner = tune.Tuner(
        trainable(needed),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(
                study, search_file, needed, str(storage / session), checkpoints
            ),
            scheduler=make_scheduler(search, tables.history),
            num_samples=search.trials - ended,
            max_concurrent_trials=min(at_once, search.concurrent or at_once),
            reuse_actors=needed.workers == 1,
            trial_name_creator=lambda trial: trial.config["trial"],
            trial_dirname_creator=lambda trial: trial.config["trial"],
        ),
        run_config=tune.RunConfig(
            name=session,
            storage_path=str(storage),
            callbacks=[Recorder(tables, progress, last_rung=len(search.rungs) - 1)],
            verbose=0,
        ),
    )
    with progress:
        tuner.fit()
    remove_stray_checkpoints(tables)
    return load_results(folder)


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


def rewind(tables: RunTables, unfinished: list[int]) -> Mapping[int, str | None]:
    """Where each unfinished trial goes on from: the folder of its last checkpoint, or None.

    The reports that it is going to make again are taken out of the tables.
    """
    known = {row["trial_id"]: row for row in tables.trials}
    checkpoints = {}
    for number in unfinished:
        row = known.get(trial_name(number), {})
        path = tables.folder.absolute() / row["checkpoint"] if "checkpoint" in row else None
        there = path is not None and path.is_dir()
        checkpoints[number] = str(path) if there else None
        tables.drop_reports_after(trial_name(number), row["checkpoint_tokens"] if there else 0)
    return checkpoints
