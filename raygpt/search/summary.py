"""What a search says when it is over."""

from collections import Counter
from pathlib import Path

from raygpt.recipe.search_file import SearchFile
from raygpt.results import files
from raygpt.results.leaderboard import leaderboard, render
from raygpt.results.tables import Results

SHOWN = 5


def summarise(results: Results, search_file: SearchFile, path: Path) -> tuple[str, bool]:
    """The leaderboard's top and where everything is, and whether the search is unfinished.

    Args:
        results: of the run.
        search_file: what was to be run.
        path: the search file as the user named it.
    """
    folder = results.folder
    counts = Counter(results.trials["status"])
    ended = len(results.trials) - counts["running"]
    unfinished = ended < search_file.search.trials
    statuses = ", ".join(f"{number} {status}" for status, number in counts.items())
    headline = f"{ended} of {search_file.search.trials} trials ended ({statuses})."
    if unfinished:
        runs = "" if folder == Path("runs") / search_file.name else f" --runs-dir {folder.parent}"
        name = "" if folder.name == search_file.name else f" --name {folder.name}"
        headline = (
            f"Interrupted: {headline} All results are kept; go on with\n"
            f"  python -m raygpt.tune {path} --resume{runs}{name}"
        )
    parts = [headline]
    if len(results.trials):
        parts += ["", render(leaderboard(results, top=SHOWN), "table"), ""]
    parts += [
        f"leaderboard   python -m raygpt.leaderboard {folder}",
        f"tables        {folder / files.TRIALS}, {folder / files.HISTORY}",
    ]
    if (folder / files.BEST_RECIPE).exists():
        parts.append(f"best recipe   python -m raygpt.train {folder / files.BEST_RECIPE}")
    if results.best is not None and "checkpoint" in results.best.dropna():
        parts.append(f"best model    {folder / results.best['checkpoint']}")
    parts.append(f"log           {folder / files.LOG}")
    return "\n".join(parts), unfinished
