"""A corpus: documents in a fixed order, in parts that can be read independently."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Part = Callable[[], Iterator[str]]
"""Reads the documents of one piece of a corpus, in order: a few MB of text.

A part may be called in another process on another node, so it can be pickled and needs no file of
the machine that it was made on.
"""

PART_BYTES = 8_000_000
"""Approximate bytes of a part: reading it takes longer than sending it, and a few fit in memory.

The limits of the parts decide which tokens are in a shard: raise `shards.FORMAT` when this changes.
"""


@dataclass(frozen=True)
class Corpus:
    """A source of documents.

    `revision` identifies the content: equal revisions have equal parts in the same order.
    `licence()` is None if it is not known. `parts()` finds the parts in order, and reads the source
    only as far as it has been iterated.
    """

    name: str
    revision: str
    licence: Callable[[], str | None]
    parts: Callable[[], Iterator[Part]]

    def documents(self) -> Iterator[str]:
        """All documents, read in this process."""
        for part in self.parts():
            yield from part()
