"""The settings by their dotted names: `training.weight_decay` is a field of `Training`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from raygpt.recipe.errors import RecipeError, allowed
from raygpt.recipe.ranges import Choice, Int, Range, read_range
from raygpt.recipe.schema import Recipe
from raygpt.recipe.sections import Confirm, Data, Model, Search, Training

SECTIONS = {"data": Data, "model": Model, "training": Training, "search": Search}

FIELDS: dict[str, FieldInfo] = {
    "name": Recipe.model_fields["name"],
    **{
        f"{section}.{key}": field
        for section, model in SECTIONS.items()
        for key, field in model.model_fields.items()
    },
}

GROUPS = {"search.confirm": Confirm}
"""Settings that hold keys of their own."""

REQUIRED = tuple(key for key, field in FIELDS.items() if field.is_required() and key != "name")

_NEVER_SEARCHED = ("training.tokens", "training.report_every", "training.checkpoint_every")

SEARCHABLE = frozenset(
    key for key in FIELDS if key.startswith(("model.", "training.")) and key not in _NEVER_SEARCHED
)


def read_value(key: str, given: Any) -> Any:
    """The value of one setting, as its field has it. RecipeError if it cannot be that."""
    try:
        return _adapter(key).validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
    field, name = FIELDS[key], ""
    if key in GROUPS and first["loc"]:
        inner = first["loc"][0]
        field, name = GROUPS[key].model_fields[inner], f"{inner} "
    if "error" in first.get("ctx", {}):
        found = first["ctx"]["error"]
        raise RecipeError(name + found.message, found.hint)
    if first["type"] == "literal_error":
        names = re.findall(r"'([^']*)'", first["ctx"]["expected"])
        raise RecipeError("is not one of its values", allowed(given, names))
    raise RecipeError(f"{name}must be {_bounds(field)}")


def read_field_range(key: str, given: Mapping[str, Any]) -> Range:
    """The range of one setting, with choices as its field has them. RecipeError as above."""
    if key not in SEARCHABLE:
        raise RecipeError(
            "cannot be a range: with it trials would not be comparable",
            f"any value of model and training may be one, except {', '.join(_NEVER_SEARCHED)}",
        )
    found = read_range(given, lambda value: _reachable(key, value))
    if isinstance(found, Choice):
        return found
    if FIELDS[key].annotation is int and not isinstance(found, Int):
        raise RecipeError("takes whole numbers", "write {int: [low, high]} or {choice: [...]}")
    for value in found.extremes():
        _reachable(key, value)
    return found


def start_value(key: str, found: Range) -> Any:
    """The first value of a setting that a search tries.

    It is the range's own start, else the setting's default where the range contains it, else the
    range's middle.
    """
    if found.start is not None:
        return found.grid_point(found.start)
    field = FIELDS[key]
    reachable = not field.is_required() and found.contains(field.default)
    return found.grid_point(field.default) if reachable else found.middle


def full_name(name: str, names: Iterable[str]) -> str | None:
    """Which of these names is meant: the same, or else the first with the same last part.

    So the section may be left out, or be mistaken: hold and model.hold are training.hold.
    """
    names, last = list(names), name.rpartition(".")[2]
    if name in names:
        return name
    return next((full for full in names if full.rpartition(".")[2] == last), None)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.d_model": 64}` as `{"model": {"d_model": 64}}`."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        section, _, name = key.rpartition(".")
        (result.setdefault(section, {}) if section else result)[name] = value
    return result


def flattened(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe under its dotted name, in the schema's order."""
    return {
        key: getattr(getattr(recipe, section) if section else recipe, name)
        for key in FIELDS
        for section, _, name in [key.rpartition(".")]
    }


@cache
def _adapter(key: str) -> TypeAdapter:
    return TypeAdapter(FIELDS[key].rebuild_annotation())


def _reachable(key: str, value: Any) -> Any:
    """A value that a range can take on, as the field has it."""
    try:
        return read_value(key, value)
    except RecipeError as error:
        raise RecipeError(f"{error.message}, which {value} is not", error.hint) from None


def _bounds(field: FieldInfo) -> str:
    """The bounds of a number in words, from the field's constraints."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(
        f"{word} {getattr(bound, name)}"
        for bound in field.metadata
        for name, word in words.items()
        if hasattr(bound, name)
    )
