"""Conditions on the rows of a table, as in `dropout < 0.1`."""

import contextlib
import operator
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd

from raygpt.errors import UserError
from raygpt.recipe.errors import RecipeError, allowed
from raygpt.recipe.fields import full_name
from raygpt.recipe.quantities import parse_count, parse_number

OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"\s*([^\s<>=!]+)\s*(<=|>=|==|!=|<|>|=)\s*([^\s<>=!].*?)\s*", re.DOTALL)
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")


def select(frame: pd.DataFrame, condition: str) -> tuple[pd.DataFrame, str]:
    """The rows that meet a condition. A row whose value is missing meets none.

    Args:
        frame: a table.
        condition: a column (the last part of its name is enough), one of OPERATORS, and a value.
            Numbers are written as in recipes (300M, 1/3, 2e-4), text with or without quotes. Text
            is ordered by its characters.

    Returns:
        The rows, and the name of the column.

    Raises:
        UserError: the condition cannot be read, there is no such column, or the value is not of the
            column's kind.
    """
    match = _CONDITION.fullmatch(condition)
    option = f"--where '{condition}'"
    if not match:
        raise UserError(
            f"{option}: not a condition; write a column, one of {' '.join(OPERATORS)}, and a "
            f"value, as in --where 'dropout < 0.1'"
        )
    name, compare, text = match.groups()
    column = find_column(frame, name, option)
    present = frame[column].dropna()
    kind = pd.api.types.infer_dtype(present)
    value = _value(kind, text, f"{option}: {column}")
    holds = present.map(lambda found: bool(OPERATORS[compare](found, value))).astype(bool)
    return frame.loc[holds.reindex(frame.index, fill_value=False)], column


def describe_none(frame: pd.DataFrame, conditions: Sequence[str]) -> str:
    """A message that no row meets all conditions, with the values that exist.

    Arguments and errors are those of `select`.
    """
    asked = " ".join(f"--where '{condition}'" for condition in conditions)
    columns = dict.fromkeys(select(frame, condition)[1] for condition in conditions)
    found = "; ".join(f"{column} is {_found(frame[column].dropna())}" for column in columns)
    return f"No trial meets {asked}: {found}"


def _found(present: pd.Series) -> str:
    """The values of a column, shortened to fit on a line."""
    if present.empty:
        return "missing"
    if pd.api.types.infer_dtype(present) in _NUMBERS:
        ends = (float(end) for end in (present.min(), present.max()))
        # A count is shown with all digits, so that it can be used in a condition.
        low, high = (f"{end:.0f}" if end.is_integer() else f"{end:g}" for end in ends)
        return low if low == high else f"{low} to {high}"
    values = sorted({textwrap.shorten(str(value), 40, placeholder="…") for value in present})
    return ", ".join(values if len(values) <= 8 else [*values[:7], "…"])


def find_column(frame: pd.DataFrame, name: str, option: str) -> str:
    """The column of that name, or whose last part is that name: hold for training.hold.

    Args:
        frame: a table.
        name: the column's name as the user gave it.
        option: the option that it was given in.

    Raises:
        UserError: there is no such column.
    """
    if column := full_name(name, frame):
        return column
    raise UserError(f"{option}: there is no such column; {allowed(name, frame)}")


def _value(kind: str, text: str, where: str) -> Any:
    """A text as a value that compares with values of a kind, one of `infer_dtype`'s."""
    if kind in _NUMBERS:
        for parse in (parse_number, parse_count):
            with contextlib.suppress(RecipeError):
                return parse(text)
        raise UserError(f"{where} is a number, and {text} is not; write it like 0.1, 2e-4 or 300M")
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise UserError(f"{where} is true or false, and {text} is neither")
        return text.lower() == "true"
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text
