"""The leaderboard: the trials of a run, best first, as a person or a program reads them."""

import io
import json
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from raygpt.errors import UserError
from raygpt.recipe.errors import allowed
from raygpt.results.tables import TRIAL_COLUMNS, Results, is_missing, ranked

FORMATS = ("table", "csv", "markdown", "json")
SHOWN = ("trial_id", "status", "bits_per_byte", "tokens")


def leaderboard(results: Results, sort: str | None = None, top: int | None = None) -> pd.DataFrame:
    """The trials with their searched values, best first.

    Args:
        results: of a run.
        sort: a column to sort by instead, ascending; with a "-" before its name, descending.
        top: how many rows; all if left out.

    Returns:
        The columns trial_id, status, bits_per_byte, tokens, the searched values (or the seed,
        where nothing is searched), the column sorted by, and the error where a trial has one.

    Raises:
        UserError: there is no such column.
    """
    frame = ranked(results.trials)
    searched = [name for name in frame if name not in TRIAL_COLUMNS]
    columns = [*SHOWN, *(searched or ["seed"])]
    if sort:
        column = find_column(frame, sort.removeprefix("-"))
        frame = frame.sort_values(column, ascending=not sort.startswith("-"), kind="stable")
        columns += [column]
    if frame["error"].notna().any():
        columns += ["error"]
    return frame[list(dict.fromkeys(columns))].head(top if top is not None else len(frame))


def find_column(frame: pd.DataFrame, name: str) -> str:
    """The column of that name, which may be only its last part: hold for training.hold."""
    for column in frame:
        if name in (column, column.rpartition(".")[2]):
            return column
    raise UserError(f"--sort {name}: there is no such column; {allowed(name, frame)}")


def render(frame: pd.DataFrame, style: str, width: int | None = None) -> str:
    """The leaderboard as text.

    Args:
        frame: from `leaderboard`.
        style: one of FORMATS; "csv" and "json" keep every digit.
        width: columns of the terminal; as it is if left out.
    """
    if style == "csv":
        return frame.to_csv(index=False).rstrip("\n")
    if style == "json":
        rows = [
            {name: None if is_missing(value) else value for name, value in row.items()}
            for row in frame.to_dict("records")
        ]
        return json.dumps(rows, indent=2)
    headings, rows = displayed(frame)
    if style == "markdown":
        rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
        lines = [headings, ["---"] * len(headings), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return as_table(headings, rows, width)


LEFT = ("trial", "status", "error")
LEAST_ERROR_WIDTH = 30


def as_table(headings: list[str], rows: list[list[str]], width: int | None) -> str:
    """Columns side by side; where they do not fit, headings and errors go over several lines.

    No value is cut: if need be, lines are longer than the terminal is wide.
    """
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False, emoji=False)
    for shown in (headings, [heading.replace(" ", "\n") for heading in headings]):
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
        for heading in shown:
            left, wraps = heading in LEFT, heading == "error"
            table.add_column(
                heading,
                justify="left" if left else "right",
                no_wrap=not wraps,
                min_width=LEAST_ERROR_WIDTH if wraps else None,
            )
        for row in rows:
            table.add_row(*row)
        needed = console.measure(table, options=console.options.update(width=10_000)).minimum
        if needed <= console.width:
            break
    console.width = max(console.width, needed)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def displayed(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headings and cells, rounded for reading."""
    names = {"trial_id": "trial", "bits_per_byte": "bits per byte"}
    headings = [names.get(name, name.split(".")[-1].replace("_", " ")) for name in frame]
    rows = [
        [format_cell(name, value) for name, value in row.items()]
        for row in frame.to_dict("records")
    ]
    return headings, rows


def format_cell(column: str, value: Any) -> str:
    """One value of a column."""
    if is_missing(value):
        return ""
    if column == "bits_per_byte":
        return f"{value:.4f}"
    return format_value(value)


def format_value(value: Any) -> str:
    """Whole numbers with their digits grouped, others to three significant digits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or value.is_integer():
        return f"{int(value):,}"
    return f"{value:.3g}"
