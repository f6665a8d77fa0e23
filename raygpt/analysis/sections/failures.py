"""Report: what failed, and why."""

from collections.abc import Iterator

from raygpt.analysis.blocks import Block, Table, Text
from raygpt.analysis.groups import short
from raygpt.analysis.run import Run
from raygpt.results import files
from raygpt.results.leaderboard import format_cell, format_value
from raygpt.wording import counted


def blocks(run: Run) -> Iterator[Block]:
    """The trials that failed or diverged, with their errors and values."""
    trials = run.trials[run.trials["status"].isin(["failed", "diverged"])]
    if trials.empty:
        yield Text("No trial failed or diverged.")
        return
    names = run.searched
    rows = [
        [format_cell(name, row[name]) for name in ("trial_id", "status", "error")]
        + [format_value(row[name]) for name in names]
        for row in trials.to_dict("records")
    ]
    titles = [short(name) for name in names]
    yield Text(f"{counted(len(trials), 'trial')} of {len(run.trials)} failed or diverged:")
    yield Table(["trial", "status", "why", *titles], rows, frozenset(titles))
    if (run.folder / files.LOG).is_file():
        yield Text(f"The messages of Ray and Optuna are in {run.folder / files.LOG}.")
