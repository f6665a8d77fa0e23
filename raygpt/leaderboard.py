"""`python -m raygpt.leaderboard RUN`: the trials of a run, best first."""

import argparse

from raygpt.command import run_command
from raygpt.results.leaderboard import FORMATS, leaderboard, render
from raygpt.results.tables import load_results


def main(arguments: list[str] | None = None) -> None:
    """Print the leaderboard of a run."""
    parser = argparse.ArgumentParser(prog="python -m raygpt.leaderboard", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder, such as runs/lr_sched")
    parser.add_argument("--top", type=int, metavar="N", help="only the first N trials")
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        help="sort by this column instead; -COLUMN (as in --sort=-tokens) for descending",
    )
    parser.add_argument("--format", choices=FORMATS, default="table")
    options = parser.parse_args(arguments)
    if options.top is not None and options.top < 1:
        parser.error(f"--top {options.top}: must be at least 1")
    results = load_results(options.run)
    frame = leaderboard(results, options.sort, options.top)
    print(render(frame, options.format, words=results.conclusions))


if __name__ == "__main__":
    run_command(main)
