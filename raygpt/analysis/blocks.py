"""The blocks that a report consists of, before they are a page."""

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
    """A list of sentences."""

    sentences: Sequence[str]
    kind = "points"


@dataclass(frozen=True)
class Notice:
    """A paragraph that must not be missed."""

    text: str
    kind = "notice"


@dataclass(frozen=True)
class Headline:
    """The most important figures, each with its meaning."""

    figures: Sequence[tuple[str, str]]
    kind = "headline"


@dataclass(frozen=True)
class Table:
    """A table whose cells are text; `numbers` names the headings of numeric columns."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[str] = frozenset()
    kind = "table"


@dataclass(frozen=True)
class Code:
    """Text to copy, with a description."""

    text: str
    about: str = ""
    folded: bool = False
    """Whether it is shown only on demand."""
    kind = "code"


@dataclass(frozen=True)
class Pictures:
    """Figures, side by side if the page is wide enough, with a caption."""

    figures: Sequence[Figure]
    caption: str
    least_width: int = 0
    """Least width in pixels; on a narrower page the figure scrolls."""
    kind = "pictures"


Block = Text | Points | Notice | Headline | Table | Code | Pictures


@dataclass(frozen=True)
class Section:
    """A part of the report; `name` is its address within the page."""

    name: str
    title: str
    blocks: list[Block] = field(default_factory=list)
