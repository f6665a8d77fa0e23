"""Whether a checkpoint, also one of an older version, belongs to a recipe.

A checkpoint holds the settings that decide its numbers, as text. Settings that did not exist when
it was written count with the value that training had then.
"""

import ast
import json
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from raygpt.data.dataset import Dataset
from raygpt.recipe.fields import SAME_FIGURES
from raygpt.recipe.json_text import read_recipe_json
from raygpt.recipe.own_model import module_digest
from raygpt.recipe.schema import Recipe

# The search's settings that decide what a trial trains.
RUNG_SETTINGS = {"rungs", "rung_metric"}

# A corpus counts by its fingerprint, and a model of the user's own by its file's digest.
IGNORED = {*SAME_FIGURES, "data.corpus", "model.module"}

VALUES_BEFORE: dict[str, Any] = {
    # Trials were judged in the middle of their run.
    "search.rung_metric": "raw",
}
"""The value before a setting existed, for settings whose default is another value."""


def identity(recipe: Recipe, dataset: Dataset) -> dict[str, str]:
    """What decides the numbers of a run, beyond floating-point noise, as text."""
    sections = recipe.model_dump(
        include={"data": True, "model": True, "training": True, "search": RUNG_SETTINGS}
    )
    module = str(module_digest(recipe.model))  # not the file's path
    return {"dataset": dataset.folder.name, "model.module": module} | {
        f"{section}.{key}": str(value)
        for section, values in sections.items()
        for key, value in values.items()
        if f"{section}.{key}" not in IGNORED
    }


def differences(saved: Mapping[str, str], recipe: Recipe, dataset: Dataset) -> list[str]:
    """How the recipe of a checkpoint differs from another one, a text for each setting.

    Args:
        saved: what `identity` returned when the checkpoint was written, maybe in an older version.
        recipe, dataset: the recipe and dataset to compare with.
    """
    now = identity(recipe, dataset)
    saved = _renamed(saved)
    pairs = {
        key: (saved[key] if key in saved else _value_before(key, recipe), value)
        for key, value in now.items()
    }
    gone = (key for key in saved if key not in now and not _field(key, recipe))
    pairs |= {key: (saved[key], None) for key in gone}
    return [
        f"{key} (checkpoint: {old or 'not set'}, now: {new or 'no such setting'})"
        for key, (old, new) in pairs.items()
        if old != new
    ]


def read_recipe(text: str) -> Recipe:
    """The recipe that a checkpoint holds as JSON.

    Raises:
        ValueError: this version has no such recipe.
    """
    sections = json.loads(text)
    for key, value in VALUES_BEFORE.items():
        section, name = key.split(".")
        sections.get(section, {}).setdefault(name, value)
    return read_recipe_json(json.dumps(sections))


def _renamed(saved: Mapping[str, str]) -> dict[str, str]:
    """The settings of an older version by the names that they have now."""
    renamed = dict(saved)
    if "training.betas" in renamed:
        for number, value in enumerate(ast.literal_eval(renamed.pop("training.betas")), 1):
            renamed[f"training.beta{number}"] = str(value)
    return renamed


def _value_before(key: str, recipe: Recipe) -> str | None:
    """The value of a setting that a checkpoint lacks; None if it has always been required."""
    if key in VALUES_BEFORE:
        return str(VALUES_BEFORE[key])
    field = _field(key, recipe)
    if field is None or field.is_required():
        return None
    section, name = key.split(".")
    # Dumped by its section, because that may write a value in another way than Python does.
    with_default = getattr(recipe, section).model_copy(update={name: field.default})
    return str(with_default.model_dump(include={name})[name])


def _field(key: str, recipe: Recipe) -> FieldInfo | None:
    """The setting of a key; None if this version has no such setting."""
    section, _, name = key.partition(".")
    return getattr(type(getattr(recipe, section, None)), "model_fields", {}).get(name)
