"""Search files: training recipes in which some values are ranges."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, combinations, islice, product
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from raygpt.recipe.budget import tokens_per_step
from raygpt.recipe.consistency import Contradiction, contradictions
from raygpt.recipe.errors import RecipeError, all_of, allowed
from raygpt.recipe.fields import GPT_SCHEMA, GROUPS, Schema, nested, schema_of
from raygpt.recipe.own_model import COPY, OwnModel, file_of
from raygpt.recipe.ranges import Range
from raygpt.recipe.schema import Recipe
from raygpt.recipe.sections import Data, Model, Search, UncheckedRecipe
from raygpt.recipe.settings import (
    Setting,
    Settings,
    check_file,
    check_overrides,
    module_setting,
    read_file,
    read_overrides,
)
from raygpt.recipe.writer import settings_to_yaml

SCALES = ("full", "mini")

# Combinations of extremes that are checked when a file is loaded; they take half a second.
_MOST_COMBINATIONS = 10_000


@dataclass(frozen=True)
class SearchFile:
    """A recipe with ranges, validated. Two are equal if their settings and ranges are.

    `ranges` and `fixed` are by dotted name, in the schema's order so that a seeded search does not
    depend on the order in the file; `fixed` holds all settings without a range, defaults included.
    """

    ranges: dict[str, Range]
    fixed: dict[str, Any]
    path: Path = field(compare=False)
    scale: str = field(compare=False)
    own: OwnModel | None = None
    """The user's own model; None for raygpt's GPT."""

    @property
    def name(self) -> str:
        return self.fixed["name"]

    @property
    def schema(self) -> Schema:
        """All settings that the file may have, including the model's own."""
        return schema_of(self.own.settings if self.own else Model)

    @property
    def data(self) -> Data:
        return Data(**nested(self.fixed)["data"])

    @property
    def search(self) -> Search:
        return Search(**nested(self.fixed)["search"])

    def recipe(self, values: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe with a value in place of every range, given by dotted name.

        Raises RecipeError if a value is missing, has no range, or is invalid. A value outside its
        range is allowed: a range says what to search, not what can be trained.
        """
        values = values or {}
        problems = [f"{key}: is a range and needs a value" for key in self.ranges.keys() - values]
        read = {}
        for key, value in values.items():
            if key not in self.ranges:
                problems.append(
                    f"{key}: is not a range of {self.name}; {allowed(key, self.ranges)}"
                )
                continue
            try:
                # Tables and arrays hold numpy scalars; item() converts them to Python's.
                plain = value.item() if hasattr(value, "item") else value
                read[key] = self.schema.read_value(key, plain)
            except RecipeError as error:
                problems.append(f"{key}: {error} (given {value!r})")
        if not problems:
            settings = {**self.fixed, **read}
            found = _contradictions(settings, self.schema)
            problems = [f"{keys[0]}: {message}" for keys, message in found]
            if not problems:
                parts = nested(settings)
                model = self.schema.sections["model"](**parts["model"])
                return Recipe(**{**parts, "model": model})
        raise all_of(sorted(problems))

    def start_values(self) -> dict[str, Any]:
        """The first value tried of every range; together they make the baseline."""
        return {key: self.schema.start_value(key, found) for key, found in self.ranges.items()}

    def baseline(self) -> Recipe:
        """The recipe of the first trial."""
        return self.recipe(self.start_values())

    def recipes_at_extremes(self) -> list[Recipe]:
        """Recipes with one value at an end of its range and the others at their lower ends."""
        low = {key: found.extremes()[0] for key, found in self.ranges.items()}
        return [self.recipe(low)] + [
            self.recipe(low | {key: value})
            for key, found in self.ranges.items()
            for value in found.extremes()
        ]

    def largest_budget(self) -> int:
        """An upper bound of every trial's budget in tokens, rounded to steps of any size."""
        return max(
            recipe.training.tokens + tokens_per_step(recipe)
            for recipe in self.recipes_at_extremes()
        )

    def single_recipe(self) -> Recipe:
        """The recipe of a file without ranges. RecipeError if it has ranges."""
        if self.ranges:
            ranges = "\n".join(
                f"  --set {key}=VALUE for {_in_words(found)}" for key, found in self.ranges.items()
            )
            raise RecipeError(
                f"{self.path}: is a search; to train one recipe, give each range a value:\n{ranges}"
            )
        return self.recipe()

    def to_yaml(self) -> str:
        """This search as YAML, with every default written out."""
        settings = {**self.fixed, **self.ranges}
        return settings_to_yaml({key: settings[key] for key in self.schema.fields})


def load_search_file(
    path: str | Path, scale: str = "full", overrides: Iterable[str] = ()
) -> SearchFile:
    """The search in a file, at one scale, with overrides `KEY=VALUE` applied last.

    The mini section is validated at both scales; without one, both scales are the same. A recipe
    without ranges has `search.scheduler: fifo`. Raises one RecipeError with a line for every
    problem found.
    """
    if scale not in SCALES:
        raise RecipeError(f'--scale: there is no scale "{scale}"', allowed(scale, SCALES))
    path = Path(path)
    root = read_file(path)
    overrides, problems = read_overrides(overrides)
    in_file = module_setting(root, path, {})
    own = _own_model(module_setting(root, path, overrides), in_file, path)
    schema = schema_of(own.settings if own else Model)
    full, mini, file_problems = check_file(root, path, schema)
    override_settings, override_problems = check_overrides(overrides, schema)
    problems = file_problems + problems + override_problems
    at_scale = {"full": full, "mini": {**full, **mini}}
    wanted = {**at_scale[scale], **override_settings}

    # The file is checked at both scales, also without the overrides: errors in a mini section
    # should not appear only on a machine without a GPU. The wanted settings come last, because
    # what is read from them is the result.
    others = [settings for settings in at_scale.values() if settings != wanted]
    for settings in (*others, wanted):
        fixed, ranges, found = _read(settings, path, schema)
        if not found and all(key in settings for key in schema.required):
            found = _impossible(fixed, ranges, settings, path, schema)
        problems += found
    # Only without other problems: a key that seems to be missing is often a misspelt one.
    problems = problems or [
        f"{path}: {key}: is missing; every recipe needs it: {schema.fields[key].description}"
        for key in schema.required
        if key not in wanted
    ]
    if problems:
        raise all_of(problems)
    if not ranges:
        # Runs of one recipe with several seeds are compared, so none of them is stopped.
        fixed["search.scheduler"] = "fifo"
    return SearchFile(ranges, fixed, path, scale, own)


def _own_model(setting: Setting | None, in_file: Setting | None, path: Path) -> OwnModel | None:
    """The user's own model that a recipe names, which has been loaded.

    Args:
        setting: what names it.
        in_file: what names one in the recipe's file. A copy beside it is of that one.
        path: of the recipe's file.
    """
    if setting is None:
        return None
    try:
        module = GPT_SCHEMA.read_value("model.module", setting.entry.plain())
        if module is None:
            return None
        copy = path.parent / COPY
        copied = copy.is_file() and _model_file(in_file) == file_of(module)
        own = OwnModel.read(module, copy if copied else None)
        own.settings  # noqa: B018 (raises the errors of its file)
        return own
    except RecipeError as error:
        raise RecipeError(setting.problem(error)) from None


def _model_file(setting: Setting | None) -> str | None:
    """The file that a `model.module` names; None if it is invalid, which is reported elsewhere."""
    with contextlib.suppress(RecipeError):
        module = setting and GPT_SCHEMA.read_value("model.module", setting.entry.plain())
        return module and file_of(module)
    return None


def _read(
    settings: Settings, path: Path, schema: Schema
) -> tuple[dict[str, Any], dict[str, Range], list[str]]:
    """Values (defaults included) and ranges of the settings, and what is wrong with them."""
    fixed: dict[str, Any] = {}
    ranges: dict[str, Range] = {}
    problems: list[str] = []
    for key in schema.fields:
        if key not in settings:
            if key == "name":
                fixed[key] = _name_from(path)
            elif key not in schema.required:
                fixed[key] = schema.default(key)
            continue
        given = settings[key].entry.plain()
        try:
            if isinstance(given, dict) and key not in GROUPS:
                ranges[key] = schema.read_range(key, given)
            else:
                fixed[key] = schema.read_value(key, given)
        except RecipeError as error:
            problems.append(settings[key].problem(error))
    return fixed, ranges, problems


def _impossible(
    fixed: Mapping[str, Any],
    ranges: Mapping[str, Range],
    settings: Settings,
    path: Path,
    schema: Schema,
) -> list[str]:
    """The contradictions between values that the ranges can take on, one of each kind."""
    problems: dict[tuple[str, ...], str] = {}
    for values in islice(_combinations(ranges, schema), _MOST_COMBINATIONS):
        for keys, message in _contradictions({**fixed, **values}, schema):
            if keys in problems:
                continue
            error = RecipeError(message)
            if any(key in ranges for key in keys):
                error = RecipeError(message, "this happens within the ranges; make them narrower")
            # The place to name: a range, else an override, else the first setting in the file.
            given = [key for key in keys if key in settings]
            given.sort(key=lambda k: (k not in ranges, not settings[k].where.startswith("--set")))
            problems[keys] = (
                settings[given[0]].problem(error) if given else f"{path}: {keys[0]}: {error}"
            )
    return list(problems.values())


def _combinations(ranges: Mapping[str, Range], schema: Schema) -> Iterator[dict[str, Any]]:
    """The first values tried; then the extremes: each alone, then by pairs, the others low."""
    yield {key: schema.start_value(key, found) for key, found in ranges.items()}
    low = {key: found.extremes()[0] for key, found in ranges.items()}
    yield low
    for keys in chain(combinations(ranges, 1), combinations(ranges, 2)):
        for values in product(*(ranges[key].extremes() for key in keys)):
            yield {**low, **dict(zip(keys, values, strict=True))}


def _contradictions(settings: Mapping[str, Any], schema: Schema) -> Iterator[Contradiction]:
    """The contradictions between settings that are valid one by one."""
    # Without validation, which would make thousands of combinations four times as slow.
    parts = nested(settings)
    sections = {
        key: section.model_construct(**parts[key]) for key, section in schema.sections.items()
    }
    yield from contradictions(UncheckedRecipe.model_construct(name=parts["name"], **sections))
    if sections["model"].own:
        # Only the user's class knows which of its keys exclude each other.
        try:
            schema.sections["model"](**parts["model"])
        except ValidationError as error:
            for found in error.errors():
                key = f"model.{found['loc'][0]}" if found["loc"] else "model.module"
                message = str(found.get("ctx", {}).get("error", found["msg"]))
                yield Contradiction((key,), message)


def _in_words(found: Range) -> str:
    return "{" + ", ".join(f"{key}: {value}" for key, value in found.as_yaml().items()) + "}"


def _name_from(path: Path) -> str:
    return re.sub(r"[^\w.-]+", "-", path.stem).strip("-.")[:100] or "recipe"
