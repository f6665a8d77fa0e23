"""The leaderboard: the trials of a run, best first, as a person or a program reads them."""

import io
import json
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from raygpt.errors import UserError
from raygpt.results.tables import TRIAL_COLUMNS, Results, ranked

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
        where nothing is searched), and the error where a trial has one.

    Raises:
        UserError: there is no such column.
    """
    frame = ranked(results.trials)
    if sort:
        frame = sorted_by(frame, sort)
    searched = [name for name in frame if name not in TRIAL_COLUMNS]
    columns = [*SHOWN, *(searched or ["seed"])]
    if frame["error"].notna().any():
        columns.append("error")
    return frame[columns].head(top if top is not None else len(frame))


def sorted_by(frame: pd.DataFrame, sort: str) -> pd.DataFrame:
    """The rows in the order of a column, which may be named by its last part."""
    name = sort.removeprefix("-")
    matches = [column for column in frame if column == name or column.endswith(f".{name}")]
    if not matches:
        raise UserError(f"--sort {sort}: no such column; there are {', '.join(frame)}")
    return frame.sort_values(matches[0], ascending=not sort.startswith("-"), kind="stable")


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
        return json.dumps(json.loads(frame.to_json(orient="records")), indent=2)
    headings, rows = displayed(frame)
    if style == "markdown":
        lines = [headings, ["---"] * len(headings), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        left = heading in LEFT
        table.add_column(heading, justify="left" if left else "right", no_wrap=heading != "error")
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(table)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


LEFT = ("trial", "status", "error")


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
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
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
