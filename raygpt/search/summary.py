"""What a search says when it is over."""

import shlex
from collections import Counter
from pathlib import Path

from raygpt.recipe.search_file import SearchFile
from raygpt.results import files
from raygpt.results.leaderboard import leaderboard, render
from raygpt.results.tables import Results

SHOWN = 5


def summarise(results: Results, search_file: SearchFile) -> tuple[str, int]:
    """The leaderboard's top and where everything is, and the exit status that the search earns.

    Args:
        results: of the run.
        search_file: what was to be run.

    Returns:
        Text; and 0, 1 if no trial came to a result, or 130 if the search was interrupted.
    """
    folder = results.folder
    counts = Counter(results.trials["status"])
    ended = len(results.trials) - counts["running"]
    statuses = ", ".join(f"{number} {status}" for status, number in counts.items())
    headline = f"{ended} of {search_file.search.trials} trials ended ({statuses})."
    status = 1 if results.best is None else 0
    if ended < search_file.search.trials:
        status = 130
        runs = "" if folder.parent == Path("runs") else f" --runs-dir {quoted(folder.parent)}"
        headline = (
            f"Interrupted: {headline} All results are kept; go on with\n"
            f"  python -m raygpt.tune {quoted(folder / files.SEARCH)} --resume{runs}"
        )
    parts = [headline]
    if len(results.trials):
        parts += ["", render(leaderboard(results, top=SHOWN), "table"), ""]
    parts += [
        f"leaderboard   python -m raygpt.leaderboard {quoted(folder)}",
        f"tables        {folder / files.TRIALS}, {folder / files.HISTORY}",
    ]
    if (folder / files.BEST_RECIPE).exists():
        parts.append(f"best recipe   python -m raygpt.train {quoted(folder / files.BEST_RECIPE)}")
    if results.best is not None and "checkpoint" in results.best.dropna():
        parts.append(f"best model    {folder / results.best['checkpoint']}")
    parts.append(f"log           {folder / files.LOG}")
    return "\n".join(parts), status


def quoted(path: Path) -> str:
    """A path as a shell takes it."""
    return shlex.quote(str(path))
