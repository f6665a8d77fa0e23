"""What a search is going to spend, said before it starts and again beside what it has spent."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from raygpt.errors import UserError
from raygpt.recipe import budget
from raygpt.recipe.search_file import SearchFile
from raygpt.results import files
from raygpt.results.tables import Results
from raygpt.search.cluster import Placement
from raygpt.search.estimate import Plan, most_confirming_runs, plan_search
from raygpt.training.probe import Pace
from raygpt.wording import duration


@dataclass(frozen=True)
class Spending:
    """What a search takes, or has taken; None where that is not known."""

    tokens: float | None
    """That all trials train, cooldowns and confirmation included."""
    seconds: float | None
    """From the first trial's start to the last one's end."""
    gpu_hours: float | None
    """Of the GPUs that the trials hold."""


@dataclass(frozen=True)
class SearchPlan:
    """What is planned.

    `expected` is what the search takes on average, `largest` if no trial is stopped.
    """

    search_file: SearchFile
    plan: Plan
    at_once: int
    needed: Placement
    pace: Pace | None
    """Of one worker; None where that is not known."""

    @property
    def gpus(self) -> float:
        """That the trials hold."""
        return self.at_once * self.needed.workers * self.needed.gpus

    @property
    def tokens_per_second(self) -> float | None:
        """Of one trial, its evaluations and its start aside."""
        return self.pace and self.pace.tokens_per_second * self.needed.workers

    @property
    def expected(self) -> Spending:
        search, confirming = self.search_file.search, self.plan.confirming_runs
        return self._spending(
            self.plan.tokens,
            self.plan.tokens_in_a_row,
            (sum(self.plan.rung_trials) + confirming * len(search.rungs)) / self.at_once,
            (search.trials + confirming) / self.at_once,
        )

    @property
    def largest(self) -> Spending:
        search, confirming = self.search_file.search, most_confirming_runs(self.search_file)
        full = budget.budget_tokens(self.search_file.baseline())
        dearest = (self.plan.largest_tokens - confirming * full) / search.trials
        rounds = math.ceil(search.trials / self.at_once)
        confirming_rounds = math.ceil(confirming / self.at_once)
        return self._spending(
            self.plan.largest_tokens,
            rounds * dearest + confirming_rounds * full,
            (rounds + confirming_rounds) * len(search.rungs),
            rounds + confirming_rounds,
        )

    def _spending(
        self, tokens: float, tokens_in_a_row: float, evaluations: float, starts: float
    ) -> Spending:
        """All but `tokens` of one trial after the other."""
        if not self.pace:
            return Spending(tokens, None, None)
        seconds = (
            tokens_in_a_row / self.tokens_per_second
            + evaluations * self.pace.evaluation_seconds / self.needed.workers
            + starts * START_SECONDS
        )
        return Spending(tokens, seconds, self.gpus * seconds / 3600)


# To set up the model of a trial and to start with the next one.
START_SECONDS = 1.0


def make_plan(
    search_file: SearchFile, at_once: int, needed: Placement, pace: Pace | None
) -> SearchPlan:
    """The plan of a search on a cluster.

    Args:
        search_file: at the scale that is run.
        at_once: trials that the cluster has room for.
        needed: by a trial.
        pace: of one worker; None where that is not known.
    """
    most = max(search_file.search.trials, most_confirming_runs(search_file))
    at_once = min(at_once, search_file.search.concurrent or at_once, most)
    return SearchPlan(search_file, plan_search(search_file, at_once), at_once, needed, pace)


def describe_plan(made: SearchPlan, gpu_hour_price: float | None) -> str:
    """The plan as a table for a person.

    Args:
        made: by `make_plan`.
        gpu_hour_price: in the currency of the reader.
    """
    search, plan = made.search_file.search, made.plan
    full = budget.budget_tokens(made.search_file.baseline())
    lines = [("trials", f"{search.trials}, {made.at_once} at once")]
    for fraction, trained, trials in zip(
        search.rungs, plan.rung_tokens, plan.rung_trials, strict=True
    ):
        place = "full budget" if fraction == 1 else f"rung {fraction}"
        lines.append(
            (
                place,
                f"{float(fraction) * full:,.0f} tokens, {trained:,.0f} trained on the way: "
                f"{trials:.1f} trials expected there",
            )
        )
    if plan.confirming_runs:
        lines.append(
            (
                "confirmation",
                f"{plan.confirming_runs:.0f} runs expected, {plan.confirming_tokens:,.0f} tokens",
            )
        )
    low, high = plan.usual_tokens
    lines += [
        ("tokens", f"{plan.tokens:,.0f} expected ({low:,.0f} to {high:,.0f} in 8 of 10 searches)"),
        ("", f"{plan.largest_tokens:,} at most, if no trial is stopped"),
    ]
    expected, largest = made.expected, made.largest
    if made.pace is None:
        lines.append(
            ("time", "unknown, as nothing was measured; give --tokens-per-second of a trial")
        )
    else:
        lines.append(
            (
                "time",
                f"{duration(expected.seconds)} expected, {duration(largest.seconds)} at most, at "
                f"{made.tokens_per_second:,.0f} tokens/s a trial",
            )
        )
        if expected.gpu_hours:
            lines.append(
                (
                    "GPU-hours",
                    f"{expected.gpu_hours:.2f} expected, {largest.gpu_hours:.2f} at most",
                )
            )
        if gpu_hour_price is not None:
            costs = (
                f"{expected.gpu_hours * gpu_hour_price:,.2f} expected, "
                f"{largest.gpu_hours * gpu_hour_price:,.2f} at most, at {gpu_hour_price:g} a "
                f"GPU-hour"
            )
            lines.append(("cost", costs if made.gpus else "not known, as no trial holds a GPU"))
    return "\n".join(f"{name:<14}{text}" for name, text in lines)


def save_plan(folder: Path, made: SearchPlan) -> None:
    """Write into a run folder what is expected to be spent.

    What was written before stays if it is of as many tokens: it also knows how long they take,
    which is not measured again for a run that goes on.
    """
    before = load_plan(folder)
    if before and before.tokens == made.expected.tokens:
        return
    text = json.dumps(asdict(made.expected), indent=2) + "\n"
    files.replace_file(folder / files.PLAN, lambda path: path.write_text(text))


def load_plan(folder: Path) -> Spending | None:
    """What `save_plan` wrote; None where there is none.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / files.PLAN
    if not path.exists():
        return None
    try:
        return Spending(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read: {error}; delete it, and there is no plan to compare with"
        ) from error


def describe_spending(
    results: Results, made: SearchPlan, seconds: float | None, gpu_hour_price: float | None
) -> str:
    """What a run has spent, beside what `save_plan` wrote.

    Args:
        results: of the run.
        made: now; of the trials at once and what they hold.
        seconds: that the search took; None if it was interrupted at times.
        gpu_hour_price: in the currency of the reader.
    """
    planned = load_plan(results.folder) or Spending(None, None, None)
    tokens = float(results.trials["tokens_trained"].fillna(0).sum())
    parts = [beside("{:,.0f}", tokens, planned.tokens, "tokens")]
    if seconds is not None:
        planned_minutes = planned.seconds and planned.seconds / 60
        parts.append(beside("{:.1f}", seconds / 60, planned_minutes, "minutes"))
        if hours := made.gpus * seconds / 3600:
            parts.append(beside("{:.2f}", hours, planned.gpu_hours, "GPU-hours"))
            if gpu_hour_price is not None:
                parts.append(f"a cost of {hours * gpu_hour_price:,.2f}")
    return ", ".join(parts)


def beside(pattern: str, spent: float, planned: float | None, unit: str) -> str:
    """A figure, what it was planned to be, and how far off that is."""
    text = f"{pattern.format(spent)} {unit}"
    if not planned:
        return text
    return f"{text} (plan {pattern.format(planned)}, {spent / planned - 1:+.0%})"
