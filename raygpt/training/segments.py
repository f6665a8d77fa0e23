"""A trial's training segments: a trunk, and a cooldown to each rung.

A trial is judged at a rung as if the rung were its whole budget. It trains its trunk up to where
the decay of a run over that budget would begin, decays from there to the rung, is judged, and
returns to the state before the cooldown. The learning rate on the trunk is that of the full
budget's schedule, whatever the rungs, so a trial that reaches its budget has been trained by
exactly the schedule of its recipe.
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
    """Consecutive steps, and how the model is judged after them. Positions are in steps."""

    start: int
    stop: int
    """May be `start`: the model is judged without further training."""
    budget: int
    """Where the decay of the learning rate ends."""
    cooldown: bool = False
    """Whether the trial returns to its state at `start` afterwards."""
    rung: int | None = None
    """The rung at `stop`, counted from 0; None if there is none."""
    metric: RungMetric = "raw"
    """What the model is judged by at the rung."""


def segments(recipe: Recipe, metrics: Sequence[RungMetric] | None = None) -> tuple[Segment, ...]:
    """The segments of a whole trial in their order.

    Args:
        recipe: without ranges.
        metrics: what to judge by at the rungs below the full budget. By default the recipe's rung
            metric, or the mid-run value if the search stops no trials. At the full budget the
            model is judged as it is.
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
    """Number of steps on the trunk before the cooldown to a rung: those at the full rate.

    A step's rate is taken at its middle, so these are the steps whose middle lies before the decay.

    Args:
        rung_steps: position of the rung.
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


def is_in_segment(
    plan: Sequence[Segment], number: int, step: int, trunk_step: int | None = None
) -> bool:
    """Whether a plan has the position that a saved run had.

    Args:
        number: index of the segment that the run was in or would begin next; the number of
            segments if it was finished.
        step: position of the run.
        trunk_step: where the cooldown that the run was in began; None on the trunk.
    """
    if number >= len(plan):
        return number == len(plan) and step == plan[-1].stop and trunk_step is None
    segment = plan[number]
    if trunk_step is not None:
        return segment.cooldown and segment.start == trunk_step and step <= segment.stop
    begins = step == segment.start
    return begins or (not segment.cooldown and segment.start < step <= segment.stop)


def segment_at(plan: Sequence[Segment], step: int) -> int:
    """Index of the first segment that continues after a number of steps on the trunk.

    It may be a cooldown that begins there. After the last step it is the number of segments.
    """
    return next(
        (
            number
            for number, segment in enumerate(plan)
            if segment.start == step
            or (not segment.cooldown and segment.start < step < segment.stop)
        ),
        len(plan),
    )
