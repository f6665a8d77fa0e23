"""What a corpus is: an ordered sequence of parts, each of which a worker can read by itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Picklable; called in a worker process, maybe on another node that does not see this machine's
# files: yields the documents of one piece of the corpus in order.
Part = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Corpus:
    """A source of documents.

    `revision` identifies the content: equal revisions hold equal documents in equal order.
    `licence` is None where it is not known. `parts()` yields the parts in order, lazily; what they
    are depends on the corpus alone.
    """

    name: str
    revision: str
    licence: str | None
    parts: Callable[[], Iterator[Part]]
