"""The recipe: everything that one training run depends on."""

from __future__ import annotations

from pydantic import model_validator

from raygpt.recipe.consistency import Contradictions, contradictions
from raygpt.recipe.sections import UncheckedRecipe


class Recipe(UncheckedRecipe):
    """Everything that one training run depends on, and how a search over it would go.

    Raises:
        pydantic.ValidationError: a setting is invalid, or settings contradict each other.
    """

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if found := list(contradictions(self)):
            raise Contradictions(found)
        return self
