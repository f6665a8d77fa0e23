"""Report: what won and by how much, and how far to trust it."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from raygpt.analysis.blocks import Block, Headline, Notice, Pictures, Points, Table, Text
from raygpt.analysis.groups import judged
from raygpt.analysis.headlines import winner
from raygpt.analysis.run import Run
from raygpt.results.confirmation import CONFIDENCE, confirmation
from raygpt.results.leaderboard import displayed, leaderboard
from raygpt.results.tables import is_missing
from raygpt.wording import shell_quoted

TOP = 10
"""Rows of the leaderboard."""


def blocks(run: Run) -> Iterator[Block]:
    """The winner's figures, the evidence for them, and the top of the leaderboard."""
    if run.best is None:
        yield Text("No trial has a result yet.")
        return
    board = leaderboard([run])
    found = confirmation(run.trials)
    confirmed = found is not None and found.winner is not None
    yield Headline(list(_headline(run, board, confirmed)))
    if found:
        yield Points(run.conclusions)
        if not confirmed:
            yield Notice("The confirmation has not ended, so there is no confirmed winner yet.")
        if any(c.scores for c in found.configurations):
            yield Pictures(
                [run.plot_confirmation()],
                f"Further runs of the configurations that were confirmed. Diamonds are means with "
                f"{CONFIDENCE:.0%} intervals, which follow from the scatter of all further runs "
                f"together; rings are single runs. The search's own run, for whose figure a "
                f"configuration was selected, is not included.",
            )
            yield from _further_runs(run, board)
    elif run.searched:
        yield Notice(_unconfirmed(run))
    elif len(run.trials) > 1:
        yield Text(_noise(run))
    # The means of further runs do not compare with the search's own figures.
    board = leaderboard([_search_alone(run)])
    top = board.head(TOP)
    yield _as_table(top.drop(columns=["error", "folder"], errors="ignore"))
    if "gain" in board:
        yield Text("Gain: the baseline's bits per byte minus the trial's, both at the same budget.")
    if len(board) > len(top):
        yield Text(
            f"These are the best {len(top)} of {len(board)}. To see all: "
            f"python -m raygpt.leaderboard {shell_quoted(run.folder)}"
        )


def _search_alone(run: Run) -> Run:
    """The run without the further runs that confirm its trials."""
    return replace(run, trials=run.trials[run.trials["confirms"].isna()])


def _further_runs(run: Run, board: pd.DataFrame) -> Iterator[Block]:
    """The confirmed configurations, with the figures that their trials had in the search."""
    names = ("trial_id", "baseline", "runs", "bits_per_byte", "standard_error", "ci_low", "ci_high")
    frame = board.loc[board["runs"].notna(), [n for n in (*names, "gain") if n in board]]
    own = _search_alone(run).trials.set_index("trial_id")
    figures = own.loc[frame["trial_id"], "bits_per_byte"].map("{:.4f}".format)
    yield _as_table(frame.assign(in_the_search=figures.to_numpy()))
    text = "Figures are means of further runs; gains are over the baseline's mean."
    if own["seed"].nunique() == 1:
        text += (
            f" In the search every trial had the seed {own['seed'].iloc[0]}, so its figures do not "
            f"show how much a seed matters; each further run has a seed of its own."
        )
    yield Text(text)
    yield Text("The search's own runs, one of each configuration:")


def _as_table(board: pd.DataFrame) -> Table:
    headings, rows = displayed(board)
    return Table(headings, rows, frozenset(headings) - {"trial", "status", "run"})


def _headline(run: Run, board: pd.DataFrame, confirmed: bool) -> Iterator[tuple[str, str]]:
    row = winner(run, board)
    name = "the run" if len(run.trials) == 1 else f"trial {row['trial_id']}"
    if not is_missing(error := row.get("standard_error")) and confirmed:
        runs = f"mean of {row['runs']} further runs, with its standard error"
        yield f"{row['bits_per_byte']:.4f} ± {error:.4f}", f"bits per byte, {name}: {runs}"
    else:
        at = f"at {row['tokens']:,} tokens, one run"
        yield f"{row['bits_per_byte']:.4f}", f"bits per byte, {name}, {at}"
    gain = row.get("gain")
    if row.get("baseline", False):
        yield "baseline", "is the best itself: no trial was better"
    elif not is_missing(gain):
        share = abs(gain) / (gain + row["bits_per_byte"])
        than = "fewer" if gain > 0 else "more"
        yield f"{abs(gain):.4f}", f"bits per byte {than} than the baseline, {share:.1%}"
    first_two = judged(run).nsmallest(2, "bits_per_byte")
    # If the second is the baseline, the figure above is the same.
    known = len(first_two) < 2 or first_two["baseline"].fillna(False).iloc[1]
    if run.searched and not confirmed and not known:
        ahead = f"{first_two['bits_per_byte'].diff().iloc[1]:.4f}"
        yield ahead, "bits per byte fewer than the second best, one run each"


def _unconfirmed(run: Run) -> str:
    compared = judged(run)
    text = (
        f"Nothing was confirmed: every configuration was trained once, and "
        f"{run.best['trial_id']} was selected as the best of {len(compared)} that reached "
        f"{compared['tokens'].max():,} tokens. "
    )
    if len(compared) < 2:
        return text + "There is nothing to compare it with yet."
    return text + (
        "Another seed gives another figure, and the best of many owes part of its lead to chance. "
        "Expect a smaller lead, and do not rely on small differences. The last section has the "
        "command that confirms the result."
    )


def _noise(run: Run) -> str:
    scores = judged(run)["bits_per_byte"]
    if len(scores) < 2:
        return "There is no second result yet, so the noise between runs is not known."
    return (
        f"The {len(scores)} runs of {judged(run)['tokens'].max():,} tokens have a mean of "
        f"{scores.mean():.4f} bits per byte and a standard deviation of {scores.std():.4f}, which "
        f"is the noise from run to run. All of them trained the same recipe, so the best run only "
        f"had the best seed."
    )
