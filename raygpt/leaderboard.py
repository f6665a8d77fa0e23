"""`python -m raygpt.leaderboard RUN …`: the trials of one or more runs, best first."""

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from raygpt.command import command_parser, run_command
from raygpt.results.comparability import why_incomparable
from raygpt.results.conditions import describe_none
from raygpt.results.leaderboard import (
    FORMATS,
    by_name,
    every_trial,
    leaderboard,
    linked_table,
    render,
)
from raygpt.results.run_comparison import describe_budgets, refuse_incomparable, scored_texts
from raygpt.results.run_folder import is_being_run
from raygpt.results.tables import Results, load_results
from raygpt.results.watch import watch


def main(arguments: list[str] | None = None) -> None:
    """Print the leaderboard."""
    options = parse_arguments(arguments)
    console = Console(highlight=False, markup=False, emoji=False)
    folders = [Path(folder) for folder in options.runs]
    if options.watch:
        watch(lambda: watched(options), lambda: any(map(is_being_run, folders)), console)
        return
    runs = load_runs(options)
    frame = leaderboard(runs, options.sort, options.top, options.where)
    texts = {"words": conclusions(runs), "notes": notes(runs)}
    nothing = ""
    if frame.empty and options.where:
        nothing = describe_none(every_trial(runs), options.where)
    if options.format == "table" and console.is_terminal:
        console.print(linked_table(frame, **texts), soft_wrap=True)
    else:
        print(render(frame, options.format, **texts))
    if nothing:
        print(nothing, file=sys.stderr)


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("leaderboard", __doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, such as runs/lr_sched")
    parser.add_argument("--top", type=int, metavar="N", help="only the first N trials")
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        help="sort by this column instead; -COLUMN (as in --sort=-tokens) for descending",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help="only trials that meet this condition, as in 'dropout < 0.1' or "
        "'status = completed'; if it is repeated, trials must meet all of them",
    )
    parser.add_argument("--format", choices=FORMATS, default="table")
    parser.add_argument(
        "--watch", action="store_true", help="update the table until the runs have ended"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="list runs together even if their figures were measured on different text",
    )
    options = parser.parse_args(arguments)
    if options.top is not None and options.top < 1:
        parser.error(f"--top {options.top}: must be at least 1")
    if options.watch and options.format != "table":
        parser.error(f"--watch shows a table; leave out --format {options.format}")
    return options


def load_runs(options: argparse.Namespace) -> list[Results]:
    """The runs that were asked for. Raises UserError if they cannot be compared."""
    runs = [load_results(folder) for folder in options.runs]
    if len(runs) > 1 and not options.force:
        refuse_incomparable(by_name(runs))
    return runs


def conclusions(runs: list[Results]) -> list[str]:
    """Which differences are real, each with its run's name if there are several."""
    return [
        f"{name}: {text}" if len(runs) > 1 else text
        for name, results in by_name(runs).items()
        for text in results.conclusions
    ]


def notes(runs: list[Results]) -> list[str]:
    """Lines on what limits the comparison of the trials of several runs."""
    if len(runs) < 2:
        return []
    named = by_name(runs)
    found = [describe_budgets(named)]
    if why := why_incomparable({name: scored_texts(results) for name, results in named.items()}):
        found.append(f"Bits per byte of these runs do not compare: {why}.")
    return list(filter(None, found))


def watched(options: argparse.Namespace) -> Text:
    """The leaderboard below the number of trials of each status."""
    runs = load_runs(options)
    counts = pd.concat([results.trials["status"] for results in runs]).value_counts()
    statuses = ", ".join(f"{number} {status}" for status, number in counts.items())
    frame = leaderboard(runs, options.sort, options.top, options.where)
    table = linked_table(frame, words=conclusions(runs), notes=notes(runs))
    return Text("\n\n").join([Text(statuses or "no trial yet"), table])


if __name__ == "__main__":
    run_command(main)
