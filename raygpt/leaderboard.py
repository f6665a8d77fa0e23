"""`python -m raygpt.leaderboard RUN …`: the trials of one or more runs, best first."""

import argparse

from raygpt.command import run_command
from raygpt.results.leaderboard import (
    FORMATS,
    leaderboard,
    refuse_incomparable,
    render,
    run_names,
)
from raygpt.results.tables import load_results


def main(arguments: list[str] | None = None) -> None:
    """Print the leaderboard."""
    parser = argparse.ArgumentParser(prog="python -m raygpt.leaderboard", description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, such as runs/lr_sched")
    parser.add_argument("--top", type=int, metavar="N", help="only the first N trials")
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        help="sort by this column instead; -COLUMN (as in --sort=-tokens) for descending",
    )
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument(
        "--force",
        action="store_true",
        help="show runs beside each other that were judged on different validation sets",
    )
    options = parser.parse_args(arguments)
    if options.top is not None and options.top < 1:
        parser.error(f"--top {options.top}: must be at least 1")
    runs = [load_results(folder) for folder in options.runs]
    if len(runs) > 1 and not options.force:
        refuse_incomparable(runs)
    words = [
        f"{name}: {text}" if len(runs) > 1 else text
        for name, results in zip(run_names(runs), runs, strict=True)
        for text in results.conclusions
    ]
    frame = leaderboard(runs, options.sort, options.top)
    print(render(frame, options.format, words=words))


if __name__ == "__main__":
    run_command(main)
