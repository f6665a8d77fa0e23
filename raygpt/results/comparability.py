"""Which figures may be compared.

Bits per byte are comparable if they were measured on exactly the same text: the same validation
documents, context, number of scored tokens and bytes. Trials are comparable if they also had the
same budget.

Within one run the text is the same for all trials (`RunTables` ensures it), and a rung stands for
a budget: `tokens` is the budget rounded to whole optimizer steps, which differs between trials
whose batch size was searched.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

_WINDOWS = "data.context, data.tokenizer and data.validation_tokens"
SCORED_TEXT = {
    "validation_set": "data.corpus, data.min_document_bytes, data.tokenizer, "
    "data.validation_fraction and data.validation_tokens",
    "context": "data.context",
    "scored_tokens": _WINDOWS,
    "scored_bytes": _WINDOWS,
}
"""The columns of `trials` that must be the same, and the settings that decide each."""
BYTES_PER_TOKEN = "bytes_per_token"
"""Stands in for the numbers of scored tokens and bytes in runs that did not record them."""
BUDGET = "budget"
MUST_BE_KNOWN = ("validation_set", "context")


def differences(*figures: Mapping[str, Any]) -> list[str]:
    """The known reasons why figures cannot be compared; empty if there are none.

    Args:
        figures: what each of them was measured on, by name: the columns SCORED_TEXT, as
            `Dataset.fingerprints`, `scored_texts` and rows of `trials` have them, and BUDGET for
            figures of trials. A missing entry is unknown.

    Returns:
        The names in which they differ.
    """
    names = [*SCORED_TEXT, BUDGET]
    if not all(_is_known(each, "scored_tokens") for each in figures):
        names.append(BYTES_PER_TOKEN)
    return [
        name for name in names if len({each[name] for each in figures if _is_known(each, name)}) > 1
    ]


def why_incomparable(figures: Mapping[str, Iterable[Mapping[str, Any]]]) -> str:
    """Why figures cannot be compared, with the settings to change; empty if they can.

    Figures with an unknown validation set or context cannot be compared.

    Args:
        figures: what the figures of each run were measured on, by the name to use in the text.
    """
    every = [(name, each) for name, several in figures.items() for each in several]
    found = differences(*(each for _, each in every))
    unknown = [name for name in MUST_BE_KNOWN if not all(_is_known(e, name) for _, e in every)]
    parts = []
    for name in (*SCORED_TEXT, BYTES_PER_TOKEN, BUDGET):
        if name not in found and name not in unknown:
            continue
        owners: dict[Any, list[str]] = {}
        for owner, each in every:
            value = each[name] if _is_known(each, name) else "not known"
            owners.setdefault(value, []).append(owner)
        values = "; ".join(f"{', '.join(names)}: {value}" for value, names in owners.items())
        decided_by = SCORED_TEXT.get(name, "training.tokens" if name == BUDGET else _WINDOWS)
        parts.append(f"{name} ({values}), decided by {decided_by}")
    return "; ".join(parts)


def bytes_per_token(history: pd.DataFrame) -> float:
    """UTF-8 bytes of a scored validation token, on average; NaN before the first evaluation.

    It is a property of the tokenizer and the validation set, so every evaluation of a run has the
    same `bits_per_token / bits_per_byte`.
    """
    scored = history.dropna(subset=["bits_per_token", "bits_per_byte"])
    return float((scored["bits_per_token"] / scored["bits_per_byte"]).median())


def at_largest_budget(trials: pd.DataFrame) -> pd.DataFrame:
    """The trials of a run whose figures were measured at the largest budget reached.

    Args:
        trials: rows of the table; rows without a figure are left out.
    """
    scored = trials[trials["bits_per_byte"].notna()]
    return scored[scored["rung"] == scored["rung"].max()]


def _is_known(figures: Mapping[str, Any], name: str) -> bool:
    return not pd.isna(figures.get(name))
