"""Whether the figures of whole runs may be compared, as `raygpt.results.comparability` decides."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from raygpt.errors import UserError
from raygpt.results.comparability import (
    BYTES_PER_TOKEN,
    SCORED_TEXT,
    bytes_per_token,
    why_incomparable,
)
from raygpt.results.tables import Results


def scored_texts(results: Results) -> list[dict[str, Any]]:
    """The text that a run's figures were measured on: one entry, or none if no trial has begun.

    The tables of older runs lack some of the columns. Their context is in their search.yaml, and
    the bytes of a token follow from their figures; what is not known is left out.
    """
    found = []
    for row in results.trials[[*SCORED_TEXT]].drop_duplicates().to_dict("records"):
        text = {name: value for name, value in row.items() if not pd.isna(value)}
        if "context" not in text and (search_file := results.search_file):
            text["context"] = search_file.data.context
        if "scored_tokens" in text:
            ratio = text["scored_bytes"] / text["scored_tokens"]
        else:
            ratio = bytes_per_token(results.history)
        # Sums and divisions leave noise in the last digits.
        found.append(text | ({} if pd.isna(ratio) else {BYTES_PER_TOKEN: round(ratio, 6)}))
    return found


def refuse_incomparable(runs: Mapping[str, Results]) -> None:
    """Raise UserError if the figures of these runs, by name, were measured on different text."""
    if why := why_incomparable({name: scored_texts(results) for name, results in runs.items()}):
        raise UserError(
            f"The figures of these runs cannot be compared, because they were measured on "
            f"different text: {why}. Train them with the same settings; --force lists them "
            f"together anyway."
        )


def budgets(results: Results) -> dict[int, int]:
    """The budget of each rung of a run in tokens, before it is rounded to whole optimizer steps.

    If the run's search.yaml cannot be read, it is the largest number of tokens of any trial there.
    """
    search_file = results.search_file
    if search_file and (tokens := search_file.fixed.get("training.tokens")):
        return {n: round(rung * tokens) for n, rung in enumerate(search_file.search.rungs)}
    return results.trials.groupby("rung")["tokens"].max().to_dict()


def describe_budgets(runs: Mapping[str, Results]) -> str:
    """A line on what different budgets of runs, by name, mean; empty if they are the same."""
    full = {name: max(found.values()) for name, each in runs.items() if (found := budgets(each))}
    if len(set(full.values())) < 2:
        return ""
    each = ", ".join(f"{name} {tokens:,}" for name, tokens in full.items())
    return (
        f"The runs have different budgets (training.tokens: {each}). Trials are ranked among those "
        f"of the same budget only, larger budgets first."
    )
