"""Decides which trials continue past a rung.

Another scheduler is one more function in SCHEDULERS, under the name that `search.scheduler` gives
it.
"""

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raygpt.recipe.sections import Search
from raygpt.search.trial import rung_time

METRIC = "bits_per_byte"


def run_all(search: Search) -> TrialScheduler:
    """Every trial trains its full budget."""
    return FIFOScheduler()


def successive_halving(search: Search) -> TrialScheduler:
    """ASHA: at each rung the best one in `reduction_factor` trials continue."""
    factor = float(search.reduction_factor)
    return SparesBaseline(
        time_attr="rung_time",
        metric=METRIC,
        mode="min",
        grace_period=1,
        reduction_factor=factor,
        max_t=rung_time(len(search.rungs) - 1, factor),
    )


SCHEDULERS: dict[str, Callable[[Search], TrialScheduler]] = {
    "asha": successive_halving,
    "fifo": run_all,
}


class SparesBaseline(ASHAScheduler):
    """ASHA that never stops the baseline below its full budget: the best are compared with it."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        if (
            decision == TrialScheduler.STOP
            and trial.config.get("baseline")
            and result["rung_time"] < self._max_t
        ):
            return TrialScheduler.CONTINUE
        return decision


def make_scheduler(search: Search, history: Iterable[Mapping[str, Any]] = ()) -> TrialScheduler:
    """The recipe's scheduler, told of what was reported before the search was interrupted.

    Args:
        search: the recipe's section.
        history: earlier reports in their order, dictionaries with the history table's columns.
    """
    scheduler = SCHEDULERS[search.scheduler](search)
    if search.stops_trials:
        replay(scheduler, history, float(search.reduction_factor))
    return scheduler


def replay(
    scheduler: TrialScheduler, history: Iterable[Mapping[str, Any]], reduction_factor: float
) -> None:
    """Tell a new scheduler of earlier reports, so that it decides as if it had seen them itself."""
    seen = set()
    for row in history:
        if METRIC not in row:
            continue
        trial = SimpleNamespace(trial_id=row["trial_id"], config={})
        if trial.trial_id not in seen:
            seen.add(trial.trial_id)
            scheduler.on_trial_add(None, trial)
        result = {METRIC: row[METRIC], "rung_time": rung_time(row["rung"], reduction_factor)}
        scheduler.on_trial_result(None, trial, result)
