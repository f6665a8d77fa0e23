"""The leaderboard: the trials of a run, best first, as a person or a program reads them."""

import json
import shutil
import textwrap
from typing import Any

import pandas as pd

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
    return as_table(headings, rows, width or shutil.get_terminal_size().columns)


LEFT = ("trial", "status", "error")
GAP = "  "
LEAST_ERROR_WIDTH = 30


def as_table(headings: list[str], rows: list[list[str]], width: int) -> str:
    """Columns side by side; where they do not fit, headings and errors go over several lines.

    No value is cut: if need be, lines are longer than `width`.
    """
    cells = [[[cell] for cell in row] for row in rows]
    for head in ([[heading] for heading in headings], [heading.split() for heading in headings]):
        widths = [
            max(len(line) for cell in column for line in cell)
            for column in zip(head, *cells, strict=True)
        ]
        gaps = len(GAP) * (len(widths) - 1)
        if headings[-1] == "error":
            room = max(LEAST_ERROR_WIDTH, width - sum(widths[:-1]) - gaps)
            widths[-1] = min(widths[-1], room)
        if sum(widths) + gaps <= width:
            break
    for row in cells:
        row[-1] = textwrap.wrap(row[-1][0], widths[-1])
    lines = []
    for row in (head, *cells):
        height = max(map(len, row))
        for number in range(height):
            texts = []
            for heading, cell, column_width in zip(headings, row, widths, strict=True):
                # Headings stand at the bottom of their lines, values at the top.
                place = number - (height - len(cell) if row is head else 0)
                text = cell[place] if 0 <= place < len(cell) else ""
                left = heading in LEFT
                texts.append(text.ljust(column_width) if left else text.rjust(column_width))
            lines.append(GAP.join(texts).rstrip())
    return "\n".join(lines)


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
