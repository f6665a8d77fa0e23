"""Settings that are valid one by one but contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from raygpt.recipe import budget
from raygpt.recipe.errors import RecipeError
from raygpt.recipe.sections import UncheckedRecipe


class Contradiction(NamedTuple):
    """The dotted names of the settings that contradict each other, and what is wrong."""

    keys: tuple[str, ...]
    message: str


class Contradictions(RecipeError):
    """All contradictions of one recipe, in `found`."""

    def __init__(self, found: list[Contradiction]) -> None:
        super().__init__("\n".join(f"{keys[0]}: {message}" for keys, message in found))
        self.found = found

    def __reduce__(self):
        return type(self), (self.found,)


def contradictions(recipe: UncheckedRecipe) -> Iterator[Contradiction]:
    """The contradictions between the settings of a recipe."""
    data, model, training, search = recipe.data, recipe.model, recipe.training, recipe.search
    # A model of the user's own may have no heads; it checks its keys itself.
    if model.own is None and model.d_model % model.n_heads:
        yield Contradiction(
            ("model.d_model", "model.n_heads"),
            f"d_model {model.d_model} is not divisible by n_heads {model.n_heads}",
        )
    if training.batch_tokens < data.context:
        yield Contradiction(
            ("training.batch_tokens", "data.context"),
            f"batch_tokens {training.batch_tokens} is less than one sequence of "
            f"context {data.context}",
        )
    if training.tokens < training.batch_tokens:
        yield Contradiction(
            ("training.tokens", "training.batch_tokens"),
            f"tokens {training.tokens} is less than one step of "
            f"batch_tokens {training.batch_tokens}",
        )
    elif len(set(budget.rung_steps(recipe))) < len(search.rungs):
        yield Contradiction(
            ("search.rungs", "training.tokens", "training.batch_tokens"),
            f"two rungs fall on the same optimizer step, as {training.tokens} tokens "
            f"are only {budget.steps(recipe)} steps of batch_tokens {training.batch_tokens}",
        )
    if training.warmup > search.rungs[0]:
        yield Contradiction(
            ("training.warmup", "search.rungs"),
            f"warmup {training.warmup:g} lasts longer than the lowest rung {search.rungs[0]} "
            "(search.rungs), so trials would be judged before they reach their peak learning rate",
        )
