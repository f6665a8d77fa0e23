"""A searched value as an axis of a figure, on the scale that it was searched on."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raygpt.analysis.groups import short
from raygpt.recipe.ranges import Choice, LogUniform, Range
from raygpt.results.leaderboard import format_value

TICKS = (1, 2, 5)
"""Ticks in each power of ten of a logarithmic axis; a long axis has only the first of them."""


@dataclass(frozen=True)
class Axis:
    """An axis of a figure.

    A position on it is the value, its decimal logarithm, or the number of its category.
    """

    name: str
    """The dotted name of the value."""
    low: float
    high: float
    """Ends of the axis, as positions."""
    log: bool = False
    categories: tuple[str, ...] | None = None

    @property
    def title(self) -> str:
        return short(self.name)

    def positions(self, values: Iterable[Any]) -> np.ndarray:
        """The position of each value."""
        if self.categories is not None:
            return np.array([self.categories.index(str(value)) for value in values], dtype=float)
        numbers = np.asarray(list(values), dtype=float)
        return np.log10(numbers) if self.log else numbers

    def shares(self, values: Iterable[Any]) -> np.ndarray:
        """The position of each value as a share of the axis, from 0 to 1."""
        return (self.positions(values) - self.low) / (self.high - self.low)

    def grid(self, points: int) -> np.ndarray:
        """Values at even distances along an axis without categories."""
        positions = np.linspace(self.low, self.high, points)
        return 10**positions if self.log else positions

    def layout(self) -> dict[str, Any]:
        """The axis in plotly's terms."""
        margin = 0.03 * (self.high - self.low)
        found: dict[str, Any] = {"title": {"text": self.title}}
        if self.categories is not None:
            order = {"categoryorder": "array", "categoryarray": self.categories}
            return found | {"type": "category"} | order
        found |= {"range": [self.low - margin, self.high + margin]}
        if not self.log:
            return found
        positions, texts = self.ticks()
        values = [10**position for position in positions]
        return found | {"type": "log", "tickvals": values, "ticktext": texts}

    def ticks(self) -> tuple[list[float], list[str]]:
        """Positions and texts of ticks, for figures in which plotly does not make its own."""
        if self.categories is not None:
            return list(range(len(self.categories))), list(self.categories)
        if not self.log:
            positions = np.linspace(self.low, self.high, 5)
            return list(positions), [format_value(float(value)) for value in positions]
        powers = range(int(np.floor(self.low)), int(np.ceil(self.high)) + 1)
        few = self.high - self.low < len(TICKS)
        values = [tick * 10.0**power for power in powers for tick in (TICKS if few else (1,))]
        inside = [v for v in values if self.low - 1e-9 <= np.log10(v) <= self.high + 1e-9]
        return [float(np.log10(v)) for v in inside], [f"{v:g}" for v in inside]


def axis(name: str, values: pd.Series, found: Range | None = None) -> Axis:
    """The axis of a searched value.

    Args:
        name: the dotted name of the value.
        values: the trials' values.
        found: the range that was searched. If it is not known, the axis is linear and ends at the
            smallest and largest value.
    """
    values = values.dropna()
    numbers = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if isinstance(found, Choice) or not numbers:
        known = found.values if isinstance(found, Choice) else ()
        texts = dict.fromkeys(str(value) for value in (*known, *values))
        return Axis(name, -0.5, len(texts) - 0.5, categories=tuple(texts))
    ends = [*(found.extremes() if found else ()), *(float(value) for value in values)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    log = isinstance(found, LogUniform) or getattr(found, "log", False)
    if log:
        low, high = float(np.log10(low)), float(np.log10(high))
    return Axis(name, low, high if high > low else low + 1, log=log)
