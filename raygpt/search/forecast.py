"""Estimates the remaining time of a running search."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raygpt.recipe.budget import budget_tokens
from raygpt.results.tables import RunTables
from raygpt.search.confirm import expected_runs
from raygpt.search.cost import TokenCosts
from raygpt.search.estimate import rung_tokens
from raygpt.search.plan import START_SECONDS, SearchPlan

PLANNED_TRIALS = 4
"""The planned share of trials that continue past a rung has the weight of this many trials."""


@dataclass(frozen=True)
class Costs:
    """The work of a trial of one recipe: tokens times their cost."""

    token: float
    rungs: tuple[float, ...]
    """Work done when the trial is judged at each rung."""
    budget: float
    """Work of a run that has no cooldowns to lower rungs."""


@dataclass
class Timing:
    """A trial as this process has seen it."""

    began: float
    """When it started; if it was resumed, when its first report came."""
    heard: float
    """When its last report came."""
    resumed: bool
    tokens: int = 0
    """Tokens trained before `began`."""
    seconds: float = 0.0
    """Seconds spent on training and evaluation before `began`."""


@dataclass(frozen=True)
class Remaining:
    """The remaining part of a search, or of its confirmation."""

    work: list[float]
    """Expected work of each trial that has not ended."""
    starts: int
    """Trials that have not begun."""


class Forecast:
    """Corrects the plan of a search by what its trials have taken so far.

    Their speed is measured in work per second, so that a search over the size of the model is not
    judged by the sizes that happened to come first.

    Args:
        tables: the run's tables.
        made: the plan of the search.
    """

    def __init__(self, tables: RunTables, made: SearchPlan):
        self._tables = tables
        self._made = made
        fixed_share = made.pace.fixed_share if made.pace else 0.0
        self._token_costs = TokenCosts(made.search_file, fixed_share)
        self._baseline = self._costs_of({})
        self._costs: dict[str, Costs] = {}
        self._timings: dict[str, Timing] = {}

    def began(self, trial_id: str, now: float) -> None:
        """A trial started, or was resumed, at a time in seconds."""
        resumed = "tokens_trained" in self._tables.trial(trial_id)
        self._timings[trial_id] = Timing(began=now, heard=now, resumed=resumed)

    def reported(self, trial_id: str, now: float) -> None:
        """A trial reported at a time in seconds."""
        timing, row = self._timings.get(trial_id), self._tables.trial(trial_id)
        if timing is None:
            return
        timing.heard = now
        if timing.resumed and not timing.tokens:
            timing.began = now
            timing.tokens, timing.seconds = row["tokens_trained"], row["seconds"]

    def seconds_left(self) -> float | None:
        """Time until the last trial ends; None as long as no speed is known."""
        pace = self._seconds_per_work()
        if pace is None:
            return None
        at_once, start = self._made.at_once, self._start_seconds()
        # The confirmation begins when every trial of the search has ended.
        return sum(
            max(sum(left.work) / at_once, *left.work, 0.0) * pace + left.starts / at_once * start
            for left in (self._search_left(), self._confirmation_left())
        )

    # --- speed ----------------------------------------------------------------------------------

    def _seconds_per_work(self) -> float | None:
        """Measured in this process, evaluations included; the planned value before any report."""
        seconds = work = 0.0
        for trial_id, timing in self._timings.items():
            row = self._tables.trial(trial_id)
            if row.get("tokens_trained", 0) > timing.tokens and timing.heard > timing.began:
                seconds += row["seconds"] - timing.seconds
                work += (row["tokens_trained"] - timing.tokens) * self._costs_in(row).token
        if work and seconds > 0:
            return seconds / work
        if self._made.pace is None:
            return None
        return statistics.mean(
            (self._made.seconds(load) - load.starts * START_SECONDS) / load.work
            for load in self._made.plan.loads
        )

    def _start_seconds(self) -> float:
        """Seconds of a trial beyond training and evaluation, measured in trials that ended."""
        measured = [
            timing.heard - timing.began - row["seconds"]
            for trial_id, timing in self._timings.items()
            if not timing.resumed
            and (row := self._tables.trial(trial_id))["status"] != "running"
            and "seconds" in row
        ]
        return max(0.0, statistics.mean(measured)) if measured else START_SECONDS

    # --- work -----------------------------------------------------------------------------------

    def _search_left(self) -> Remaining:
        plan, own = self._made.plan, self._tables.search_trials
        passing = passing_shares(plan.rung_trials, own)
        work = [
            expected_work(self._costs_in(row).rungs, passing, self._done(row), row.get("rung"))
            for row in own
            if row["status"] == "running"
        ]
        to_come = max(0, self._made.search_file.search.trials - len(own))
        work += [expected_work(plan.rung_work, passing, done=0.0, rung=None)] * to_come
        return Remaining(work, to_come)

    def _confirmation_left(self) -> Remaining:
        rows = self._tables.trials
        begun = [row for row in rows if "confirms" in row]
        work = [
            max(0.0, self._costs_in(row).budget - self._done(row))
            for row in begun
            if row["status"] == "running"
        ]
        to_come = max(0, expected_runs(rows, self._made.search_file) - len(begun))
        return Remaining(work + [self._baseline.budget] * to_come, to_come)

    def _done(self, row: Mapping[str, Any]) -> float:
        return row.get("tokens_trained", 0) * self._costs_in(row).token

    def _costs_in(self, row: Mapping[str, Any]) -> Costs:
        if row["trial_id"] not in self._costs:
            self._costs[row["trial_id"]] = self._costs_of(row)
        return self._costs[row["trial_id"]]

    def _costs_of(self, row: Mapping[str, Any]) -> Costs:
        """Costs of the recipe in a row of the trials' table; of the baseline if it is empty."""
        search_file = self._made.search_file
        if row:
            recipe = search_file.recipe({name: row[name] for name in search_file.ranges})
        else:
            recipe = search_file.baseline()
        cost = self._token_costs(recipe)
        rungs = tuple(tokens * cost for tokens in rung_tokens(recipe))
        return Costs(cost, rungs, budget_tokens(recipe) * cost)


def passing_shares(
    planned_trials: Sequence[float], trials: Sequence[Mapping[str, Any]]
) -> list[float]:
    """The share of trials that continue past each rung below the full budget.

    Args:
        planned_trials: number of trials expected to be judged at each rung.
        trials: rows of the trials' table, which correct that.
    """
    judged = [(row["rung"], row["status"]) for row in trials if "rung" in row]
    shares = []
    for rung in range(len(planned_trials) - 1):
        here = [(last, status) for last, status in judged if last >= rung]
        passed = sum(last > rung or status == "running" for last, status in here)
        planned = planned_trials[rung + 1] / planned_trials[rung]
        shares.append((passed + PLANNED_TRIALS * planned) / (len(here) + PLANNED_TRIALS))
    return shares


def expected_work(
    rung_work: Sequence[float], passing: Sequence[float], done: float, rung: int | None
) -> float:
    """Work that a trial is still expected to do.

    Args:
        rung_work: work done when the trial is judged at each rung.
        passing: the share of trials that continue past each rung but the last.
        done: work of the trial so far.
        rung: the last rung that it has passed; None if it has passed none.
    """
    following = 0 if rung is None else rung + 1
    if following == len(rung_work):
        return 0.0
    left = max(0.0, rung_work[following] - done)
    share = 1.0
    for number in range(following + 1, len(rung_work)):
        share *= passing[number - 1]
        left += share * (rung_work[number] - rung_work[number - 1])
    return left
