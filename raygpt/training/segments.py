"""The way of a trial through its budget: a trunk, and a cooldown to each rung.

A trial is judged at a rung as if the rung were its whole budget. It trains its trunk up to where
the decay of a run over that budget would begin, decays from there to the rung, is judged, and goes
back to the trunk. The rate on the trunk is that of the full budget's schedule, whatever the rungs,
so a trial that comes to the end has been trained by exactly the schedule of its recipe.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from raygpt.recipe import budget
from raygpt.recipe.schema import Recipe
from raygpt.training.schedule import decay_start

RungMetric = Literal["cooldown", "average", "raw"]


@dataclass(frozen=True)
class Segment:
    """A stretch of training, and how the model is judged at its end. Positions are in steps."""

    start: int
    stop: int
    """May be `start`: then the model is judged as it is."""
    budget: int
    """Where the decay of the learning rate ends."""
    cooldown: bool = False
    """Whether the trial goes back to `start` afterwards."""
    rung: int | None = None
    """The rung that lies at `stop`, counted from 0; None if it is none."""
    metric: RungMetric = "raw"
    """What it is judged by there."""


def segments(recipe: Recipe, metrics: Sequence[RungMetric] | None = None) -> tuple[Segment, ...]:
    """The segments of a whole trial in their order.

    Args:
        recipe: without ranges.
        metrics: what to judge by at the rungs below the full budget; by default what the recipe
            says, or the mid-run value where no trial is stopped. At the full budget the model is
            judged as it is.
    """
    if metrics is None:
        metrics = (recipe.search.rung_metric if recipe.search.stops_trials else "raw",)
    *lower, whole = budget.rung_steps(recipe)
    stops = [
        (trunk_steps(recipe, steps) if metric == "cooldown" else steps, rung, metric)
        for rung, steps in enumerate(lower)
        for metric in metrics
    ]
    found: list[Segment] = []
    position = 0
    for stop, rung, metric in [*sorted(stops), (whole, len(lower), "raw")]:
        if metric != "cooldown":
            found.append(Segment(position, stop, whole, rung=rung, metric=metric))
        else:
            if position < stop:
                found.append(Segment(position, stop, whole))
            end = lower[rung]
            found.append(Segment(stop, end, end, cooldown=True, rung=rung, metric=metric))
        position = stop
    return tuple(found)


def trunk_steps(recipe: Recipe, rung_steps: int) -> int:
    """Steps of the trunk before the cooldown to the rung of so many: those at the full rate.

    A step's rate is that of its middle, so these are the steps whose middle lies before the decay.
    """
    start = decay_start(
        rung_steps,
        warmup=recipe.training.warmup,
        hold=recipe.training.hold,
        full_budget=budget.steps(recipe),
    )
    return min(rung_steps, math.floor(start + 0.5))


def tokens_trained(recipe: Recipe, rung: int) -> int:
    """All tokens that a trial has processed when it is judged at a rung, cooldowns included."""
    plan = segments(recipe)
    last = next(number for number, segment in enumerate(plan) if segment.rung == rung)
    steps = sum(segment.stop - segment.start for segment in plan[: last + 1])
    return steps * budget.tokens_per_step(recipe)
