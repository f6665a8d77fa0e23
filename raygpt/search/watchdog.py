"""Ends trials that hang: Tune waits for a silent trial as long as its process lives."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune import Callback

from raygpt.search.scheduler import METRIC
from raygpt.search.trial import ALIVE

FIRST_SECONDS = 3600.0
"""The limit until it is known how long steps and evaluations take."""
LEAST_SECONDS = 120.0
TIMES_LONGEST = 10
LONGEST_GAP = 1.0
"""Between two checks. A longer gap means that this process was stalled, not that a trial hangs."""


@dataclass
class Watched:
    """A trial that has a process."""

    heard: float
    """When its last sign of life came, in seconds during which this process was not stalled."""
    prepared: bool = False
    """Whether its data and its model are ready."""
    trained: bool = False
    """Whether it has made a step."""


class Watchdog(Callback):
    """A Tune callback that kills the process of a trial that has been silent for too long.

    Tune then treats the trial as crashed and starts the next one in its place.

    Args:
        limit: seconds for which a trial in training may be silent. None is ten times the longest
            pause of any trial so far, and at least 120 seconds; but an hour until the trial has
            made a step and some trial has reached a rung, so that it is known how long an
            evaluation takes. Everything before the training (starting processes, bringing data to
            a new node) may take an hour in any case.
        give_up: called with the trial's name and the reason before it is killed.
        clock: seconds.
    """

    def __init__(
        self,
        limit: float | None,
        give_up: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._limit = limit
        self._give_up = give_up
        self._clock = clock
        self._looked = clock()
        self._listened = 0.0
        self._watched: dict[str, Watched] = {}
        self._longest = 0.0
        self._rung_seen = False

    def __getstate__(self) -> dict[str, Any]:
        """Empty: a run is resumed from its tables and its study, not from Tune's state files."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info
    ) -> None:
        watched = self._watched.setdefault(trial.trial_id, Watched(self._listened))
        if watched.prepared:
            self._longest = max(self._longest, self._listened - watched.heard)
        watched.heard = self._listened
        watched.prepared = True
        watched.trained = result.get(ALIVE) != 0
        self._rung_seen |= METRIC in result

    def on_step_end(self, iteration: int, trials: list, **info) -> None:
        """Check every trial; Tune calls this many times a second."""
        clock = self._clock()
        self._listened += min(clock - self._looked, LONGEST_GAP)
        self._looked = clock
        known, self._watched = self._watched, {}
        for trial in trials:
            # Set from when Tune gives the trial a process until Tune takes it away again.
            actor = trial.temporary_state.ray_actor
            if actor is None:
                continue
            watched = known.get(trial.trial_id) or Watched(self._listened)
            self._watched[trial.trial_id] = watched
            silent = self._listened - watched.heard
            if silent > self._patience(watched):
                watched.heard = self._listened
                reason = f"no sign of life for {silent:.0f} s; given up (search.hang_timeout)"
                self._give_up(trial.config["trial"], reason)
                ray.kill(actor)

    def _patience(self, watched: Watched) -> float:
        if not watched.prepared:
            return max(FIRST_SECONDS, self._limit or 0)
        if self._limit is not None:
            return self._limit
        known = watched.trained and self._rung_seen
        return max(LEAST_SECONDS if known else FIRST_SECONDS, TIMES_LONGEST * self._longest)
