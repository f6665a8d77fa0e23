"""How a corpus is split into a training and a validation set, with messages for when that fails.

A digest of a document's text decides on which side it is. In a small corpus one side may therefore
get nothing, or much more than its share.
"""

import math
from collections.abc import Sequence

import numpy as np

from raygpt.data.corpora.parts import Corpus
from raygpt.data.dataset import SPLITS, Dataset, shard_digests
from raygpt.data.tokenise import encodable, is_long_enough, is_validation, text_digest
from raygpt.errors import UserError
from raygpt.recipe.sections import MOST_HELD_OUT

MOST_DOCUMENTS = 100_000
"""Corpora of more documents are not searched for a better fraction."""


class Survey:
    """Records documents of a corpus until each side of the split has one."""

    def __init__(self, corpus: Corpus, fraction: float, least_bytes: int):
        self._corpus = corpus
        self._fraction = fraction
        self._least_bytes = least_bytes
        self._sizes: dict[int, int] = {}  # UTF-8 bytes by digest
        self._sides: set[bool] = set()
        self._too_short = 0
        self._longest_too_short = 0
        self._duplicates = 0

    def read_all(self) -> None:
        """Add all documents of the corpus."""
        for text, content in map(encodable, self._corpus.documents()):
            self.add(text, content)

    def add(self, text: str, content: bytes) -> None:
        """Add a document, given as text and as UTF-8."""
        if len(self._sides) == len(SPLITS):
            return
        if not is_long_enough(text, content, self._least_bytes):
            self._too_short += 1
            self._longest_too_short = max(self._longest_too_short, len(content))
            return
        digest = text_digest(content)
        self._duplicates += digest in self._sizes
        self._sizes[digest] = len(content)
        self._sides.add(bool(is_validation(np.array([digest], np.uint64), self._fraction)[0]))

    def check(self) -> None:
        """Raise UserError if these are all documents of the corpus and one side has none."""
        if len(self._sides) == len(SPLITS):
            return
        documents = len(self._sizes)
        if not documents:
            raise UserError(self._nothing())
        if documents == 1:
            left_out = [f"{self._duplicates} copies of it"] * bool(self._duplicates)
            if self._too_short:
                left_out.append(
                    f"{self._too_short} shorter than data.min_document_bytes = {self._least_bytes}"
                )
            besides = f" (besides {' and '.join(left_out)})" if left_out else ""
            raise UserError(
                f"The corpus {self._corpus.name} has only one document{besides}, and no document "
                f"may be both in the training and in the validation set. Cut it into several "
                f"documents (in a jsonl: corpus, a line for each), or take another corpus."
            )
        sides = ("validation", "training") if True in self._sides else ("training", "validation")
        better = better_fraction(list(self._sizes), list(self._sizes.values()), self._fraction) or (
            f"No fraction up to {MOST_HELD_OUT} gives both sides one. Cut the documents into "
            f"shorter ones, or add some."
        )
        raise UserError(
            f"All {documents} documents of the corpus {self._corpus.name} fall into the {sides[0]} "
            f"set at data.validation_fraction = {self._fraction}, none into the {sides[1]} set: a "
            f"digest of its text decides the side of a document. {better}"
        )

    def _nothing(self) -> str:
        if not self._too_short:
            return (
                f"The corpus {self._corpus.name} has no documents: there is no text in it. Check "
                f"that data.corpus names the right files."
            )
        if not self._longest_too_short or self._longest_too_short >= self._least_bytes:
            return f"The {self._too_short} documents of the corpus {self._corpus.name} are blank."
        return (
            f"All {self._too_short} documents of the corpus {self._corpus.name} are shorter than "
            f"data.min_document_bytes = {self._least_bytes} (the longest has "
            f"{self._longest_too_short} bytes). Lower it (0 keeps them all), or join texts into "
            f"longer documents."
        )


def better_fraction(digests: Sequence[int], sizes: Sequence[int], wanted: float) -> str | None:
    """A sentence that names the fraction whose held-out share of the text is nearest to `wanted`.

    Returns:
        None if no fraction that a recipe may have leaves a document on each side.
    """
    order = np.argsort(np.array(digests, np.uint64))
    places = np.array(digests, np.uint64)[order] / 2.0**64
    shares = np.cumsum(np.array(sizes, np.float64)[order]) / sum(sizes)
    possible = np.flatnonzero((places[:-1] < MOST_HELD_OUT) & (places[1:] > places[:-1]))
    if not len(possible):
        return None
    held_out = possible[np.argmin(np.abs(np.log(shares[possible] / wanted)))]
    low, high = places[held_out], min(places[held_out + 1], MOST_HELD_OUT)
    fraction = _short_number(low, high, shares[held_out])
    return (
        f"--set data.validation_fraction={fraction} holds out {held_out + 1} of the {len(places)} "
        f"documents, {shares[held_out]:.0%} of the text's bytes."
    )


def _short_number(low: float, high: float, near: float) -> float:
    """A number above `low` and not above `high`, with few decimals, near to `near` if possible."""
    near = min(max(near, low), high)
    for decimals in range(1, 17):
        unit = 10**decimals
        for number in (round(near * unit), math.floor(low * unit) + 1, math.floor(high * unit)):
            if low < number / unit <= high:
                return number / unit
    return high


def describe_share(dataset: Dataset) -> str | None:
    """A sentence if the held-out share of the text is far from the wanted one, else None."""
    wanted = dataset.manifest["validation_fraction"]
    sizes = [dataset.count(split, "bytes") for split in SPLITS]
    share = sizes[1] / sum(sizes)
    # In odds, because training has too little where validation has too much.
    odds, wanted_odds = (part / (1 - part) for part in (share, wanted))
    if wanted_odds / 2 <= odds <= wanted_odds * 2:
        return None
    train, held_out = (dataset.count(split, "documents") for split in SPLITS)
    sentence = (
        f"The validation set is {share:.1%} of the text's bytes ({held_out:,} of "
        f"{train + held_out:,} documents), not {wanted:.1%} as data.validation_fraction asks: a "
        f"digest of its text decides the side of a document."
    )
    if dataset.is_whole_corpus and train + held_out <= MOST_DOCUMENTS:
        digests, documents = _digests_and_sizes(dataset)
        better = better_fraction(digests, documents, wanted)
        if better and f"{held_out} of the" not in better:
            sentence += f" {better}"
    return sentence


def _digests_and_sizes(dataset: Dataset) -> tuple[list[int], list[int]]:
    """The digest and the UTF-8 bytes of each document."""
    digests: dict[str, list[int]] = {split: [] for split in SPLITS}
    for number, entry in enumerate(dataset.shards):
        found = shard_digests(dataset.folder, number, entry)
        parts = np.split(found, [entry["train"]["documents"]])
        for split, part in zip(SPLITS, parts, strict=True):
            digests[split] += part.tolist()
    sizes = [
        int(dataset.token_bytes[tokens].sum())
        for split in SPLITS
        for tokens in dataset.documents(split)
    ]
    return [digest for split in SPLITS for digest in digests[split]], sizes


def count_windows(available: int, context: int, wanted: int, split: str) -> int:
    """The windows that `wanted` of the `available` tokens of a split fill.

    Raises UserError if they do not fill one.
    """
    last = min(wanted, available - 1)  # the last input needs a target after it
    if last < context:
        name = "training" if split == "train" else split
        few = f"{wanted} are used" if wanted < available - 1 else f"it has {available}"
        raise UserError(
            f"The {name} set has too few tokens for one window of data.context = {context}, which "
            f"takes {context + 1}: {few}. Lower data.context, change data.validation_fraction or "
            f"use more text."
        )
    return last // context
