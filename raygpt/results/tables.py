"""The result tables: a row a trial, a row a report.

Columns of `trials`, each searched value following under its dotted name:

| column | meaning |
|---|---|
| trial_id | the trial's number in the search, as text |
| status | completed, stopped (at a rung), failed, diverged, or running (not finished) |
| tokens | budget of the last rung reached |
| tokens_trained | all tokens that the trial processed |
| rung | number of that rung, counted from 0 |
| bits_per_byte | on the validation set, at that rung |
| bits_per_token | the same in bits a token |
| next_token_accuracy | share of validation tokens that were the model's first choice |
| seconds | spent on training and evaluation |
| tokens_per_second | tokens_trained / seconds |
| baseline | whether these are the recipe's own starting values |
| confirms | trial_id of the trial whose values this one trains again with another seed |
| data | fingerprint of the token shards that it was trained on, the name of their folder |
| validation_set | fingerprint of the text it was scored on; figures on others do not compare |
| seed | of initialisation, data order and dropout |
| error | what ended a failed or diverged trial |
| checkpoint | folder of the last saved state, relative to the run folder where it lies inside |
| checkpoint_tokens | tokens_trained of that state |

Columns of `history`: trial_id, tokens, tokens_trained, cooldown (whether this is off the trunk, on
the way to a rung), rung (missing between rungs), bits_per_byte, bits_per_token and
next_token_accuracy (at rungs), train_bits_per_token (mean since the report before, dropout on),
learning_rate, gradient_norm, tokens_per_second, seconds, time (UTC).
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from raygpt.errors import UserError
from raygpt.results import files
from raygpt.results.confirmation import confirmation

TRIAL_COLUMNS = {
    "trial_id": "string",
    "status": "string",
    "tokens": "Int64",
    "tokens_trained": "Int64",
    "rung": "Int64",
    "bits_per_byte": "float64",
    "bits_per_token": "float64",
    "next_token_accuracy": "float64",
    "seconds": "float64",
    "tokens_per_second": "float64",
    "baseline": "boolean",
    "confirms": "string",
    "data": "string",
    "validation_set": "string",
    "seed": "Int64",
    "error": "string",
    "checkpoint": "string",
    "checkpoint_tokens": "Int64",
}
HISTORY_COLUMNS = {
    "trial_id": "string",
    "tokens": "Int64",
    "tokens_trained": "Int64",
    "cooldown": "boolean",
    "rung": "Int64",
    "bits_per_byte": "float64",
    "bits_per_token": "float64",
    "next_token_accuracy": "float64",
    "train_bits_per_token": "float64",
    "learning_rate": "float64",
    "gradient_norm": "float64",
    "tokens_per_second": "float64",
    "seconds": "float64",
    "time": "datetime64[us, UTC]",
}
# The table files may take this share of a run's time; what comes while they rest is in the journal.
WRITING_SHARE = 0.05
ORDER = {"confirmed": -1, "completed": 0, "running": 0, "stopped": 0, "diverged": 1, "failed": 2}
FINISHED = ("completed", "stopped", "failed", "diverged")
AT_A_RUNG = ("tokens", "rung", "bits_per_byte", "bits_per_token", "next_token_accuracy")


class RunTables:
    """The tables of a run while it goes on; every change is on disk when the call returns.

    A table file is only ever written as a whole, which takes the longer the more trials there are.
    So changes that follow each other closely go to a journal, a line each, that `load_results`
    reads with the tables; `refresh` and `flush` bring the table files themselves up to date.

    Args:
        folder: the run folder; tables that are there already are taken over, and made otherwise.
        searched: dotted names of the searched values, a column each.
        data: the columns data and validation_set of every trial.

    Raises:
        UserError: the tables that are there already are of other data.
    """

    def __init__(
        self, folder: Path, searched: Iterable[str], data: Mapping[str, str] | None = None
    ):
        self.folder = folder
        self.searched = list(searched)
        self._data = dict(data or {})
        self._trials: dict[str, dict[str, Any]] = {}
        self._history: list[dict[str, Any]] = []
        self._journal = folder / files.JOURNAL
        # At once, for a journal that a kill left behind may end within a line.
        self._due = 0.0
        if (folder / files.TRIALS).exists():
            results = load_results(folder)
            self._trials = {row["trial_id"]: row for row in rows(results.trials)}
            self._history = rows(results.history)
            self._refuse_other_data()
        else:
            self.flush()

    @property
    def trials(self) -> list[dict[str, Any]]:
        """A dictionary a trial, in the order in which they began."""
        return list(self._trials.values())

    @property
    def search_trials(self) -> list[dict[str, Any]]:
        """Those of the search itself, without the runs that confirm them."""
        return [row for row in self.trials if "confirms" not in row]

    def trial(self, trial_id: str) -> dict[str, Any]:
        """What is known of one trial; a column without a value is absent."""
        return self._trials[trial_id]

    @property
    def history(self) -> list[dict[str, Any]]:
        """A dictionary a report, in the order in which they came."""
        return list(self._history)

    def begin_trial(
        self,
        trial_id: str,
        seed: int,
        values: dict[str, Any],
        baseline: bool = False,
        confirms: str | None = None,
    ) -> None:
        """A trial starts, or one that was interrupted goes on."""
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
        """Forget reports that an interrupted trial is going to make again."""
        # The journal counts reports, so it must be gone before one of them is.
        self.flush()
        self._history = [
            row
            for row in self._history
            if row["trial_id"] != trial_id or row["tokens_trained"] <= tokens_trained
        ]
        self.flush()

    def add_report(self, trial_id: str, metrics: dict[str, Any]) -> None:
        """A trial reports: the figures of a `training.loop.Report`."""
        trial = self._trials[trial_id]
        row = {name: metrics[name] for name in HISTORY_COLUMNS if name in metrics}
        self._history.append(row | {"trial_id": trial_id, "time": datetime.now(timezone.utc)})
        trial["tokens_trained"] = metrics["tokens_trained"]
        trial["seconds"] = metrics["seconds"]
        trial["tokens_per_second"] = metrics["tokens_trained"] / metrics["seconds"]
        if "bits_per_byte" in metrics:
            trial.update({name: metrics[name] for name in AT_A_RUNG})
        self._changed(trial_id, reported=True)

    def set_checkpoint(
        self, trial_id: str, path: Path | str, tokens_trained: int | None = None
    ) -> None:
        """A trial's state was saved there: after so many tokens, or else at its last report."""
        path, folder = Path(path), self.folder.absolute()
        trial = self._trials[trial_id]
        trial["checkpoint"] = str(path.relative_to(folder) if folder in path.parents else path)
        if tokens_trained is None:
            tokens_trained = trial["tokens_trained"]
        trial["checkpoint_tokens"] = tokens_trained
        self._changed(trial_id)

    def end_trial(self, trial_id: str, status: str, error: str | None = None) -> None:
        """A trial is over; `status` is one of FINISHED."""
        assert status in FINISHED, status
        self._trials[trial_id]["status"] = status
        if error:
            self._trials[trial_id]["error"] = error
        self._changed(trial_id)

    def best(self) -> dict[str, Any] | None:
        """What is known of the best trial so far, as `Results.best` has it."""
        if any("confirms" in row for row in self._trials.values()):
            row = best_trial(self._frame())
            return None if row is None else self._trials[row["trial_id"]]
        # The same, without a frame, which takes a hundred times as long.
        scored = (row for row in self.trials if not is_missing(row.get("bits_per_byte")))
        return min(
            scored,
            key=lambda row: (ORDER[row["status"]], -row["tokens"], row["bits_per_byte"]),
            default=None,
        )

    def _refuse_other_data(self) -> None:
        for row in self.trials:
            for name, now in self._data.items():
                if (then := row.get(name, now)) != now:
                    raise UserError(
                        f"{self.folder} was run on other data ({name} was {then} and is {now}). "
                        f"{self.folder / files.ENVIRONMENT} says which revision of the corpus it "
                        f"had: give it that, with --set data.corpus=…, or start another run with "
                        f"--name NAME."
                    )

    def _frame(self) -> pd.DataFrame:
        frame = pd.DataFrame(self.trials)
        for name in self.searched:
            if name not in frame:
                frame[name] = None
        return _typed(frame, TRIAL_COLUMNS)

    def refresh(self) -> None:
        """Bring the table files up to date if they are not, and if it is time to."""
        if time.monotonic() >= self._due and self._journal.exists():
            self.flush()

    def flush(self) -> None:
        """Bring the table files up to date."""
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
        """Write down a trial's row, and the last report if it is new."""
        if time.monotonic() >= self._due:
            self.flush()
            return
        entry: dict[str, Any] = {"trial": self._trials[trial_id]}
        if reported:
            entry |= {"number": len(self._history) - 1, "report": self._history[-1]}
        files.append_line(self._journal, json.dumps(entry, default=_plain))


def _plain(value: Any) -> Any:
    """What JSON has for a date, or a number of numpy's."""
    return value.isoformat() if isinstance(value, datetime) else value.item()


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Trials sorted by status, by the budget reached and by bits per byte."""
    by = ["_order", "tokens", "bits_per_byte"]
    frame = frame.assign(_order=frame["status"].map(ORDER))
    return frame.sort_values(by, ascending=[True, False, True], kind="stable").drop(
        columns="_order"
    )


def ranked(trials: pd.DataFrame) -> pd.DataFrame:
    """The search's trials best first: the larger budget before the smaller, then fewer bits a byte.

    Trials of different budgets are not comparable, and one that was stopped early was stopped
    for being worse; diverged, failed and unscored ones come last.

    Where trials were confirmed, they come before all others, in the order of
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
    """The search's trial that `Results.best` is; None where none has reached a rung."""
    found = confirmation(trials)
    if found and found.winner:
        return trials[trials["trial_id"] == found.winner.trial_id].iloc[0]
    scored = ranked(trials[trials["confirms"].isna() & trials["bits_per_byte"].notna()])
    return None if scored.empty else scored.iloc[0]


@dataclass(frozen=True)
class Results:
    """The tables of a run as pandas frames; the module's docstring documents their columns."""

    folder: Path
    trials: pd.DataFrame
    history: pd.DataFrame

    @property
    def searched(self) -> list[str]:
        """The dotted names of the searched values."""
        return [name for name in self.trials if name not in TRIAL_COLUMNS]

    @property
    def best(self) -> pd.Series | None:
        """The row of the best trial: of the largest budget reached, the fewest bits per byte.

        Where trials were confirmed, by the mean of the runs that confirm them, of which none must
        have diverged; the row is that of the search's own trial, with the figures it had there.
        """
        return best_trial(self.trials)

    @property
    def conclusions(self) -> list[str]:
        """Which differences of confirmed trials are real, a sentence each; empty without any."""
        found = confirmation(self.trials)
        return found.words() if found else []


def load_results(folder: str | Path) -> Results:
    """The tables of a run, finished, going on or killed.

    Raises:
        UserError: the folder is not a run folder, or its tables cannot be read.
    """
    folder = Path(folder)
    if not (folder / files.TRIALS).is_file():
        runs = sorted(str(path.parent) for path in folder.glob(f"*/{files.TRIALS}"))
        hint = f"; runs in there: {', '.join(runs)}" if runs else ""
        what = "no such folder" if not folder.exists() else f"no run (no {files.TRIALS} in it)"
        raise UserError(f"{folder}: {what}{hint}")
    while True:
        written = _identity(folder / files.TRIALS)
        trials = _read_table(folder / files.TRIALS, TRIAL_COLUMNS)
        history = _read_table(folder / files.HISTORY, HISTORY_COLUMNS)
        journal = files.read_lines(folder / files.JOURNAL)
        # Else the journal is not about the tables that were read.
        if written == _identity(folder / files.TRIALS):
            break
    if journal:
        trials, history = _with_journal(trials, history, journal)
    return Results(folder, trials, history)


def _identity(path: Path) -> tuple[int, int]:
    """Differs after the file was replaced."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _with_journal(
    trials: pd.DataFrame, history: pd.DataFrame, lines: Iterable[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables with what a journal says; some of it may be in the tables already."""
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


def _read_table(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    try:
        # Read once: given a path, pandas opens it twice, and a rewrite may come in between. On this
        # thread: one of pyarrow's that still held Python's file object aborted the exit at times.
        table = pq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)
        # An earlier version's table lacks columns.
        return _typed(table.to_pandas(use_threads=False), columns)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def _typed(frame: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """The documented columns first and with their types, then all others."""
    others = [name for name in frame if name not in columns]
    frame = frame.reindex(columns=[*columns, *others])
    return frame.astype(columns)


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A dictionary a row of a table, missing values left out."""
    return [
        {name: value for name, value in row.items() if not is_missing(value)}
        for row in frame.to_dict("records")
    ]


def is_missing(value: Any) -> bool:
    """Whether a cell of a table is empty."""
    return value is None or bool(pd.isna(value))
