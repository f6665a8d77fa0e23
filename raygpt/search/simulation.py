"""Runs a search in virtual time: its real parts, with an objective in place of the training.

Searcher, scheduler and callbacks are driven through Ray Tune's interfaces in the order in which
`ray.tune.execution.tune_controller` (Ray 2.60) calls them, in one process and without waiting.
The virtual time of a trial is proportional to the tokens that it trains.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

Report = tuple[float, Mapping[str, Any]]
"""The tokens that a trial has processed at a report, and the reported figures."""

Objective = Callable[[Mapping[str, Any]], Iterable[Report]]
"""Maps a trial's configuration to its reports, by ascending tokens."""


@dataclass(eq=False)
class SimulatedTrial:
    """A trial with the attributes of a Tune trial that searchers, schedulers and callbacks read."""

    trial_id: str
    config: dict[str, Any]
    began: float
    """Start in virtual seconds, like all times here."""
    ended: float | None = None
    """None while it runs."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """Its reports, with the keys that Tune adds; `time_total_s` is in virtual seconds."""
    pickled_error_file: str | None = None
    error_file: str | None = None

    @property
    def last_result(self) -> dict[str, Any]:
        return self.results[-1] if self.results else {}


class Simulation:
    """One search in virtual time.

    Args:
        searcher: proposes the trials; if it answers None, it is asked again after the next event.
        scheduler: decides at every report.
        objective: replaces the training of a trial.
        trials: number of trials.
        at_once: number of trials side by side.
        tokens_per_second: speed of one trial.
        callbacks: called for every event.
        most_tokens: tokens of all trials together after which the search ends; trials that are
            still running then stay unfinished.
    """

    def __init__(
        self,
        searcher: Searcher,
        scheduler: TrialScheduler,
        objective: Objective,
        trials: int,
        at_once: int,
        tokens_per_second: float = 1.0,
        callbacks: Sequence[Callback] = (),
        most_tokens: float = math.inf,
    ):
        self._searcher = searcher
        self._scheduler = scheduler
        self._objective = objective
        self._most_trials = trials
        self._at_once = at_once
        self._tokens_per_second = tokens_per_second
        self._callbacks = callbacks
        self._most_tokens = most_tokens
        self._running: dict[SimulatedTrial, Iterator[Report]] = {}
        # Future reports: time, order among equal times, trial, figures.
        self._events: list[tuple[float, int, SimulatedTrial, Mapping[str, Any]]] = []
        self._order = count()
        self._iteration = 0
        self._ended = 0.0
        """Tokens of the trials that have ended."""
        self.trials: list[SimulatedTrial] = []
        """In the order in which they began."""
        self.seconds = 0.0
        """Since the search began."""

    def tokens(self, seconds: float | None = None) -> float:
        """Tokens that all trials together had processed at a time; by default, now."""
        until = self.seconds if seconds is None else seconds
        busy = (
            max(0.0, (until if trial.ended is None else min(until, trial.ended)) - trial.began)
            for trial in self.trials
        )
        return sum(busy) * self._tokens_per_second

    def run(self) -> "Simulation":
        """Run the search to its end, or until `most_tokens`; returns itself.

        Raises:
            RuntimeError: the searcher proposes nothing although no trial is running.
        """
        self._start_trials()
        while self._events:
            seconds, _, trial, report = heapq.heappop(self._events)
            begun = sum(other.began for other in self._running)
            tokens_left = self._most_tokens - self._ended
            spent = (tokens_left / self._tokens_per_second + begun) / len(self._running)
            self.seconds = min(seconds, spent)
            if spent < seconds:
                break
            self._tell("on_step_begin")
            self._report(trial, report)
            self._start_trials()
            self._iteration += 1
            self._tell("on_step_end")
        return self

    def _start_trials(self) -> None:
        while len(self._running) < self._at_once and len(self.trials) < self._most_trials:
            trial_id = f"{len(self.trials):08x}"
            config = self._searcher.suggest(trial_id)
            if config == Searcher.FINISHED:
                self._most_trials = len(self.trials)
            elif config is None:
                if not self._running:
                    raise RuntimeError("the searcher proposes nothing, and no trial is running")
                return
            else:
                trial = SimulatedTrial(trial_id, config, began=self.seconds)
                self.trials.append(trial)
                self._scheduler.on_trial_add(self, trial)
                self._tell("on_trial_start", trial=trial)
                self._running[trial] = iter(self._objective(config))
                self._continue(trial)

    def _continue(self, trial: SimulatedTrial) -> None:
        """Advance to the trial's next report, or to its end."""
        following = next(self._running[trial], None)
        if following is None:
            self._end(trial)
        else:
            tokens, report = following
            seconds = trial.began + tokens / self._tokens_per_second
            heapq.heappush(self._events, (seconds, next(self._order), trial, report))

    def _report(self, trial: SimulatedTrial, report: Mapping[str, Any]) -> None:
        result = {
            **report,
            "trial_id": trial.trial_id,
            "training_iteration": len(trial.results) + 1,
            "time_total_s": self.seconds - trial.began,
            "done": False,
        }
        decision = self._scheduler.on_trial_result(self, trial, result)
        if decision == TrialScheduler.STOP:
            result["done"] = True
        else:
            self._searcher.on_trial_result(trial.trial_id, result)
        self._tell("on_trial_result", trial=trial, result=result)
        trial.results.append(result)
        if decision == TrialScheduler.STOP:
            self._end(trial)
        else:
            self._continue(trial)

    def _end(self, trial: SimulatedTrial) -> None:
        trial.ended = self.seconds
        self._ended += (trial.ended - trial.began) * self._tokens_per_second
        del self._running[trial]
        trial.last_result["done"] = True
        self._scheduler.on_trial_complete(self, trial, trial.last_result)
        self._searcher.on_trial_complete(trial.trial_id, result=trial.last_result)
        self._tell("on_trial_complete", trial=trial)

    def _tell(self, event: str, **what: Any) -> None:
        for callback in self._callbacks:
            getattr(callback, event)(iteration=self._iteration, trials=self.trials, **what)
