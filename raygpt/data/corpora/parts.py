"""What a corpus is: documents in a fixed order, in parts that can be read apart from each other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Part = Callable[[], Iterator[str]]
"""Reads the documents of one piece of a corpus, in order: some MB of text.

A part is called in another process, on another node perhaps, so it can be pickled and needs no file
of the machine that it was made on.
"""

PART_BYTES = 8_000_000
"""About the text of a part: much more than it costs to hand it on, and little to hold in memory.

Where parts begin decides which tokens a shard holds: a change here is one of `shards.FORMAT` too.
"""


@dataclass(frozen=True)
class Corpus:
    """A source of documents.

    `revision` identifies the content: equal revisions hold equal parts in equal order, whatever
    reads them. `licence()` is None where it is not known. `parts()` finds the parts in order, and
    touches no more of the source than it has got to.
    """

    name: str
    revision: str
    licence: Callable[[], str | None]
    parts: Callable[[], Iterator[Part]]

    def documents(self) -> Iterator[str]:
        """All documents, read in this process."""
        for part in self.parts():
            yield from part()
