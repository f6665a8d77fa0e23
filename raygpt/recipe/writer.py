"""Recipes as YAML that reads back equal."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from io import StringIO
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from raygpt.recipe.fields import flattened, nested
from raygpt.recipe.quantities import format_fraction
from raygpt.recipe.schema import Recipe


def recipe_to_yaml(recipe: Recipe) -> str:
    """A recipe without ranges, every setting written out."""
    return settings_to_yaml(flattened(recipe))


def settings_to_yaml(settings: Mapping[str, Any]) -> str:
    """Settings by dotted name, values or ranges, as YAML with a line for each."""
    document = {
        key: {name: _plain(v) for name, v in value.items()} if isinstance(value, dict) else value
        for key, value in nested(settings).items()
    }
    yaml = YAML()
    yaml.width = 10**6
    yaml.representer.add_representer(type(None), _write_null)
    stream = StringIO()
    yaml.dump(document, stream)
    return stream.getvalue()


def _plain(value: Any) -> Any:
    if hasattr(value, "as_yaml"):
        value = value.as_yaml()
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Fraction):
        return format_fraction(value)
    if isinstance(value, Mapping):
        flow = CommentedMap((key, _plain(item)) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        flow = CommentedSeq(_plain(item) for item in value)
    else:
        return value
    flow.fa.set_flow_style()
    return flow


def _write_null(representer: Any, _: None) -> Any:
    # ruamel writes nothing for None, which looks like a forgotten value.
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")
