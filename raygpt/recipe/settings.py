"""Settings as they were given: in a file, in its mini section, or with --set.

This module checks keys; values are checked later. Problems are collected as lines of text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from raygpt.recipe.errors import RecipeError, all_of, allowed, closest
from raygpt.recipe.fields import GPT_SCHEMA, Schema
from raygpt.recipe.sections import split_betas
from raygpt.recipe.yaml_source import Entry, read_yaml

BETAS = "training.betas"
"""Older recipes have this in place of beta1 and beta2."""
MODULE = "model.module"

_TOP_KEYS = ("name", *GPT_SCHEMA.sections, "mini")


@dataclass(frozen=True)
class Setting:
    """One value, and where it is from.

    `where` is `FILE, line N` or `--set KEY=VALUE`; `label` the dotted key there, `mini.` included.
    """

    where: str
    label: str
    entry: Entry

    def problem(self, error: RecipeError) -> str:
        hint = f"; {error.hint}" if error.hint else ""
        return f"{self.where}: {self.label}: {error.message} (given {self.entry.quote()}){hint}"


Settings = dict[str, Setting]


def read_file(path: Path) -> Entry:
    """The mapping of sections that a file holds.

    Raises RecipeError if the file cannot be read or is not a mapping in plain YAML.
    """
    root = _parsed(_text_of(path), f"{path}, ")
    if not isinstance(root.value, dict):
        raise RecipeError(
            f"{path}, line {root.line}: is not a recipe (given {root.quote()}); "
            f"a recipe is a mapping with the keys {', '.join(_TOP_KEYS)}"
        )
    return root


def read_overrides(overrides: Iterable[str]) -> tuple[Settings, list[str]]:
    """The settings of `KEY=VALUE` texts, the last one of a key, and what is wrong with the texts.

    The keys are checked by `check_overrides`.
    """
    settings: Settings = {}
    problems: list[str] = []
    for override in overrides:
        where = f"--set {override}"
        key, equals, value = (part.strip() for part in override.partition("="))
        if not equals:
            problems.append(f"{where}: is not a setting; write --set KEY=VALUE")
            continue
        try:
            # An override has only one line, so its number is left out.
            settings[key] = Setting(where, key, _parsed(value, f"{where}: ", drop="line 1: "))
        except RecipeError as error:
            problems.append(str(error))
    return settings, problems


def module_setting(root: Entry, path: Path, overrides: Settings) -> Setting | None:
    """The setting that names the user's own model, on which the allowed keys depend."""
    if MODULE in overrides:
        return overrides[MODULE]
    model = root.value.get("model")
    entry = model.value.get("module") if model and isinstance(model.value, dict) else None
    return entry and Setting(f"{path}, line {entry.line}", MODULE, entry)


def check_file(root: Entry, path: Path, schema: Schema) -> tuple[Settings, Settings, list[str]]:
    """The settings of a file, those of its mini section, and what is wrong with their keys."""
    problems: list[str] = []
    top = dict(root.value)
    mini = top.pop("mini", Entry(None, 1, ""))
    settings = _collected(top, str(path), "", schema, problems)
    if mini.value is not None and not isinstance(mini.value, dict):
        problems.append(_not_a_section(Setting(f"{path}, line {mini.line}", "mini", mini)))
        return settings, {}, problems
    at_mini = _collected(mini.value or {}, str(path), "mini.", schema, problems)
    if MODULE in at_mini:
        hint = "both scales have the same model, so that they have the same keys"
        problems.append(at_mini[MODULE].problem(RecipeError("cannot be set", hint)))
    return settings, at_mini, problems


def check_overrides(overrides: Settings, schema: Schema) -> tuple[Settings, list[str]]:
    """The overrides that are settings, and what is wrong with the keys of the others."""
    settings: Settings = {}
    problems: list[str] = []
    for key, setting in overrides.items():
        if key in schema.fields:
            settings[key] = setting
        elif key in schema.sections:
            hint = "set one of its keys: " + ", ".join(schema.sections[key].model_fields)
            problems.append(setting.problem(RecipeError("is a section", hint)))
        elif key.startswith("mini."):
            hint = f"set {key.removeprefix('mini.')} itself: --set comes after the mini section"
            problems.append(setting.problem(RecipeError("cannot be set", hint)))
        elif key != BETAS:
            section, _, name = key.rpartition(".")
            problems.append(_unknown(setting, section, name, schema))
    if BETAS in overrides:
        _add_betas(settings, overrides[BETAS], problems)
    return settings, problems


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: is not a text in UTF-8 (byte {error.start})") from None
    except FileNotFoundError:
        siblings = {sibling.stem: sibling for sibling in path.parent.glob("*.yaml")}
        nearest = closest(path.stem, siblings)
        hint = f'did you mean "{siblings[nearest]}"?' if nearest else ""
        raise RecipeError(f"{path}: there is no such file", hint) from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder, not a recipe file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RecipeError(f"{path}: cannot be read: {reason}") from None


def _parsed(text: str, source: str, drop: str = "") -> Entry:
    """The YAML of a text; its errors begin with `source`, which replaces `drop`."""
    try:
        return read_yaml(text)
    except RecipeError as error:
        lines = str(error).splitlines()
        raise all_of([source + line.removeprefix(drop) for line in lines]) from None


def _collected(
    top: Mapping[str, Entry], path: str, prefix: str, schema: Schema, problems: list[str]
) -> Settings:
    """The settings of one mapping of sections under their dotted names."""
    settings: Settings = {}
    for section, entry in top.items():
        setting = Setting(f"{path}, line {entry.line}", prefix + section, entry)
        if section == "name":
            settings["name"] = setting
        elif section not in schema.sections:
            problems.append(_unknown(setting, "", section, schema))
        elif isinstance(entry.value, dict):
            for name, value in entry.value.items():
                key = f"{section}.{name}"
                inner = Setting(f"{path}, line {value.line}", prefix + key, value)
                if key in schema.fields:
                    settings[key] = inner
                elif key != BETAS:
                    problems.append(_unknown(inner, section, name, schema))
            if betas := entry.value.get("betas") if section == "training" else None:
                where = f"{path}, line {betas.line}"
                _add_betas(settings, Setting(where, prefix + BETAS, betas), problems)
        elif entry.value is not None:
            problems.append(_not_a_section(setting))
    return settings


def _add_betas(settings: Settings, betas: Setting, problems: list[str]) -> None:
    """Split the list `betas`, which older recipes have, into beta1 and beta2."""
    try:
        if "training.beta1" in settings or "training.beta2" in settings:
            raise RecipeError("is the old form of beta1 and beta2", "give these two only")
        split_betas(betas.entry.plain())
    except RecipeError as error:
        problems.append(betas.problem(error))
        return
    for key, entry in zip(("training.beta1", "training.beta2"), betas.entry.value, strict=True):
        settings[key] = Setting(betas.where, betas.label, entry)


def _unknown(setting: Setting, section: str, name: str, schema: Schema) -> str:
    """The problem of a key that no section has, or only another section."""
    if section and section not in schema.sections:
        return setting.problem(
            RecipeError(f'unknown section "{section}"', allowed(section, schema.sections))
        )
    # A known top-level key is unknown in one case: mini within mini.
    top_keys = [key for key in _TOP_KEYS if key != name]
    here = schema.sections[section].model_fields if section else top_keys
    everywhere = {key.rpartition(".")[2] for key in schema.fields}
    meant = name if name in everywhere else closest(name, here) or closest(name, everywhere)
    if meant is None or meant in here:
        return setting.problem(RecipeError("unknown key", allowed(name, here)))
    places = " or ".join(f'"{key}"' for key in schema.fields if key.rpartition(".")[2] == meant)
    hint = f"it belongs elsewhere, as {places}; allowed here: {', '.join(here)}"
    return setting.problem(RecipeError("unknown key", hint))


def _not_a_section(setting: Setting) -> str:
    return setting.problem(RecipeError("must be a mapping of keys to values"))
