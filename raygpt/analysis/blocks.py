"""What a report consists of, before it is a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind = "text"


@dataclass(frozen=True)
class Points:
    """Sentences below each other."""

    sentences: Sequence[str]
    kind = "points"


@dataclass(frozen=True)
class Notice:
    """A paragraph that must not be missed."""

    text: str
    kind = "notice"


@dataclass(frozen=True)
class Headline:
    """Figures that are the answer, each with what it is."""

    figures: Sequence[tuple[str, str]]
    kind = "headline"


@dataclass(frozen=True)
class Table:
    """Cells are text already; `numbers` are the headings of columns of numbers."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()
    kind = "table"


@dataclass(frozen=True)
class Code:
    """Text to copy, and what it is."""

    text: str
    about: str = ""
    folded: bool = False
    """Whether it is shown only on demand."""
    kind = "code"


@dataclass(frozen=True)
class Pictures:
    """Figures beside each other where there is room, and what they show."""

    figures: Sequence[Figure]
    caption: str
    least_width: int = 0
    """In pixels; where the page is narrower, the picture scrolls within it."""
    kind = "pictures"


Block = Text | Points | Notice | Headline | Table | Code | Pictures


@dataclass(frozen=True)
class Section:
    """A part of the report; `name` is its address within the page."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)
