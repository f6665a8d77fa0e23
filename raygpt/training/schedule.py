"""The learning-rate schedule: linear warmup, hold at the peak, half-cosine decay."""

import math

from raygpt.recipe.sections import Training as TrainingRecipe


def rate_at(
    recipe: TrainingRecipe, position: float, budget: float, full_budget: float | None = None
) -> float:
    """The learning rate of a recipe at a position of a run, as `learning_rate` computes it."""
    return learning_rate(
        position,
        budget,
        peak=recipe.learning_rate,
        warmup=recipe.warmup,
        hold=recipe.hold,
        final=recipe.final_learning_rate,
        full_budget=full_budget,
    )


def learning_rate(
    position: float,
    budget: float,
    *,
    peak: float,
    warmup: float,
    hold: float,
    final: float,
    full_budget: float | None = None,
) -> float:
    """The learning rate at a position of a run, a pure function of its arguments.

    It rises linearly from 0 to the peak over the warmup, stays there until
    `decay_start(...)`, and falls by a half cosine to `final * peak` at the budget.

    Args:
        position: tokens trained so far, 0 to budget.
        budget: tokens at which the decay ends.
        peak: the largest learning rate.
        warmup: length of the warmup as a fraction of the full budget.
        hold: fraction of what follows the warmup that stays at the peak.
        final: the rate at the end, as a fraction of the peak.
        full_budget: tokens of the whole run if `budget` is a rung's; the same if left out.
    """
    warmup_tokens = warmup * (full_budget or budget)
    if position < warmup_tokens:
        return peak * position / warmup_tokens
    start = decay_start(budget, warmup=warmup, hold=hold, full_budget=full_budget)
    if position <= start or start >= budget:
        return peak
    progress = min(1.0, (position - start) / (budget - start))
    return peak * (final + (1 - final) * half_cosine(progress))


def half_cosine(progress: float) -> float:
    """The shape of the decay: from 1 to 0 as progress goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def decay_start(
    budget: float, *, warmup: float, hold: float, full_budget: float | None = None
) -> float:
    """The position in tokens at which the decay of a run over `budget` tokens begins."""
    warmup_tokens = warmup * (full_budget or budget)
    return warmup_tokens + hold * (budget - warmup_tokens)
