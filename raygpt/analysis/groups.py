"""The groups of trials that figures show in different colours, and the trials' hover texts."""

import html
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from raygpt.results.comparability import at_largest_budget
from raygpt.results.leaderboard import format_value
from raygpt.results.tables import Results, is_missing

BEST, BASELINE, FURTHER = "best", "baseline", "further runs"
COLOURS = {
    "stopped": "#8e959e",
    "failed": "#9a6b3f",
    "diverged": "#cc4488",
    "running": "#2fa7a0",
    FURTHER: "#8f7be0",
    "completed": "#3d8fd1",
    BASELINE: "#1f9d61",
    BEST: "#e0601f",
}
"""The colour of every group, in drawing order; all are visible on white and on black."""
WIDER = (BEST, BASELINE)
"""Groups of a single trial, which are drawn larger."""


def short(name: str) -> str:
    """The last part of a dotted name, as people read it."""
    return name.rpartition(".")[2].replace("_", " ")


def groups(results: Results) -> pd.Series:
    """The group of every trial, one of COLOURS, with the index of the trials' table.

    A further run is one that confirms a trial; the best trial and the baseline are groups of their
    own.
    """
    trials = results.trials
    found = trials["status"].astype(object)
    found = found.mask(trials["confirms"].notna(), FURTHER)
    found = found.mask(trials["baseline"].fillna(False), BASELINE)
    if results.best is not None:
        found = found.mask(trials["trial_id"] == results.best["trial_id"], BEST)
    return found


def judged(results: Results) -> pd.DataFrame:
    """The search's trials whose figures compare: at the largest budget that any has reached.

    Diverged and failed trials are left out, even if they had reached it before.
    """
    trials = results.trials
    sound = trials["confirms"].isna() & ~trials["status"].isin(["diverged", "failed"])
    return at_largest_budget(trials[sound])


def points(results: Results) -> Iterator[tuple[str, bool, pd.DataFrame]]:
    """The search's trials by group, as figures of bits per byte draw them.

    Yields:
        One of COLOURS, whether its trials are drawn as crosses, and their rows. Crosses are trials
        that were stopped, diverged or failed, which cannot be compared with `judged` ones. Running
        trials that are not judged are left out.
    """
    trials, group = results.trials, groups(results)
    compared = trials["trial_id"].isin(judged(results)["trial_id"])
    others = ~compared & trials["confirms"].isna() & (trials["status"] != "running")
    for which in COLOURS:
        for among, crosses in ((compared, False), (others, True)):
            yield which, crosses, trials[among & (group == which)]


def hover_texts(results: Results, names: Iterable[str] | None = None) -> dict[str, str]:
    """The hover text of each trial, by trial_id: its name, group, figure and values.

    Args:
        results: results of a run.
        names: dotted names of the values to show; all searched ones if left out.
    """
    names = results.searched if names is None else list(names)
    return {
        row["trial_id"]: "<br>".join([_who(row, group), *_values(row, names)])
        for row, group in zip(results.trials.to_dict("records"), groups(results), strict=True)
    }


def _who(row: Mapping[str, Any], group: str) -> str:
    if group == FURTHER:
        group = f"further run of {row['confirms']}, {row['status']}"
    elif group != row["status"]:
        group = f"{group}, {row['status']}"
    text = f"<b>{row['trial_id']}</b> {group}"
    if is_missing(row["bits_per_byte"]):
        return text
    return f"{text}<br>{row['bits_per_byte']:.4f} bits per byte at {row['tokens']:,} tokens"


def _values(row: Mapping[str, Any], names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if not is_missing(row[name]):
            yield f"{short(name)} {html.escape(format_value(row[name]))}"
