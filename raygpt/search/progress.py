"""The progress of a running search, for the terminal."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from raygpt.recipe.budget import budget_tokens
from raygpt.recipe.search_file import SearchFile
from raygpt.results.leaderboard import format_value
from raygpt.results.tables import FINISHED, RunTables
from raygpt.search.confirm import expected_runs
from raygpt.search.forecast import Forecast
from raygpt.wording import clock

SHOWN_RUNNING = 8
SECONDS_BETWEEN_SUMMARIES = 30


class Progress:
    """A live view in a terminal, plain lines elsewhere.

    It is a context manager around the search. `began`, `reported` and `ended` tell it of events.

    Args:
        tables: the run's tables, up to date before every call.
        search_file: ranges and recipe.
        console: where to write.
        forecast: estimates the remaining time, which is not shown without it.
    """

    def __init__(
        self,
        tables: RunTables,
        search_file: SearchFile,
        console: Console,
        forecast: Forecast | None = None,
    ):
        self._tables = tables
        self._search_file = search_file
        self._budget = budget_tokens(search_file.baseline())
        self._console = console
        self._forecast = forecast
        self._started = self._summarised = time.monotonic()
        self._tokens_before = tokens_trained(tables)
        self._live = Live(
            get_renderable=self._view, console=console, refresh_per_second=2, transient=True
        )

    def __enter__(self) -> "Progress":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def confirming(self, runs: int) -> None:
        """The search has ended, and its confirmation of this many runs begins or is resumed."""
        self._line(f"the search has ended; {runs} runs to confirm its best trials follow")

    def began(self, trial_id: str) -> None:
        """A trial started."""
        if self._forecast:
            self._forecast.began(trial_id, time.monotonic())
        trial = self._tables.trial(trial_id)
        seed = f"seed={trial['seed']} " if "confirms" in trial else ""
        values = describe_values(trial, self._tables.searched)
        self._line(f"trial {trial_id} started  {seed}{values}")

    def reported(self, trial_id: str) -> None:
        """A trial reported."""
        now = time.monotonic()
        if self._forecast:
            self._forecast.reported(trial_id, now)
        if now - self._summarised > SECONDS_BETWEEN_SUMMARIES:
            self._summarised = now
            counts = self._counts()
            confirming = f"; confirming: {counts['confirm']}" if "confirm" in counts else ""
            self._line(f"{counts['trials']}{confirming}; {self._pace()}")

    def ended(self, trial_id: str) -> None:
        """A trial ended."""
        trial = self._tables.trial(trial_id)
        text = f"trial {trial_id} {trial['status']}"
        if "bits_per_byte" in trial:
            text += f" at {trial['tokens']:,} tokens: {trial['bits_per_byte']:.4f} bits per byte"
        if trial.get("error"):
            text += f": {trial['error']}"
        self._line(text)

    def _line(self, text: str) -> None:
        if not self._console.is_terminal:
            elapsed = clock(time.monotonic() - self._started)
            self._console.print(f"{elapsed} {text}", highlight=False, soft_wrap=True, markup=False)

    def _counts(self) -> dict[str, str]:
        """Statuses of the search's trials, and of its confirmation once that has begun."""
        trials = self._tables.trials
        confirming = [trial for trial in trials if "confirms" in trial]
        runs = expected_runs(trials, self._search_file)
        search = count_statuses(self._tables.search_trials, self._search_file.search.trials)
        return {"trials": search} | (
            {"confirm": count_statuses(confirming, runs)} if confirming else {}
        )

    def _pace(self) -> str:
        elapsed = time.monotonic() - self._started
        trained = tokens_trained(self._tables) - self._tokens_before
        parts = [f"{trained / elapsed:,.0f} tokens/s"] if trained else []
        parts.append(f"{clock(elapsed)} elapsed")
        left = self._forecast.seconds_left() if self._forecast else None
        if left is not None:
            parts.append(f"about {clock(left)} left")
        return ", ".join(parts)

    def _view(self) -> Group:
        figures = self._counts() | {"pace": self._pace()}
        lines = [Text(f"{name:<8}{text}") for name, text in figures.items()]
        best = self._tables.best()
        if best:
            lines.append(
                Text(
                    f"best    {best['bits_per_byte']:.4f} bits per byte at {best['tokens']:,} "
                    f"tokens: trial {best['trial_id']}  "
                    f"{describe_values(best, self._tables.searched)}",
                    style="bold",
                )
            )
        running = [trial for trial in self._tables.trials if trial["status"] == "running"]
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("trial", "budget", "bits per byte", "values"):
            table.add_column(heading, style="dim" if heading == "values" else None)
        for trial in running[:SHOWN_RUNNING]:
            table.add_row(
                trial["trial_id"],
                f"{trial.get('tokens_trained', 0) / self._budget:.0%}",
                f"{trial['bits_per_byte']:.4f}" if "bits_per_byte" in trial else "",
                describe_values(trial, self._tables.searched),
            )
        if len(running) > SHOWN_RUNNING:
            table.add_row("…", f"{len(running) - SHOWN_RUNNING} more")
        return Group(*lines, table)


def count_statuses(trials: Sequence[Mapping[str, Any]], total: int) -> str:
    """The number of trials of each status, and how many of the total have not begun."""
    counts = Counter(trial["status"] for trial in trials)
    parts = [f"{counts[status]} {status}" for status in ("running", *FINISHED) if counts[status]]
    return ", ".join([*parts, f"{max(0, total - len(trials))} to come"])


def describe_values(trial: Mapping[str, Any], searched: Sequence[str]) -> str:
    """The searched values of a trial on one line; its seed if nothing is searched."""
    shown = [f"{name.split('.')[-1]}={format_value(trial[name])}" for name in searched]
    return " ".join(shown) if shown else f"seed={trial['seed']}"


def tokens_trained(tables: RunTables) -> int:
    """Number of tokens trained by all trials so far."""
    return sum(trial.get("tokens_trained", 0) for trial in tables.trials)
