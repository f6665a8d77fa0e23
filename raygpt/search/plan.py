"""The plan of a search: what it is expected to cost, shown before it and beside the actual cost."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from raygpt.errors import UserError
from raygpt.recipe import budget
from raygpt.recipe.search_file import SearchFile
from raygpt.results import files
from raygpt.results.tables import Results
from raygpt.search.cluster import Placement
from raygpt.search.estimate import Load, Plan, plan_search, trials_side_by_side
from raygpt.training.probe import Pace
from raygpt.wording import duration, duration_range

START_SECONDS = 1.0
"""Seconds to set up the model of a trial and to start the next trial."""

PACE_ERROR = 1.15
"""A search is up to this factor slower or faster than a measurement of a few seconds says: the
recorded searches took 0.89 and 1.3 times the estimate, the latter on a busy machine."""


@dataclass(frozen=True)
class Spending:
    """The cost of a search; None where it is not known."""

    tokens: float | None
    """Tokens trained by all trials, including cooldowns and confirmation."""
    seconds: float | None
    """Time from the first trial's start to the last one's end."""
    gpu_hours: float | None
    """Hours of all GPUs that the trials hold."""
    usual_seconds: tuple[float, float] | None = None
    """A range that `seconds` is expected to lie in."""


@dataclass(frozen=True)
class SearchPlan:
    """A search on a cluster, and what it is expected to cost there."""

    search_file: SearchFile
    plan: Plan
    at_once: int
    """Trials side by side."""
    needed: Placement
    """Resources of one trial."""
    pace: Pace | None
    """Speed of one worker in the baseline; None if it is not known."""

    @property
    def gpus(self) -> float:
        """Number of GPUs that all trials side by side hold."""
        return self.at_once * self.needed.workers * self.needed.gpus

    @property
    def tokens_per_second(self) -> float | None:
        """Training speed of one trial of the baseline."""
        return self.pace and self.pace.tokens_per_second * self.needed.workers

    @property
    def expected(self) -> Spending:
        """The mean, and the range that eight of ten searches lie in."""
        if not self.pace:
            return Spending(self.plan.tokens, None, None)
        seconds = statistics.mean(map(self.seconds, self.plan.loads))
        return Spending(self.plan.tokens, seconds, self._gpu_hours(seconds), self._usual_seconds)

    @property
    def largest(self) -> Spending:
        """The cost if no trial is stopped, at the expected speed."""
        if not self.pace:
            return Spending(self.plan.largest_tokens, None, None)
        seconds = self.seconds(self.plan.largest_load)
        return Spending(self.plan.largest_tokens, seconds, self._gpu_hours(seconds))

    def seconds(self, load: Load, speed: float = 1.0) -> float:
        """The time that a load takes, if the speed is this many times the measured one."""
        training = load.work / self.tokens_per_second
        evaluating = load.evaluations * self.pace.evaluation_seconds / self.needed.workers
        return (training + evaluating) / speed + load.starts * START_SECONDS

    @property
    def _usual_seconds(self) -> tuple[float, float]:
        """Includes differences between searches and the error of the measured speed."""
        measured = [block / self.pace.tokens_per_second for block in self.pace.blocks] or [1.0]
        slow, fast = min(1 / PACE_ERROR, *measured), max(PACE_ERROR, *measured)
        low, high = (
            statistics.quantiles(
                [self.seconds(load, speed) for load in self.plan.loads], n=10, method="inclusive"
            )
            for speed in (fast, slow)
        )
        return low[0], high[-1]

    def _gpu_hours(self, seconds: float) -> float:
        return self.gpus * seconds / 3600


def make_plan(
    search_file: SearchFile, at_once: int, needed: Placement, pace: Pace | None
) -> SearchPlan:
    """Plan a search on a cluster.

    Args:
        search_file: the search file at the scale that is run.
        at_once: number of trials that the cluster can run side by side.
        needed: resources of a trial.
        pace: speed of one worker in the baseline; None if it is not known.
    """
    at_once = trials_side_by_side(search_file, at_once)
    plan = plan_search(search_file, at_once, pace.fixed_share if pace else 0.0)
    return SearchPlan(search_file, plan, at_once, needed, pace)


def describe_plan(made: SearchPlan, gpu_hour_price: float | None) -> str:
    """The plan as a table.

    Args:
        made: the result of `make_plan`.
        gpu_hour_price: price in the reader's currency.
    """
    search = made.search_file.search
    lines = [("trials", f"{search.trials}, {made.at_once} at once")]
    lines += _rungs(made)
    lines += _sizes(made)
    lines += _tokens(made)
    lines += _time(made)
    lines += _gpus(made, gpu_hour_price)
    return "\n".join(f"{name:<14}{text}" for name, text in lines)


def _rungs(made: SearchPlan) -> Iterator[tuple[str, str]]:
    search, plan = made.search_file.search, made.plan
    baseline = made.search_file.baseline()
    per_step = budget.tokens_per_step(baseline)
    if not search.stops_trials:
        yield "full budget", f"{budget.budget_tokens(baseline):,} tokens; no trial is stopped"
    for fraction, steps, trained, trials in zip(
        search.rungs, budget.rung_steps(baseline), plan.rung_tokens, plan.rung_trials, strict=True
    ):
        if not search.stops_trials:
            continue
        tokens = steps * per_step
        with_cooldowns = f" ({trained:,.0f} trained, with cooldowns)" if trained > tokens else ""
        yield (
            "full budget" if fraction == 1 else f"rung {fraction}",
            f"{tokens:,} tokens{with_cooldowns}: {trials:.1f} of {search.trials} trials expected",
        )
    if plan.confirming_runs:
        yield (
            "confirmation",
            f"{plan.confirming_runs:.0f} runs expected, {plan.confirming_tokens:,.0f} tokens",
        )


def _sizes(made: SearchPlan) -> Iterator[tuple[str, str]]:
    low, high = made.plan.operations
    if low == high:
        return
    cheap, dear = made.plan.token_costs
    yield (
        "model sizes",
        f"{low:.2g} to {high:.2g} times the baseline's operations per token: with equal tokens the "
        "largest",
    )
    yield (
        "",
        f"model takes {high / low:.1f} times the operations of the smallest, and about "
        f"{dear / cheap:.1f} times the time",
    )


def _tokens(made: SearchPlan) -> Iterator[tuple[str, str]]:
    plan = made.plan
    if plan.tokens == plan.largest_tokens:
        yield "tokens", f"{plan.largest_tokens:,}"
        return
    low, high = plan.usual_tokens
    yield "tokens", f"{low:,.0f} to {high:,.0f} in 8 of 10 searches, {plan.tokens:,.0f} on average"
    yield "", f"{plan.largest_tokens:,} if no trial is stopped"


def _time(made: SearchPlan) -> Iterator[tuple[str, str]]:
    if made.pace is None:
        yield "time", "unknown, as no speed was measured; give --tokens-per-second of a trial"
        return
    seconds = duration(made.expected.seconds)
    yield "time", f"{duration_range(*made.expected.usual_seconds)}, {seconds} on average"
    if made.plan.tokens < made.plan.largest_tokens:
        most = " and every model is the largest" if made.plan.token_costs[1] > 1 else ""
        yield "", f"{duration(made.largest.seconds)} if no trial is stopped{most}"
    trial = "a trial of the baseline" if made.search_file.ranges else "a trial"
    yield "", f"at {made.tokens_per_second:,.0f} tokens/s in {trial}"


def _gpus(made: SearchPlan, gpu_hour_price: float | None) -> Iterator[tuple[str, str]]:
    if made.pace is None:
        return
    expected, largest = made.expected.gpu_hours, made.largest.gpu_hours
    if expected:
        yield "GPU-hours", f"{expected:.2f} expected, {largest:.2f} at most"
    if gpu_hour_price is None:
        return
    if not made.gpus:
        yield "cost", "not known, as no trial holds a GPU"
        return
    yield (
        "cost",
        f"{expected * gpu_hour_price:,.2f} expected, {largest * gpu_hour_price:,.2f} at most, at "
        f"{gpu_hour_price:g} a GPU-hour",
    )


def save_plan(folder: Path, made: SearchPlan) -> None:
    """Write the expected cost into a run folder.

    An earlier plan stays if it has the same tokens, because it also has the time: the speed is not
    measured again when a run is resumed.
    """
    before = load_plan(folder)
    if before and before.tokens == made.expected.tokens:
        return
    text = json.dumps(asdict(made.expected), indent=2) + "\n"
    files.replace_file(folder / files.PLAN, lambda path: path.write_text(text))


def load_plan(folder: Path) -> Spending | None:
    """What `save_plan` wrote; None if there is nothing.

    Raises:
        UserError: it cannot be read.
    """
    path = folder / files.PLAN
    if not path.exists():
        return None
    try:
        plan = json.loads(path.read_text())
        if usual := plan.get("usual_seconds"):
            low, high = usual
            plan["usual_seconds"] = (low, high)
        return Spending(**plan)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read: {error}; delete it to continue without a plan to compare with"
        ) from error


def describe_spending(
    results: Results, made: SearchPlan, seconds: float | None, gpu_hour_price: float | None
) -> str:
    """What a run has cost, beside what `save_plan` wrote.

    Args:
        results: results of the run.
        made: the present plan; says how many GPUs the trials hold.
        seconds: time that the search took; None if it was interrupted.
        gpu_hour_price: price in the reader's currency.
    """
    planned = load_plan(results.folder) or Spending(None, None, None)
    tokens = float(results.trials["tokens_trained"].fillna(0).sum())
    parts = [beside_plan("{:,.0f}", "tokens", tokens, planned.tokens)]
    if seconds is not None:
        usual = planned.usual_seconds
        parts.append(
            beside_plan(
                "{:.1f}",
                "minutes",
                seconds / 60,
                planned.seconds and planned.seconds / 60,
                usual and (usual[0] / 60, usual[1] / 60),
            )
        )
        if hours := made.gpus * seconds / 3600:
            parts.append(beside_plan("{:.2f}", "GPU-hours", hours, planned.gpu_hours))
            if gpu_hour_price is not None:
                parts.append(f"a cost of {hours * gpu_hour_price:,.2f}")
    return ", ".join(parts)


def beside_plan(
    pattern: str,
    unit: str,
    spent: float,
    planned: float | None,
    usual: tuple[float, float] | None = None,
) -> str:
    """A figure, its planned mean and range, and how far it is from that mean."""
    text = f"{pattern.format(spent)} {unit}"
    if not planned:
        return text
    lies = f", usually {pattern.format(usual[0])} to {pattern.format(usual[1])}" if usual else ""
    return f"{text} (plan {pattern.format(planned)}{lies}, {spent / planned - 1:+.0%})"
