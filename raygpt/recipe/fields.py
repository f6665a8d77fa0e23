"""The settings by their dotted names: `training.weight_decay` is a field of `Training`.

The settings depend on the model: a model of the user's own may declare further keys. `Schema` holds
the settings for one model.
"""

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
from raygpt.recipe.sections import Confirm, Data, Model, Search, Section, Training

GROUPS = {"search.confirm": Confirm}
"""Settings that hold keys of their own."""

SAME_FIGURES = (
    "data.cache",
    "model.activation_checkpointing",
    "training.micro_batch",
    "training.report_every",
    "training.checkpoint_every",
)
"""Settings that change no figure of a training run beyond floating-point noise."""

NEVER_SEARCHED = (
    "model.module",
    "training.tokens",
    "training.report_every",
    "training.checkpoint_every",
)
"""Settings of model and training that decide no result, or that all trials must share."""


class Schema:
    """The settings of a recipe, by dotted name, and how their values are read.

    Args:
        model: the section `model`, with the keys that the model has.
    """

    sections: dict[str, type[Section]]
    fields: dict[str, FieldInfo]
    """In the order in which they are written and searched."""
    required: tuple[str, ...]
    """Settings that a file must have."""
    searchable: frozenset[str]
    """Settings that may be ranges."""

    def __init__(self, model: type[Model] = Model) -> None:
        self.sections = {"data": Data, "model": model, "training": Training, "search": Search}
        self.fields = {"name": Recipe.model_fields["name"]} | {
            f"{name}.{key}": field
            for name, section in self.sections.items()
            for key, field in section.model_fields.items()
        }
        self.required = tuple(
            key for key, field in self.fields.items() if field.is_required() and key != "name"
        )
        self.searchable = frozenset(
            key
            for key in self.fields
            if key.startswith(("model.", "training.")) and key not in NEVER_SEARCHED
        )
        self._adapters: dict[str, TypeAdapter] = {}

    def default(self, key: str) -> Any:
        """The value of a setting that a file does not give; it must not be a required one."""
        return self.read_value(key, self.fields[key].get_default(call_default_factory=True))

    def read_value(self, key: str, given: Any) -> Any:
        """The value of one setting, converted to its field's type.

        Raises RecipeError if it cannot be converted.
        """
        if key not in self._adapters:
            self._adapters[key] = TypeAdapter(self.fields[key].rebuild_annotation())
        try:
            return self._adapters[key].validate_python(given)
        except ValidationError as error:
            first = error.errors()[0]
        field, name = self.fields[key], ""
        if key in GROUPS and first["loc"]:
            inner = first["loc"][0]
            field, name = GROUPS[key].model_fields[inner], f"{inner} "
        found = first.get("ctx", {}).get("error")
        if isinstance(found, RecipeError):
            raise RecipeError(name + found.message, found.hint)
        if isinstance(found, ValueError):
            raise RecipeError(f"{name}{found}")
        if first["type"] == "literal_error":
            names = re.findall(r"'([^']*)'", first["ctx"]["expected"])
            raise RecipeError("is not one of its values", allowed(given, names))
        bounds = _bounds(field)
        if bounds and first["type"].startswith(("greater_than", "less_than")):
            raise RecipeError(f"{name}must be {bounds}")
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise RecipeError(f"{name}cannot be read ({message})")

    def read_range(self, key: str, given: Mapping[str, Any]) -> Range:
        """The range of one setting; the values of a choice are converted to its field's type.

        Raises RecipeError if it is not a range, or contains values that the setting cannot have.
        """
        if key not in self.searchable:
            raise RecipeError(
                "cannot be a range: with it trials would not be comparable",
                f"every value of model and training can be one, except {', '.join(NEVER_SEARCHED)}",
            )
        found = read_range(given, lambda value: self._reachable(key, value))
        if isinstance(found, Choice):
            return found
        if self.fields[key].annotation is int and not isinstance(found, Int):
            raise RecipeError("takes whole numbers", "write {int: [low, high]} or {choice: [...]}")
        for value in found.extremes():
            self._reachable(key, value)
        return found

    def start_value(self, key: str, found: Range) -> Any:
        """The first value of a setting that a search tries.

        It is the range's own start, else the setting's default where the range contains it, else
        the range's middle.
        """
        if found.start is not None:
            return found.grid_point(found.start)
        reachable = not self.fields[key].is_required() and found.contains(self.default(key))
        return found.grid_point(self.default(key)) if reachable else found.middle

    def flattened(self, recipe: Recipe) -> dict[str, Any]:
        """Every setting of a recipe under its dotted name, in the schema's order."""
        return {
            key: getattr(getattr(recipe, section) if section else recipe, name)
            for key in self.fields
            for section, _, name in [key.rpartition(".")]
        }

    def _reachable(self, key: str, value: Any) -> Any:
        """A value that a range can take on, converted to the field's type."""
        try:
            return self.read_value(key, value)
        except RecipeError as error:
            raise RecipeError(f"{error.message}, which {value} is not", error.hint) from None


@cache
def schema_of(model: type[Model]) -> Schema:
    """The schema of recipes whose section `model` is of this class."""
    return Schema(model)


GPT_SCHEMA = schema_of(Model)
"""The schema of recipes for raygpt's GPT."""


def flattened(recipe: Recipe) -> dict[str, Any]:
    """Every setting of a recipe under its dotted name, in the schema's order."""
    return schema_of(type(recipe.model)).flattened(recipe)


def full_name(name: str, names: Iterable[str]) -> str | None:
    """The one of these names that is meant: an equal one, or the first with the same last part.

    So the section may be left out or be wrong: hold and model.hold both mean training.hold.
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


def _bounds(field: FieldInfo) -> str:
    """The bounds of a number in words, from the field's constraints."""
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(
        f"{word} {getattr(bound, name)}"
        for bound in field.metadata
        for name, word in words.items()
        if hasattr(bound, name)
    )
