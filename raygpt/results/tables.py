"""The result tables: one row for each trial, and one for each report.

`raygpt.results.columns` says what their columns mean; each searched value has a column too, under
its dotted name.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raygpt.errors import UserError
from raygpt.recipe.search_file import SearchFile, load_search_file
from raygpt.results import files
from raygpt.results.columns import (
    HISTORY_COLUMNS,
    REPORT,
    RUNG,
    TRIAL_COLUMNS,
    Column,
    copied_from,
)
from raygpt.results.confirmation import confirmation

WRITING_SHARE = 0.05
"""Share of a run's time that writing the table files may take; between writes, changes go to the
journal."""
RANK_OF_STATUS = {
    "confirmed": -1,
    "completed": 0,
    "running": 0,
    "stopped": 0,
    "diverged": 1,
    "failed": 2,
}
FINISHED = ("completed", "stopped", "failed", "diverged")


class RunTables:
    """The tables of a run in progress; every change is on disk when the call returns.

    A table file is always written as a whole, which takes longer the more trials there are. So
    changes that follow each other closely are appended to a journal, one line each, which
    `load_results` reads with the tables; `refresh` and `flush` write the table files themselves.

    Args:
        folder: the run folder; existing tables are continued, else new ones are made.
        searched: dotted names of the searched values, which get a column each.
        data: columns that every trial has, from `Dataset.fingerprints`.

    Raises:
        UserError: the existing tables were made with other data.
    """

    def __init__(
        self, folder: Path, searched: Iterable[str], data: Mapping[str, Any] | None = None
    ):
        self.folder = folder
        self.searched = list(searched)
        self._data = dict(data or {})
        self._trials: dict[str, dict[str, Any]] = {}
        self._history: list[dict[str, Any]] = []
        self._journal = folder / files.JOURNAL
        # The first change writes the files: a journal left by a kill may end in half a line.
        self._due = 0.0
        if (folder / files.TRIALS).exists():
            results = load_results(folder)
            self._trials = {row["trial_id"]: row for row in rows(results.trials)}
            self._history = rows(results.history)
            self._refuse_other_data()
            self._complete_data()
        else:
            self.flush()

    @property
    def trials(self) -> list[dict[str, Any]]:
        """A dictionary for each trial, in the order in which they began."""
        return list(self._trials.values())

    @property
    def search_trials(self) -> list[dict[str, Any]]:
        """The search's own trials, without the runs that confirm them."""
        return [row for row in self.trials if "confirms" not in row]

    def trial(self, trial_id: str) -> dict[str, Any]:
        """The row of one trial, without the columns that have no value."""
        return self._trials[trial_id]

    @property
    def history(self) -> list[dict[str, Any]]:
        """A dictionary for each report, in the order in which they came."""
        return list(self._history)

    def begin_trial(
        self,
        trial_id: str,
        seed: int,
        values: dict[str, Any],
        baseline: bool = False,
        confirms: str | None = None,
    ) -> None:
        """Record that a trial starts, or that an interrupted one resumes."""
        if trial_id not in self._trials:
            self._trials[trial_id] = {
                "trial_id": trial_id,
                "baseline": baseline,
                "seed": seed,
                **({"confirms": confirms} if confirms else {}),
                **self._data,
                **values,
            }
        self._trials[trial_id]["status"] = "running"
        self._trials[trial_id].pop("error", None)
        self._changed(trial_id)

    def drop_reports_after(self, trial_id: str, tokens_trained: int) -> None:
        """Remove reports that an interrupted trial is going to make again."""
        # The journal refers to reports by their number, so it must be empty before one is removed.
        self.flush()
        self._history = [
            row
            for row in self._history
            if row["trial_id"] != trial_id or row["tokens_trained"] <= tokens_trained
        ]
        self.flush()

    def add_report(self, trial_id: str, metrics: dict[str, Any]) -> None:
        """Record a trial's report: the metrics of a `training.loop.Report`."""
        trial = self._trials[trial_id]
        row = {name: metrics[name] for name in HISTORY_COLUMNS if name in metrics}
        self._history.append(row | {"trial_id": trial_id, "time": datetime.now(timezone.utc)})
        copied = copied_from(REPORT)
        if "bits_per_byte" in metrics:
            copied += copied_from(RUNG)
        trial.update({name: metrics[name] for name in copied if name in metrics})
        trial["tokens_per_second"] = metrics["tokens_trained"] / metrics["seconds"]
        self._changed(trial_id, reported=True)

    def set_checkpoint(
        self, trial_id: str, path: Path | str, tokens_trained: int | None = None
    ) -> None:
        """Record where a trial's state was saved.

        Args:
            trial_id: the trial's name.
            path: the checkpoint's folder.
            tokens_trained: tokens trained in the saved state; by default, in the last report.
        """
        path, folder = Path(path), self.folder.absolute()
        trial = self._trials[trial_id]
        trial["checkpoint"] = str(path.relative_to(folder) if folder in path.parents else path)
        if tokens_trained is None:
            tokens_trained = trial["tokens_trained"]
        trial["checkpoint_tokens"] = tokens_trained
        self._changed(trial_id)

    def end_trial(self, trial_id: str, status: str, error: str | None = None) -> None:
        """Record that a trial has ended; `status` is one of FINISHED."""
        assert status in FINISHED, status
        self._trials[trial_id]["status"] = status
        if error:
            self._trials[trial_id]["error"] = error
        self._changed(trial_id)

    def best(self) -> dict[str, Any] | None:
        """The row of the best trial so far, chosen as `Results.best` does."""
        if any("confirms" in row for row in self._trials.values()):
            row = best_trial(self._frame())
            return None if row is None else self._trials[row["trial_id"]]
        # The same without making a frame, which takes a hundred times as long.
        scored = (row for row in self.trials if not is_missing(row.get("bits_per_byte")))
        return min(
            scored,
            key=lambda row: (RANK_OF_STATUS[row["status"]], -row["rung"], row["bits_per_byte"]),
            default=None,
        )

    def _refuse_other_data(self) -> None:
        for row in self.trials:
            for name, now in self._data.items():
                if (then := row.get(name, now)) != now:
                    raise UserError(
                        f"{self.folder} was run on other data ({name} was {then} and is {now}). "
                        f"{self.folder / files.ENVIRONMENT} names the revision of the corpus that "
                        f"it was run on: resume with that, as --set data.corpus=…, or start "
                        f"another run with --name NAME. If it names another cleaning of the text "
                        f"than this version of raygpt has, only the version that it was started "
                        f"with can resume it."
                    )

    def _complete_data(self) -> None:
        """Fill in the columns that an older version did not write, where the data is the same."""
        for row in self.trials:
            if "data" in row and row["data"] == self._data.get("data"):
                row |= {name: value for name, value in self._data.items() if name not in row}

    def _frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.trials)
        for name in self.searched:
            if name not in frame:
                frame[name] = None
        return _typed(frame, TRIAL_COLUMNS)

    def refresh(self) -> None:
        """Write the table files if they are out of date and were not written just before."""
        if time.monotonic() >= self._due and self._journal.exists():
            self.flush()

    def flush(self) -> None:
        """Write the table files."""
        started = time.monotonic()
        trials = self._frame()
        history = _typed(pd.DataFrame(self._history), HISTORY_COLUMNS)
        files.replace_file(self.folder / files.HISTORY, history.to_parquet)
        files.replace_file(self.folder / files.TRIALS, trials.to_parquet)
        files.replace_file(
            self.folder / files.LEADERBOARD,
            lambda path: ranked(trials).to_csv(path, index=False),
        )
        self._journal.unlink(missing_ok=True)
        now = time.monotonic()
        self._due = now + (now - started) * (1 / WRITING_SHARE - 1)

    def _changed(self, trial_id: str, reported: bool = False) -> None:
        """Put a trial's row on disk, and the last report if `reported`."""
        if time.monotonic() >= self._due:
            self.flush()
            return
        entry: dict[str, Any] = {"trial": self._trials[trial_id]}
        if reported:
            entry |= {"number": len(self._history) - 1, "report": self._history[-1]}
        files.append_line(self._journal, json.dumps(entry, default=_plain))


def _plain(value: Any) -> Any:
    """A date or one of numpy's numbers as JSON can hold it."""
    return value.isoformat() if isinstance(value, datetime) else value.item()


def in_order(frame: pd.DataFrame, budget: str = "rung") -> pd.DataFrame:
    """Trials sorted by status, then by budget, the largest first, then by bits per byte.

    Args:
        frame: rows of the trials' table.
        budget: the column that says which trials had the same budget.
    """
    by = ["_order", budget, "bits_per_byte"]
    frame = frame.assign(_order=frame["status"].map(RANK_OF_STATUS))
    return frame.sort_values(by, ascending=[True, False, True], kind="stable").drop(
        columns="_order"
    )


def ranked(trials: pd.DataFrame) -> pd.DataFrame:
    """The search's trials, best first.

    Bits per byte rank trials of the same budget only. A larger budget ranks before a smaller one,
    because a trial that was stopped early was stopped for being worse. Diverged trials, failed ones
    and those without a figure come last.

    If trials were confirmed, they come before all others, in the order of
    `Confirmation.standings`, whose columns are then added; the runs that confirmed them have no
    rows of their own.
    """
    frame = in_order(trials[trials["confirms"].isna()])
    if found := confirmation(trials):
        standings = found.standings()
        standings["_place"] = standings.index
        frame = frame.merge(standings, how="left", on="trial_id")
        frame = frame.sort_values("_place", kind="stable").drop(columns="_place")
    return frame.reset_index(drop=True)


def best_trial(trials: pd.DataFrame) -> pd.Series | None:
    """The row that `Results.best` returns; None if no trial has reached a rung."""
    found = confirmation(trials)
    if found and found.winner:
        return trials[trials["trial_id"] == found.winner.trial_id].iloc[0]
    scored = ranked(trials[trials["confirms"].isna() & trials["bits_per_byte"].notna()])
    return None if scored.empty else scored.iloc[0]


@dataclass(frozen=True)
class Results:
    """The tables of a run as pandas frames; `raygpt.results.columns` documents their columns."""

    folder: Path
    trials: pd.DataFrame
    history: pd.DataFrame

    @cached_property
    def search_file(self) -> SearchFile | None:
        """The recipe with its ranges; None if the folder has no search.yaml that can be read."""
        try:
            return load_search_file(self.folder / files.SEARCH)
        except UserError:
            return None

    @property
    def searched(self) -> list[str]:
        """The dotted names of the searched values."""
        return [name for name in self.trials if name not in TRIAL_COLUMNS]

    @property
    def best(self) -> pd.Series | None:
        """The row of the best trial: fewest bits per byte at the largest budget reached.

        If trials were confirmed, it is the one with the best mean over the runs that confirm it,
        none of which may have diverged; the row then still has the figures of the search's trial.
        """
        return best_trial(self.trials)

    @property
    def conclusions(self) -> list[str]:
        """Sentences on which differences between confirmed trials are real; empty if none were."""
        found = confirmation(self.trials)
        return found.words() if found else []


def load_results(folder: str | Path) -> Results:
    """The tables of a run, whether it has finished, is running or was killed.

    Raises:
        UserError: the folder is not a run folder, or its tables cannot be read.
    """
    folder = Path(folder)
    if not (folder / files.TRIALS).is_file():
        runs = sorted(str(path.parent) for path in folder.glob(f"*/{files.TRIALS}"))
        hint = f"; run folders in it: {', '.join(runs)}" if runs else ""
        what = (
            f"not a run folder (no {files.TRIALS} in it)" if folder.exists() else "no such folder"
        )
        raise UserError(f"{folder}: {what}{hint}")
    while True:
        written = _identity(folder / files.TRIALS)
        trials = _read_table(folder / files.TRIALS, TRIAL_COLUMNS)
        history = _read_table(folder / files.HISTORY, HISTORY_COLUMNS)
        journal = files.read_lines(folder / files.JOURNAL)
        # If the tables were replaced meanwhile, the journal does not continue what was read.
        if written == _identity(folder / files.TRIALS):
            break
    if journal:
        trials, history = _with_journal(trials, history, journal)
    return Results(folder, trials, history)


def _identity(path: Path) -> tuple[int, int]:
    """A value that changes when the file is replaced."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _with_journal(
    trials: pd.DataFrame, history: pd.DataFrame, lines: Iterable[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables with a journal's changes, some of which they may contain already."""
    others = [name for name in trials if name not in TRIAL_COLUMNS]
    known = {row["trial_id"]: row for row in rows(trials)}
    reports = rows(history)
    for entry in map(json.loads, lines):
        known[entry["trial"]["trial_id"]] = entry["trial"]
        if "report" in entry:
            report = entry["report"] | {"time": datetime.fromisoformat(entry["report"]["time"])}
            reports[entry["number"] :] = [report]
    frame = pd.DataFrame(known.values())
    frame = frame.reindex(columns=[*TRIAL_COLUMNS, *others])
    return _typed(frame, TRIAL_COLUMNS), _typed(pd.DataFrame(reports), HISTORY_COLUMNS)


def _read_table(path: Path, columns: Mapping[str, Column]) -> pd.DataFrame:
    try:
        # Given a path, pandas opens it twice, and the file may be replaced in between. Threads of
        # pyarrow that still held Python's file object at exit aborted it at times.
        table = pq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)
        # A table of an older version lacks columns.
        return _typed(table.to_pandas(use_threads=False), columns)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _typed(frame: pd.DataFrame, columns: Mapping[str, Column]) -> pd.DataFrame:
    """The frame with the documented columns first, in their types, then all others."""
    others = [name for name in frame if name not in columns]
    frame = frame.reindex(columns=[*columns, *others])
    return frame.astype({name: column.type for name, column in columns.items()})


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A dictionary for each row of a table, without missing values."""
    return [
        {name: value for name, value in row.items() if not is_missing(value)}
        for row in frame.to_dict("records")
    ]


def is_missing(value: Any) -> bool:
    """Whether a cell of a table is empty."""
    return value is None or bool(pd.isna(value))
