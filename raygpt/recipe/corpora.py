"""The names of corpora.

sample                          106 English Wikipedia articles that come with gensim
wikipedia                       English Wikipedia of November 2023, from the Hugging Face Hub
wikipedia:SNAPSHOT@COMMIT       another snapshot or language, as in wikipedia:20231101.de
hub:OWNER/NAME:CONFIG@REVISION  any data set of texts on the Hub
dump:PATH                       a Wikipedia XML dump; a folder or glob where it is split
jsonl:PATH                      JSON Lines, a file or glob (plain, .gz or .xz), an object a line

The parts after the first colon of a Hub name, and after an @, are optional.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FILE_KINDS = ("dump", "jsonl")
"""Kinds of corpora that are the user's own files."""

NAMES = ("sample", "wikipedia", "hub:OWNER/NAME", *(f"{kind}:PATH" for kind in FILE_KINDS))
"""How each kind is written, for messages."""

_PATTERNS = (
    re.compile(r"(?P<kind>sample)"),
    re.compile(r"(?P<kind>wikipedia)(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?"),
    re.compile(
        r"(?P<kind>hub):(?P<dataset>[\w.-]+/[\w.-]+)"
        r"(:(?P<config>[^:@\s]+))?(@(?P<revision>[\w./-]+))?"
    ),
    re.compile(rf"(?P<kind>{'|'.join(FILE_KINDS)}):(?P<path>.*\S.*)"),
)


@dataclass(frozen=True)
class CorpusName:
    """The parts of a corpus name; a part that it does not have is None."""

    kind: str
    """sample, wikipedia, hub, or one of FILE_KINDS."""
    dataset: str | None = None
    """OWNER/NAME on the Hub."""
    config: str | None = None
    """Configuration of the data set; of Wikipedia, its snapshot."""
    revision: str | None = None
    """Branch, tag or commit of the data set."""
    path: str | None = None
    """File, folder or glob."""


def parse_corpus(name: str) -> CorpusName | None:
    """The parts of a corpus name; None if it is not one."""
    for pattern in _PATTERNS:
        if found := pattern.fullmatch(name):
            return CorpusName(**found.groupdict())
    return None


def is_uri(cache: str) -> bool:
    """Whether a token cache is named by a URI, such as s3://bucket/raygpt, rather than a path."""
    return re.match(r"[a-z][a-z0-9+.-]*://", cache) is not None
