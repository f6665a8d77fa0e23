"""The top of a report: the run's state, the winner, and whether the run has ended."""

from collections import Counter

import pandas as pd

from raygpt.analysis.run import Run
from raygpt.results import files
from raygpt.results.confirmation import confirmation
from raygpt.results.leaderboard import leaderboard
from raygpt.results.run_folder import is_being_run
from raygpt.results.tables import is_missing
from raygpt.wording import counted, listed


def state(run: Run) -> str:
    """The number of trials of each status, as a sentence."""
    own = run.trials[run.trials["confirms"].isna()]
    further = run.trials[run.trials["confirms"].notna()]
    text = "No trial has begun"
    if len(own):
        statuses = [f"{number} {status}" for status, number in Counter(own["status"]).items()]
        text = f"{counted(len(own), 'trial')}: {', '.join(statuses)}"
    if len(further):
        text += f"; {counted(len(further), 'further run')} to confirm the best"
    return f"{text}."


def verdict(run: Run) -> str | None:
    """The winner, its lead and how far to trust it, in short; None if there is no winner yet."""
    if run.best is None or not run.searched:
        return None
    row, found = winner(run, leaderboard([run])), confirmation(run.trials)
    text = f"Best: trial {row['trial_id']} with {row['bits_per_byte']:.4f} bits per byte"
    if found and found.winner and len(run.conclusions) > 1:
        text += f" on average over {row['runs']} further runs. {run.conclusions[1]}."
        others = [c for c in found.compared if c not in (found.winner, found.baseline)]
        ties = [c.trial_id for c in others if not found.difference(found.winner, c).real]
        if ties and found.winner is not found.baseline:
            text += f" It is not shown to be better than {listed(ties, 'or')}."
        return text
    if not row.get("baseline", False) and not is_missing(gain := row.get("gain")):
        text += f", {abs(gain):.4f} {'fewer' if gain > 0 else 'more'} than the baseline"
    if found:
        return f"{text}. It is not confirmed yet."
    return f"{text}. It was trained once, and is not confirmed."


def unfinished(run: Run) -> str | None:
    """Sentences on a run that is running or was interrupted; None if it has ended."""
    being_run = is_being_run(run.folder)
    ended = int((run.trials["status"] != "running").sum())
    wanted = trials_wanted(run)
    if not being_run and ended == len(run.trials) and ended >= wanted:
        return None
    last = run.history["time"].max()
    when = "" if is_missing(last) else f" The last report came at {last:%Y-%m-%d %H:%M} UTC."
    of_all = f"{ended} of {max(wanted, len(run.trials))} trials have ended."
    if being_run:
        return f"This run is still running: {of_all}{when} This report shows its present state."
    return (
        f"This run was interrupted: {of_all}{when} This report shows the results so far; its last "
        f"section has the command that resumes the run."
    )


def trials_wanted(run: Run) -> int:
    """The number of trials that the recipe asks for."""
    if run.search_file is None or not (run.searched or (run.folder / files.STUDY).exists()):
        return len(run.trials)
    return run.search_file.search.trials


def winner(run: Run, board: pd.DataFrame) -> pd.Series:
    """The best trial's row in the run's leaderboard."""
    return board[board["trial_id"] == run.best["trial_id"]].iloc[0]
