"""A look at prepared data: whole documents as they decode, and how long documents are."""

from collections.abc import Iterator

import numpy as np

from raygpt.data.dataset import SPLITS, Dataset
from raygpt.data.tokenizer import END_OF_DOCUMENT

MOST_CHARACTERS = 600
"""Of the beginning and of the end of a document that is shown."""
QUANTILES = (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)


def document_lengths(dataset: Dataset, split: str) -> np.ndarray:
    """Tokens of each document of a split, its end not counted; int64."""
    return np.array([len(tokens) for tokens in dataset.documents(split)], np.int64)


def describe_lengths(dataset: Dataset) -> str:
    """The distribution of the lengths of documents, a row a split."""
    heading = "".join(f"{name:>10}" for name in ("shortest", "5%", "25%", "median", "75%", "95%"))
    lines = [f"tokens a document{heading}   longest"]
    for split in SPLITS:
        lengths = document_lengths(dataset, split)
        cells = "".join(f"{value:>10,.0f}" for value in np.quantile(lengths, QUANTILES))
        lines.append(f"{split:<17}{cells}")
    return "\n".join(lines)


def sample_documents(dataset: Dataset, count: int) -> Iterator[str]:
    """So many documents of each split, evenly over it, decoded, with what stands at their ends."""
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
