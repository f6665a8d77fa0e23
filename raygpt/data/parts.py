"""What a corpus is made of."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

# One piece of a corpus, some MB of text. It is picklable; called, in whichever process on whichever
# machine, it yields its documents in order.
Part = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Corpus:
    """A source of documents in a fixed order: those of its first part, of its second, and so on.

    `revision` identifies the content: equal revisions hold equal documents in equal order.
    `licence` is None where it is not known. `parts()` is lazy, and its parts depend on the corpus
    alone.
    """

    name: str
    revision: str
    licence: str | None
    parts: Callable[[], Iterator[Part]]
