"""The summary that a search prints at its end."""

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from raygpt.recipe.search_file import SearchFile
from raygpt.results import files
from raygpt.results.checkpoints import best_saved
from raygpt.results.leaderboard import leaderboard, render
from raygpt.results.overfitting import describe_overfitting
from raygpt.results.tables import Results, rows
from raygpt.search.confirm import (
    configurations_to_confirm,
    confirm_settings,
    confirming_runs,
    unfinished_runs,
)
from raygpt.wording import shell_quoted

SHOWN = 5


def summarise(results: Results, search_file: SearchFile) -> tuple[str, int]:
    """The top of the leaderboard, the paths of all results, and the exit status.

    Args:
        results: results of the run.
        search_file: ranges and recipe.

    Returns:
        The text; and 0, or 1 if no trial reached a rung, or 130 if the search was interrupted.
    """
    folder = results.folder
    of_search = results.trials["confirms"].isna()
    own, confirming = results.trials[of_search], results.trials[~of_search]
    trials = rows(results.trials)
    headline = count_ended(own, search_file.search.trials, "trials")
    interrupted = (own["status"] != "running").sum() < search_file.search.trials
    if not interrupted:
        headline += describe_confirmation(confirming, trials, search_file)
        interrupted = bool(unfinished_runs(trials, search_file))
    status = 1 if results.best is None else 0
    if interrupted:
        status = 130
        runs_dir = (
            "" if folder.parent == Path("runs") else f" --runs-dir {shell_quoted(folder.parent)}"
        )
        headline = (
            f"Interrupted: {headline} All results are kept; continue with\n"
            f"  python -m raygpt.tune {shell_quoted(folder / files.SEARCH)} --resume{runs_dir}"
        )
    parts = [headline]
    if len(results.trials):
        top = max(SHOWN, confirming["confirms"].nunique())
        table = render(leaderboard([results], top=top), "table", words=results.conclusions)
        parts += ["", table, ""]
        if warning := describe_overfitting(results):
            parts += [warning, ""]
    parts += [
        f"all trials    python -m raygpt.leaderboard {shell_quoted(folder)}",
        f"tables        {folder / files.TRIALS}, {folder / files.HISTORY}",
    ]
    if (folder / files.BEST_RECIPE).exists():
        parts.append(
            f"best recipe   python -m raygpt.train {shell_quoted(folder / files.BEST_RECIPE)}"
        )
    if (saved := best_saved(results)) is not None:
        parts.append(f"best model    {folder / saved['checkpoint']}")
    parts.append(f"log           {folder / files.LOG}")
    return "\n".join(parts), status


def describe_confirmation(
    confirming: pd.DataFrame, trials: list[dict[str, Any]], search_file: SearchFile
) -> str:
    """The state of the confirmation of a search that has ended; empty if there is none.

    Args:
        confirming: rows of the confirming runs that have begun.
        trials: all rows of the trials' table.
        search_file: ranges and recipe.
    """
    text = ""
    runs = max(len(confirming_runs(trials, search_file)), len(confirming))
    if runs:
        text += " " + count_ended(confirming, runs, "runs that confirm them")
    confirm = confirm_settings(search_file)
    if confirm:
        chosen = configurations_to_confirm(trials, search_file)
        best = sum(not row.get("baseline") for row in chosen)
        if best < confirm.top:
            text += f" Only {best} of the {confirm.top} configurations to confirm were completed."
    return text


def count_ended(trials: pd.DataFrame, total: int, what: str) -> str:
    """A sentence on how many of a total number of trials have ended, with which statuses."""
    counts = Counter(trials["status"])
    statuses = ", ".join(f"{number} {status}" for status, number in counts.items())
    return f"{len(trials) - counts['running']} of {total} {what} ended ({statuses})."
