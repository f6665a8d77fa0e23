"""The recipe: everything that one training run depends on."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, SerializeAsAny, model_validator

from raygpt.recipe.consistency import Contradictions, contradictions
from raygpt.recipe.own_model import own_settings
from raygpt.recipe.sections import Model, UncheckedRecipe


class Recipe(UncheckedRecipe):
    """Everything that one training run depends on, and the settings of a search over it.

    Raises:
        pydantic.ValidationError: a setting is invalid, or settings contradict each other.
    """

    model: Annotated[SerializeAsAny[Model], BeforeValidator(own_settings)] = Model()

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if found := list(contradictions(self)):
            raise Contradictions(found)
        return self
