"""Resuming unfinished trials: their checkpoints and values, from the tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raygpt.recipe.errors import RecipeError
from raygpt.recipe.search_file import SearchFile
from raygpt.results.tables import RunTables


@dataclass(frozen=True)
class Unfinished:
    """A trial that another attempt is going to finish."""

    trial_id: str
    checkpoint: str | None = None
    """Folder of its last checkpoint; None if it starts again from the beginning."""
    values: Mapping[str, Any] | None = None
    """Its searched values by dotted name, as its row has them; None if it has no row yet."""


def rewind(
    tables: RunTables, search_file: SearchFile, unfinished: Iterable[str]
) -> list[Unfinished]:
    """Take trials back to their last checkpoints.

    Reports made after the checkpoint are removed from the tables, because the trial is going to
    make them again.

    Args:
        tables: the run's tables.
        search_file: ranges and recipe.
        unfinished: trial_ids; they need not be in the tables.
    """
    known = {row["trial_id"]: row for row in tables.trials}
    found = []
    for trial_id in unfinished:
        row = known.get(trial_id)
        checkpoint, kept_tokens = None, 0
        if row and "checkpoint" in row:
            path = tables.folder.absolute() / row["checkpoint"]
            if path.is_dir():
                checkpoint, kept_tokens = str(path), row["checkpoint_tokens"]
        tables.drop_reports_after(trial_id, kept_tokens)
        found.append(Unfinished(trial_id, checkpoint, row and values_of_row(row, search_file)))
    return found


def values_of_row(row: Mapping[str, Any], search_file: SearchFile) -> dict[str, Any] | None:
    """The searched values in a row of the trials' table; None if one cannot be read from it.

    They are taken as they are: an earlier version's trial has values with all digits of a float,
    and its checkpoint belongs to the recipe with exactly these.
    """
    read = search_file.schema.read_value
    try:
        return {key: read(key, row[key]) for key in search_file.ranges}
    except (KeyError, RecipeError):
        return None
