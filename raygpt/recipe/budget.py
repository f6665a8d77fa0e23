"""The token counts of a recipe in optimizer steps.

Every function here is an exact function of the recipe, so that all processes of all trials agree. A
step is one optimizer step of whole sequences, whatever the micro-batch; halves round to even.
"""

from __future__ import annotations

from fractions import Fraction

from raygpt.recipe.sections import UncheckedRecipe


def sequences_per_step(recipe: UncheckedRecipe) -> int:
    """Sequences in one optimizer step, summed over workers: `batch_tokens` in whole sequences."""
    return max(1, round(Fraction(recipe.training.batch_tokens, recipe.data.context)))


def tokens_per_step(recipe: UncheckedRecipe) -> int:
    """Tokens in one optimizer step, summed over workers."""
    return sequences_per_step(recipe) * recipe.data.context


def steps(recipe: UncheckedRecipe) -> int:
    """Optimizer steps in the budget of a trial; cooldowns at lower rungs are not counted."""
    return max(1, round(Fraction(recipe.training.tokens, tokens_per_step(recipe))))


def budget_tokens(recipe: UncheckedRecipe) -> int:
    """The budget that is trained, in tokens: `training.tokens` rounded to whole steps."""
    return steps(recipe) * tokens_per_step(recipe)


def rung_steps(recipe: UncheckedRecipe) -> tuple[int, ...]:
    """The step of each rung, lowest first; the last one is the whole budget."""
    return tuple(_step_at(recipe, rung) for rung in recipe.search.rungs)


def report_steps(recipe: UncheckedRecipe) -> tuple[int, ...]:
    """The steps, ascending, at which the training curve is reported, besides the rungs."""
    return _regular_steps(recipe, recipe.training.report_every)


def checkpoint_steps(recipe: UncheckedRecipe) -> tuple[int, ...]:
    """The steps, ascending, after which a checkpoint is written, besides the rungs."""
    return _regular_steps(recipe, recipe.training.checkpoint_every)


def _step_at(recipe: UncheckedRecipe, fraction: Fraction) -> int:
    return max(1, round(fraction * steps(recipe)))


def _regular_steps(recipe: UncheckedRecipe, every: Fraction) -> tuple[int, ...]:
    multiples = (_step_at(recipe, n * every) for n in range(1, int(1 / every) + 1))
    return tuple(sorted(set(multiples)))
