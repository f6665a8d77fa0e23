"""Descriptions of prepared data: decoded documents, and the lengths of documents."""

from collections.abc import Iterator

import numpy as np

from raygpt.data.dataset import SPLITS, Dataset
from raygpt.data.tokenizer import END_OF_DOCUMENT

MOST_CHARACTERS = 600
"""Characters shown of the beginning and of the end of a document."""
QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


def document_lengths(dataset: Dataset, split: str) -> np.ndarray:
    """int64: tokens of each document of a split, without its end."""
    return np.array([len(tokens) for tokens in dataset.documents(split)], np.int64)


def describe_lengths(dataset: Dataset) -> str:
    """A table of the distribution of document lengths, with a row for each split."""
    heading = "".join(f"{name:>10}" for name in ("shortest", "5%", "25%", "median", "75%", "95%"))
    lines = [f"tokens a document{heading}   longest"]
    for split in SPLITS:
        lengths = document_lengths(dataset, split)
        cells = "".join(f"{value:>10,.0f}" for value in np.quantile(lengths, QUANTILES))
        lines.append(f"{split:<17}{cells}")
    return "\n".join(lines)


def sample_documents(dataset: Dataset, count: int) -> Iterator[str]:
    """`count` documents from all over each split, decoded, with their end-of-document token."""
    for split in SPLITS:
        documents = dataset.count(split, "documents")
        chosen = set(np.linspace(0, documents - 1, min(count, documents)).astype(int).tolist())
        for number, tokens in enumerate(dataset.documents(split)):
            if number in chosen:
                text = dataset.tokenizer.decode(tokens)
                if len(text) > 2 * MOST_CHARACTERS:
                    left_out = len(text) - 2 * MOST_CHARACTERS
                    text = (
                        f"{text[:MOST_CHARACTERS]}\n[… {left_out:,} characters …]\n"
                        f"{text[-MOST_CHARACTERS:]}"
                    )
                yield (
                    f"--- {split}, document {number + 1:,} of {documents:,}: "
                    f"{len(tokens):,} tokens\n{text}{END_OF_DOCUMENT}"
                )
