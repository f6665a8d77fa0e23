"""Which trials go on past a rung."""

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raygpt.recipe.sections import Search
from raygpt.search.trial import rung_time

METRIC = "bits_per_byte"


class Scheduler(ASHAScheduler):
    """ASHA that stops no baseline below its full budget, where the best are compared with it."""

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
    """The recipe's scheduler, which has seen what an interrupted search had reported.

    Args:
        search: the recipe's section.
        history: earlier reports in their order, dictionaries with the history table's columns.
    """
    if search.scheduler == "fifo":
        return FIFOScheduler()
    factor = float(search.reduction_factor)
    scheduler = Scheduler(
        time_attr="rung_time",
        metric=METRIC,
        mode="min",
        grace_period=1,
        reduction_factor=factor,
        max_t=rung_time(len(search.rungs) - 1, factor),
    )
    seen = set()
    for row in history:
        if METRIC not in row:
            continue
        trial = SimpleNamespace(trial_id=row["trial_id"], config={})
        if trial.trial_id not in seen:
            seen.add(trial.trial_id)
            scheduler.on_trial_add(None, trial)
        result = {METRIC: row[METRIC], "rung_time": rung_time(row["rung"], factor)}
        scheduler.on_trial_result(None, trial, result)
    return scheduler
