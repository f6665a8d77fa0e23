"""Which checkpoint a run's best model is in, and which trial a checkpoint is of."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.tables import Results, load_results, rows


@dataclass(frozen=True)
class FoundCheckpoint:
    """A checkpoint's folder, and what the tables of its run say of it."""

    folder: Path
    results: Results | None = None
    """Of the run folder that it lies in; None where it lies in none."""
    trial: dict[str, Any] | None = None
    """The row whose last saved state it is, missing values left out."""


def find_checkpoint(path: Path) -> FoundCheckpoint:
    """The checkpoint that a user means: this very folder, or the best model of this run.

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
            f"{files.CHECKPOINT_FILE} in it)" + (f"; in there: {', '.join(inside)}" * bool(inside))
        )
    results = load_results(path)
    trial = best_saved(results)
    if trial is None:
        raise UserError(
            f"{path}: has no saved model of which a figure is known; its trials: "
            + (", ".join(results.trials["status"]) or "none yet")
        )
    return FoundCheckpoint(path / trial["checkpoint"], results, trial)


def best_saved(results: Results) -> dict[str, Any] | None:
    """The row of the best trial, or of a run that confirms it and went farther; None if unsaved."""
    if results.best is None:
        return None
    trials = results.trials[results.trials["checkpoint"].notna()]
    name = results.best["trial_id"]
    same = trials[(trials["trial_id"] == name) | (trials["confirms"] == name).fillna(False)]
    return next(iter(rows(same.sort_values("tokens", ascending=False, kind="stable"))), None)


def _of_its_run(folder: Path) -> FoundCheckpoint:
    """The checkpoint with the trial that it is of, where it lies in a run folder."""
    whole = folder.resolve()
    for parent in whole.parents:
        if (parent / files.TRIALS).is_file():
            results = load_results(parent)
            for row in rows(results.trials):
                if "checkpoint" in row and (parent / row["checkpoint"]).resolve() == whole:
                    return FoundCheckpoint(folder, results, row)
    return FoundCheckpoint(folder)
