"""Tokenises one part of a corpus, in any process that has a free core."""

import hashlib
import re
from dataclasses import dataclass

import numpy as np

from raygpt.data.corpora.parts import Part
from raygpt.data.tokenizer import Tokenizer

TOKEN_TYPE = np.dtype("<u2")
LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class TokenisedPart:
    """The documents of a part. All arrays but `tokens` have one entry per document."""

    tokens: np.ndarray
    """uint16: the ids of all documents in order, each followed by the end-of-document token."""
    lengths: np.ndarray
    """int64: tokens of each document, its end included."""
    text_bytes: np.ndarray
    """int64: UTF-8 bytes of each document."""
    digests: np.ndarray
    """uint64: the `text_digest` of each document."""
    short: int
    """The number of documents that were left out as too short."""


def tokenise(tokenizer: Tokenizer, least_bytes: int, part: Part) -> TokenisedPart:
    """Read a part and tokenise it, on one thread.

    Args:
        tokenizer: encodes the documents.
        least_bytes: UTF-8 bytes of the shortest document that is kept.
        part: the documents.
    """
    end = np.array([tokenizer.end_of_document], TOKEN_TYPE)
    tokens, lengths, text_bytes, digests = [np.empty(0, TOKEN_TYPE)], [], [], []
    short = 0
    for text in part():
        text, content = encodable(text)
        if not is_long_enough(text, content, least_bytes):
            short += 1
            continue
        ids = tokenizer.encode(text)
        tokens += [ids.astype(TOKEN_TYPE), end]
        lengths.append(len(ids) + 1)
        text_bytes.append(len(content))
        digests.append(text_digest(content))
    return TokenisedPart(
        np.concatenate(tokens),
        np.array(lengths, np.int64),
        np.array(text_bytes, np.int64),
        np.array(digests, np.uint64),
        short,
    )


def encodable(text: str) -> tuple[str, bytes]:
    """A text and its UTF-8, with lone surrogates replaced by U+FFFD."""
    try:
        return text, text.encode()
    except UnicodeEncodeError:
        text = LONE_SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)
        return text, text.encode()


def is_long_enough(text: str, content: bytes, least_bytes: int) -> bool:
    """Whether a document, given as text and as UTF-8, is neither blank nor too short."""
    return len(content) >= least_bytes and bool(text.strip())


def text_digest(content: bytes) -> int:
    """64 bits that decide a document's side of the split, and by which duplicates are recognised.

    Two of ten million different documents share a digest in one of 400,000 corpora.
    """
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def is_validation(digests: np.ndarray, fraction: float) -> np.ndarray:
    """Whether each document is held out. Its text alone decides, so that none is on both sides."""
    return digests / 2.0**64 < fraction
