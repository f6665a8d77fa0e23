"""Recipes as JSON, for trials and checkpoints."""

from __future__ import annotations

import json

from raygpt.errors import UserError
from raygpt.recipe.errors import RecipeError
from raygpt.recipe.own_model import OwnModel, known_model
from raygpt.recipe.schema import Recipe

OWN_MODEL = "own_model"
"""Key of the file's digest and text, beside the sections of a recipe with an own model."""


def recipe_to_json(recipe: Recipe, with_source: bool = False) -> str:
    """A recipe as a JSON text.

    Args:
        recipe: without ranges.
        with_source: whether to include the text of an own model's file, so that the recipe can be
            read without that file.
    """
    own = recipe.model.own
    if own is None:
        return recipe.model_dump_json()
    source = {"source": own.source} if with_source else {}
    settings = recipe.model_dump(mode="json")
    return json.dumps({**settings, OWN_MODEL: {"digest": own.digest, **source}})


def read_recipe_json(text: str, own: OwnModel | None = None) -> Recipe:
    """The recipe that `recipe_to_json` wrote.

    Args:
        text: JSON.
        own: the recipe's own model, where its file may not be on this machine.

    Raises:
        UserError: the file of its own model is missing or has changed.
        ValueError: the text is not a recipe.
    """
    settings = json.loads(text)
    stored = settings.pop(OWN_MODEL, None) if isinstance(settings, dict) else None
    if stored is None:
        return Recipe.model_validate_json(text)
    module, digest = settings["model"]["module"], stored["digest"]
    if "source" in stored:
        own = OwnModel(module, stored["source"])
    elif own is None or own.digest != digest:
        own = known_model(module, digest)
    try:
        own = own or OwnModel.read(module)
        if own.digest != digest:
            raise RecipeError(f"{own.path} has changed since this recipe was written")
        section = own.settings
    except RecipeError as error:
        raise UserError(f"model.module: {error}") from None
    return Recipe(**{**settings, "model": section(**settings["model"])})
