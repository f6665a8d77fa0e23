"""Numbers as people write them: 300M, 256K, 4Ki, 1_000_000, 2e6, 1/3, 25%, 2e-4.

Each parser takes an int, a float or text, because YAML reads `1_000` as a number and `300M` as
text. It raises RecipeError for anything else. Booleans are not numbers.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any

from raygpt.recipe.errors import RecipeError

LARGEST_COUNT = 10**18

UNITS = {
    "": 1,
    "K": 10**3,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "B": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
}

# The exponent is short because 1e999999999 as an exact number does not fit in memory.
_DECIMAL = r"[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?"
_WITH_UNIT = re.compile(rf"({_DECIMAL})\s*(|%|[kKMGBT]|[KMG]i)", re.ASCII)
_RATIO = re.compile(r"([+-]?\d{1,40})\s*/\s*(\d{1,40})", re.ASCII)
_LONGEST_TEXT = 100


def parse_count(value: Any) -> int:
    """A whole number: 300M, 4Ki, 1_000_000, 2e6; K, M, G (or B) and T are decimal."""
    number = _exact(value, units=UNITS)
    if number is None or number.denominator != 1:
        raise RecipeError("must be a whole number", "write it like 12, 256K, 2.5M, 4Ki or 2e6")
    if abs(number) > LARGEST_COUNT:
        raise RecipeError(f"must be at most {LARGEST_COUNT:.0e}")
    return int(number)


def parse_fraction(value: Any) -> Fraction:
    """An exact fraction: 1/3, 0.25 (a quarter, whatever its binary rounding), 25%."""
    number = _exact(value, units={"": 1, "%": Fraction(1, 100)}, ratio=True)
    if number is None:
        raise RecipeError("must be a fraction", "write it like 1/3, 0.25 or 25%")
    return number


def parse_number(value: Any) -> float:
    """A finite float: 2e-4, 0.1, 1/3, 25%."""
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    number = _exact(value, units={"": 1, "%": Fraction(1, 100)}, ratio=True)
    try:
        if number is not None:
            return float(number)
    except OverflowError:
        pass
    raise RecipeError("must be a number", "write it like 0.1, 2e-4, 1/3 or 25%")


def format_fraction(value: Fraction) -> str | int:
    """The fraction as a recipe writes it, `1/9`; whole numbers stay numbers."""
    return value.numerator if value.denominator == 1 else str(value)


def _exact(value: Any, units: dict[str, Any], ratio: bool = False) -> Fraction | None:
    """The exact value of a number in one of `units`; None if it is not a number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (Integral, Rational)):
        return Fraction(value)
    if isinstance(value, Real):
        # The shortest decimal that reads back as this float is the number that was written.
        return Fraction(repr(float(value))) if math.isfinite(value) else None
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        return None
    text = value.strip()
    if match := _WITH_UNIT.fullmatch(text):
        digits, unit = match.groups()
        return Fraction(digits.replace("_", "")) * units[unit] if unit in units else None
    if ratio and (match := _RATIO.fullmatch(text)) and int(match[2]):
        return Fraction(int(match[1]), int(match[2]))
    return None
