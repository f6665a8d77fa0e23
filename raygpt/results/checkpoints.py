"""Which checkpoint has a run's best model, and which trial a checkpoint belongs to."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.tables import Results, load_results, rows


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint's folder, and its trial in the tables of its run."""

    folder: Path
    results: Results | None = None
    """The run that the folder belongs to; None if it is not in a run folder."""
    trial: dict[str, Any] | None = None
    """The row of the trial whose last checkpoint it is, without missing values."""


def find_checkpoint(path: Path) -> FoundCheckpoint:
    """The checkpoint that a path names: its own folder, or a run folder for the best model.

    Raises:
        UserError: it is neither, or the run has no saved model yet.
    """
    if (path / files.CHECKPOINT_FILE).is_file():
        return _of_its_run(path)
    if not (path / files.TRIALS).is_file():
        if not path.exists():
            raise UserError(f"{path}: no such folder")
        inside = sorted(
            str(file.parent)
            for name in (files.TRIALS, files.CHECKPOINT_FILE)
            for file in path.glob(f"*/{name}")
        )
        raise UserError(
            f"{path}: neither a run folder (no {files.TRIALS} in it) nor a checkpoint (no "
            f"{files.CHECKPOINT_FILE} in it)" + (f"; in it: {', '.join(inside)}" * bool(inside))
        )
    results = load_results(path)
    trial = best_saved(results)
    if trial is None:
        raise UserError(
            f"{path}: has no saved model with a result; statuses of its trials: "
            + (", ".join(results.trials["status"]) or "none yet")
        )
    return FoundCheckpoint(path / trial["checkpoint"], results, trial)


def best_saved(results: Results) -> dict[str, Any] | None:
    """The row of the best trial, or of a further run of it at a larger budget; None if unsaved."""
    if results.best is None:
        return None
    trials = results.trials[results.trials["checkpoint"].notna()]
    name = results.best["trial_id"]
    same = trials[(trials["trial_id"] == name) | (trials["confirms"] == name).fillna(False)]
    return next(iter(rows(same.sort_values("tokens", ascending=False, kind="stable"))), None)


def _of_its_run(folder: Path) -> FoundCheckpoint:
    """The checkpoint with its trial, if it lies in a run folder."""
    whole = folder.resolve()
    for parent in whole.parents:
        if (parent / files.TRIALS).is_file():
            results = load_results(parent)
            for row in rows(results.trials):
                if "checkpoint" in row and (parent / row["checkpoint"]).resolve() == whole:
                    return FoundCheckpoint(folder, results, row)
    return FoundCheckpoint(folder)
