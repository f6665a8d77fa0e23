"""Values that a search chooses: `{uniform: [0.0, 0.2]}` where a recipe would have a number.

Every range has

- `suggest(trial, name)`: a value proposed through any object with Optuna's `suggest_*` methods;
  Optuna is not imported.
- `grid_point(value)`: the value that a trial gets if a sampler proposes `value`. On a range with a
  step it is the exact decimal; on a continuous one it has four significant digits. So a value that
  is copied from a table into a recipe gives the same run.
- `start`: the first value tried, None where the recipe does not say; `middle`: a value to start
  from if nothing better is known.
- `extremes()`: the values at which a recipe is checked; `contains(value)`.

Every class raises RecipeError if its bounds are invalid, or its start is outside of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from raygpt.recipe.errors import RecipeError, allowed
from raygpt.recipe.quantities import parse_count, parse_number

# Ranges of up to this many whole numbers are validated value by value.
SMALL_GRID = 100

SIGNIFICANT_DIGITS = 4
"""Digits of a value of a continuous range."""

LEAST_POINTS = 100
"""Least number of values of a continuous range; values of a narrow one have more digits."""


@dataclass(frozen=True)
class Uniform:
    """A float from `low` to `high`, both included; on a grid from `low` if there is a `step`."""

    low: float
    high: float
    step: float | None = None
    start: float | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high)
        if self.step is not None:
            _check_step(self.low, self.high, self.step)
        _check_start(self)

    @property
    def last(self) -> float:
        """The largest value of the range: `high`, or the last grid point."""
        return self.high if self.step is None else self._point(self._steps)

    @property
    def middle(self) -> float:
        """Half-way between the bounds; with a step, the grid point at or below that."""
        if self.step is not None:
            return self._point(self._steps // 2)
        return self.grid_point(float((_exact(self.low) + _exact(self.high)) / 2))

    @property
    def _steps(self) -> int:
        """Number of whole steps between the bounds."""
        # In binary floats 0.3 / 0.1 is less than 3; in the decimals that were written it is 3.
        return (_exact(self.high) - _exact(self.low)) // _exact(self.step)

    def _point(self, steps: int) -> float:
        return float(_exact(self.low) + steps * _exact(self.step))

    def grid_point(self, value: float) -> float:
        if self.step is None:
            return _rounded(value, self)
        steps = round((_exact(value) - _exact(self.low)) / _exact(self.step))
        return self._point(min(max(steps, 0), self._steps))

    def suggest(self, trial: Any, name: str) -> float:
        return self.grid_point(trial.suggest_float(name, self.low, self.last, step=self.step))

    def extremes(self) -> tuple[float, ...]:
        return (self.low, self.last)

    def contains(self, value: Any) -> bool:
        if not _within(value, self.low, self.last):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-6

    def as_yaml(self) -> dict[str, Any]:
        step = {} if self.step is None else {"step": self.step}
        return {"uniform": [self.low, self.high], **step, **_start_as_yaml(self)}


@dataclass(frozen=True)
class LogUniform:
    """A float from `low` to `high`, both included, whose logarithm is uniform."""

    low: float
    high: float
    start: float | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=True)
        _check_start(self)

    @property
    def middle(self) -> float:
        """The geometric mean of the bounds."""
        return self.grid_point(math.sqrt(self.low) * math.sqrt(self.high))

    def grid_point(self, value: float) -> float:
        return _rounded(value, self)

    def suggest(self, trial: Any, name: str) -> float:
        return self.grid_point(trial.suggest_float(name, self.low, self.high, log=True))

    def extremes(self) -> tuple[float, ...]:
        return (self.low, self.high)

    def contains(self, value: Any) -> bool:
        return _within(value, self.low, self.high)

    def as_yaml(self) -> dict[str, Any]:
        return {"loguniform": [self.low, self.high], **_start_as_yaml(self)}


@dataclass(frozen=True)
class Int:
    """A whole number from `low` to `high`, both included, in steps of `step` or log-uniform."""

    low: int
    high: int
    step: int = 1
    log: bool = False
    start: int | None = None

    def __post_init__(self) -> None:
        _check_bounds(self.low, self.high, log=self.log)
        _check_step(self.low, self.high, self.step)
        if self.log and self.step != 1:
            raise RecipeError("cannot have both step and log", "leave one of the two out")
        _check_start(self)

    @property
    def last(self) -> int:
        """The largest value of the range: the last grid point."""
        return self.low + (self.high - self.low) // self.step * self.step

    @property
    def middle(self) -> int:
        """The grid point near the mean of the bounds, with `log` near their geometric mean."""
        if self.log:
            return math.isqrt(self.low * self.high)
        return self.low + (self.last - self.low) // self.step // 2 * self.step

    def grid_point(self, value: float) -> int:
        steps = round(Fraction(value - self.low) / self.step)
        return min(max(self.low + steps * self.step, self.low), self.last)

    def suggest(self, trial: Any, name: str) -> int:
        proposed = trial.suggest_int(name, self.low, self.last, step=self.step, log=self.log)
        return self.grid_point(proposed)

    def extremes(self) -> tuple[int, ...]:
        """Every value of a small grid; the two ends of a larger one."""
        values = range(self.low, self.high + 1, self.step)
        # Not len(values), which overflows on bounds far apart.
        small = (self.high - self.low) // self.step < SMALL_GRID
        return tuple(values) if small else (self.low, self.last)

    def contains(self, value: Any) -> bool:
        return _within(value, self.low, self.high) and (value - self.low) % self.step == 0

    def as_yaml(self) -> dict[str, Any]:
        step = {} if self.step == 1 else {"step": self.step}
        log = {"log": True} if self.log else {}
        return {"int": [self.low, self.high], **step, **log, **_start_as_yaml(self)}


@dataclass(frozen=True)
class Choice:
    """One of a few single values (numbers, names, true or false)."""

    values: tuple[Any, ...]
    start: Any = None

    def __post_init__(self) -> None:
        if not self.values:
            raise RecipeError("has nothing to choose from", "write {choice: [a, b]}")
        for value in self.values:
            if isinstance(value, (list, tuple, Mapping)):
                raise RecipeError("can only choose among single values, not lists or mappings")
        if len(set(self.values)) < len(self.values):
            raise RecipeError("names a value twice", "give each value of a choice once")
        _check_start(self)

    @property
    def middle(self) -> Any:
        """The first value."""
        return self.values[0]

    def grid_point(self, value: Any) -> Any:
        """The value of the choice that equals this one. RecipeError if there is none."""
        # True == 1 in Python, but in a recipe 1 is not the choice `true`.
        for own in self.values:
            if own == value and isinstance(own, bool) == isinstance(value, bool):
                return own
        raise RecipeError(f"does not have {value!r} among its values")

    def suggest(self, trial: Any, name: str) -> Any:
        return self.grid_point(trial.suggest_categorical(name, list(self.values)))

    def extremes(self) -> tuple[Any, ...]:
        return self.values

    def contains(self, value: Any) -> bool:
        try:
            self.grid_point(value)
        except RecipeError:
            return False
        return True

    def as_yaml(self) -> dict[str, Any]:
        return {"choice": list(self.values), **_start_as_yaml(self)}


Range = Uniform | LogUniform | Int | Choice

# The options of each kind, besides the bounds.
OPTIONS = {
    "uniform": ("step", "start"),
    "loguniform": ("start",),
    "int": ("step", "log", "start"),
    "choice": ("start",),
}


def read_range(
    given: Mapping[str, Any], read_choice: Callable[[Any], Any] = lambda value: value
) -> Range:
    """The range that a mapping such as `{uniform: [0.0, 0.2], step: 0.05}` describes.

    Args:
        given: the mapping.
        read_choice: converts each value of a choice to the setting's type.
    """
    kinds = [key for key in given if key in OPTIONS]
    if not kinds:
        unknown = next(iter(given), "")
        raise RecipeError(f'"{unknown}" is not a kind of range', allowed(unknown, OPTIONS))
    if len(kinds) > 1:
        raise RecipeError(f"is {' and '.join(kinds)} at once", "a range has one kind")
    kind = kinds[0]
    for key in given:
        if key != kind and key not in OPTIONS[kind]:
            raise RecipeError(f'"{key}" is not an option of {kind}', allowed(key, OPTIONS[kind]))

    bounds = given[kind]
    if kind == "choice":
        if not isinstance(bounds, (list, tuple)):
            raise RecipeError("choice takes a list of values", "write {choice: [a, b]}")
        start = read_choice(given["start"]) if "start" in given else None
        return Choice(tuple(read_choice(value) for value in bounds), start)
    if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
        raise RecipeError(f"{kind} takes two bounds", f"write {{{kind}: [low, high]}}")
    parse = parse_count if kind == "int" else parse_number
    low, high = (_part("each bound", parse, bound) for bound in bounds)
    options = {name: _part(name, parse, given[name]) for name in ("step", "start") if name in given}
    if kind == "loguniform":
        return LogUniform(low, high, **options)
    if kind == "uniform":
        return Uniform(low, high, **options)
    log = given.get("log", False)
    if not isinstance(log, bool):
        raise RecipeError("log must be true or false")
    return Int(low, high, log=log, **options)


def _part(what: str, parse: Any, value: Any) -> Any:
    try:
        return parse(value)
    except RecipeError as error:
        raise RecipeError(f"{what} {error.message}", error.hint) from None


def _check_bounds(low: float, high: float, log: bool = False) -> None:
    if not low < high:
        raise RecipeError(
            f"needs its lower bound below its upper one, but {low:g} is not below {high:g}",
            "write [low, high]; a single value needs no range",
        )
    if log and low <= 0:
        raise RecipeError(f"needs bounds above 0, because of the logarithm, but begins at {low:g}")


def _check_step(low: float, high: float, step: float) -> None:
    if not 0 < step <= high - low:
        raise RecipeError(
            f"has a step of {step:g} that does not fit",
            f"a step is above 0 and at most {high - low:g}, the distance between the bounds",
        )


def _check_start(found: Range) -> None:
    if found.start is not None and not found.contains(found.start):
        raise RecipeError(
            f"cannot start at {found.start}, which it does not contain",
            "start at a value of the range",
        )


def _rounded(value: float, found: Uniform | LogUniform) -> float:
    """A value of a continuous range with few digits, inside its bounds.

    The bounds and the start have the digits that they were written with.
    """
    if value == found.start:
        return value
    digits = SIGNIFICANT_DIGITS
    if value:
        largest_unit = (found.high - found.low) / LEAST_POINTS
        leading = math.floor(math.log10(abs(value)))
        digits = max(digits, leading + 1 + math.ceil(-math.log10(largest_unit)))
    return min(max(float(f"{value:.{digits - 1}e}"), found.low), found.high)


def _start_as_yaml(found: Range) -> dict[str, Any]:
    return {} if found.start is None else {"start": found.start}


def _exact(number: float) -> Fraction:
    """The decimal number that a float was written as."""
    return Fraction(repr(float(number)))


def _within(value: Any, low: float, high: float) -> bool:
    """Whether a number lies between the bounds, allowing for the rounding of a logarithm."""
    if isinstance(value, (bool, str)) or value is None:
        return False
    slack = 1e-9 * max(abs(low), abs(high))
    return math.isfinite(value) and low - slack <= value <= high + slack
