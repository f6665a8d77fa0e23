"""How messages write durations and paths, the same in every command."""

import shlex
from collections.abc import Sequence
from pathlib import Path


def duration(seconds: float) -> str:
    """A measured duration: `45 seconds`, `5.9 minutes`, `2.4 hours`."""
    if seconds < 60:
        return f"{seconds:.0f} seconds"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.1f} minutes"
    return f"{seconds / 3600:.1f} hours"


def rough_duration(seconds: float) -> str:
    """An estimated duration, with no more digits than an estimate has: `about 7 minutes`."""
    if seconds < 90:
        return f"about {max(10, round(seconds, -1)):.0f} seconds"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.0f} hours"


def clock(seconds: float) -> str:
    """A duration as a clock shows it, `0:05:36`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 trial`, `1,200 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def listed(words: Sequence[str], conjunction: str = "and") -> str:
    """Words as a sentence lists them: `a`, `a and b`, `a, b and c`."""
    return f" {conjunction} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def shell_quoted(text: Path | str) -> str:
    """A path or another argument as it must be written in a shell command."""
    return shlex.quote(str(text))


def duration_range(low: float, high: float) -> str:
    """Two durations in the unit that suits the longer one: `5.4 to 7.9 minutes`."""
    if high < 60:
        first, last, unit = f"{low:.0f}", f"{high:.0f}", "seconds"
    elif high < 2 * 3600:
        first, last, unit = f"{low / 60:.1f}", f"{high / 60:.1f}", "minutes"
    else:
        first, last, unit = f"{low / 3600:.1f}", f"{high / 3600:.1f}", "hours"
    return f"{last} {unit}" if first == last else f"{first} to {last} {unit}"
