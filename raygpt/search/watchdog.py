"""Ends trials that hang: Tune waits for a silent one as long as its process lives."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune import Callback

from raygpt.search.scheduler import METRIC
from raygpt.search.trial import ALIVE

FIRST_SECONDS = 3600.0
"""What may take how long is not known yet."""
LEAST_SECONDS = 120.0
TIMES_LONGEST = 10
LONGEST_LOOK = 1.0
"""Seconds; what this process is away for longer is not the trials' silence."""


@dataclass
class Watched:
    """A trial that has a process."""

    heard: float
    """When it gave its last sign, in seconds of listening."""
    prepared: bool = False
    """Whether its data and its model are made."""
    trained: bool = False
    """Whether it has made a step."""


class Watchdog(Callback):
    """A Tune callback that kills the process of a trial that has been silent for too long.

    Tune then ends the trial as it ends one that crashed, and its place is free.

    Args:
        limit: seconds of silence that a trial in training may keep. If None, ten times the longest
            pause that any has made so far, and at least 120 seconds; but an hour until it has made
            a step, and until one of them has come to a rung, so that it is known what an
            evaluation takes. What comes before the training (other processes, data that a new node
            must prepare) may take an hour at any rate.
        give_up: told the trial's name, and why it is about to be killed.
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
        """Nothing, for Tune's own state files: a run is resumed from its tables and its study."""
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
        """Look at every trial; Tune calls this many times a second."""
        clock = self._clock()
        self._listened += min(clock - self._looked, LONGEST_LOOK)
        self._looked = clock
        known, self._watched = self._watched, {}
        for trial in trials:
            # There from when Tune gives the trial a process until it takes that away again.
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
