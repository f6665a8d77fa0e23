"""The columns of the result tables: one entry each, with its type and its meaning.

A figure that `training.loop.Report` has under the same name needs nothing but its entry here to
appear in the tables.
"""

from typing import NamedTuple


class Column(NamedTuple):
    """A column of a result table."""

    type: str
    """Its name in pandas."""
    meaning: str
    copied: str = ""
    """Which reports the trials' table takes it from: every REPORT, those at a RUNG, or none."""


REPORT, RUNG = "report", "rung"

TRIAL_COLUMNS = {
    "trial_id": Column("string", "the trial's name"),
    "status": Column("string", "completed, stopped (at a rung), failed, diverged or running"),
    "tokens": Column("Int64", "budget of the last rung reached", RUNG),
    "tokens_trained": Column("Int64", "all tokens processed, cooldowns included", REPORT),
    "rung": Column("Int64", "number of the last rung reached, counted from 0", RUNG),
    "bits_per_byte": Column("float64", "on the validation set, at that rung", RUNG),
    "bits_per_token": Column("float64", "on the validation set, at that rung", RUNG),
    "next_token_accuracy": Column(
        "float64", "share of validation tokens that the model ranked first, at that rung", RUNG
    ),
    "seconds": Column("float64", "spent on training and evaluation", REPORT),
    "tokens_per_second": Column("float64", "tokens_trained / seconds"),
    "baseline": Column("boolean", "whether the trial has the recipe's own starting values"),
    "confirms": Column(
        "string", "trial_id of the trial whose values this run trains again with another seed"
    ),
    "data": Column("string", "fingerprint of the token shards, which is their folder's name"),
    "validation_set": Column("string", "fingerprint of the validation set's text"),
    "context": Column("Int64", "tokens in a window, in training and in validation"),
    "scored_tokens": Column("Int64", "validation tokens that are scored"),
    "scored_bytes": Column("Int64", "UTF-8 bytes of the scored tokens"),
    "seed": Column("Int64", "of initialisation, data order and dropout"),
    "error": Column("string", "why the trial failed or diverged"),
    "checkpoint": Column(
        "string", "folder of the last checkpoint, relative to the run folder if it lies inside"
    ),
    "checkpoint_tokens": Column("Int64", "tokens_trained of that checkpoint"),
}
"""The columns of `trials`; one for each searched value follows, under its dotted name."""

HISTORY_COLUMNS = {
    "trial_id": Column("string", "the trial's name"),
    "tokens": Column("Int64", "position in the budget"),
    "tokens_trained": Column("Int64", "all tokens processed, cooldowns included"),
    "cooldown": Column("boolean", "whether the report belongs to the cooldown of a rung"),
    "rung": Column("Int64", "number of the rung, counted from 0; missing between rungs"),
    "bits_per_byte": Column("float64", "on the validation set, at rungs"),
    "bits_per_token": Column("float64", "on the validation set, at rungs"),
    "next_token_accuracy": Column(
        "float64", "share of validation tokens that the model ranked first, at rungs"
    ),
    "train_bits_per_token": Column(
        "float64", "mean training loss since the report before, with dropout"
    ),
    "learning_rate": Column("float64", "of the last step"),
    "gradient_norm": Column("float64", "of the last step, before clipping"),
    "tokens_per_second": Column("float64", "since the report before, without evaluation"),
    "seconds": Column("float64", "spent on training and evaluation so far"),
    "time": Column("datetime64[us, UTC]", "when the report was made"),
}
"""The columns of `history`."""


def copied_from(reports: str) -> list[str]:
    """The columns of `trials` that are copied from such reports: REPORT or RUNG."""
    return [name for name, column in TRIAL_COLUMNS.items() if column.copied == reports]
