"""YAML read with the line and the text of every value; only plain data is accepted.

The text is composed to nodes only: no constructor runs, so no tag can make an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from raygpt.recipe.errors import RecipeError, all_of

_PLAIN = {
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "timestamp", "map", "seq")
}
_LONGEST_QUOTE = 80


@dataclass(frozen=True)
class Entry:
    """One value of a YAML text.

    `value` is a scalar, a list of entries, or a dict of entries by key; `line`, counted from 1, is
    the line of its key if it has one; `text` is the value as it was written, in one line.
    """

    value: Any
    line: int
    text: str

    def plain(self) -> Any:
        """The value as lists, dicts and scalars, without lines."""
        if isinstance(self.value, dict):
            return {key: entry.plain() for key, entry in self.value.items()}
        if isinstance(self.value, list):
            return [entry.plain() for entry in self.value]
        return self.value

    def quote(self) -> str:
        """The value as it was written, short enough for a message."""
        text = self.text or "nothing"
        return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"


def read_yaml(text: str) -> Entry:
    """The one document of a YAML 1.2 text.

    Raises RecipeError, a line for each problem, on broken syntax, duplicate keys, aliases and
    tags. Its lines begin with `line N: `; the caller adds the name of the file.
    """
    try:
        root = YAML(typ="safe", pure=True).compose(text)
        if root is None:
            return Entry(None, 1, "")
        if problems := list(_problems(root, "", 1, seen=set())):
            raise all_of(problems)
        return _entry(root)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise RecipeError(f"line {line}: is not YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"line 1: is not YAML: {reason}") from None
    except RecursionError:
        raise RecipeError("line 1: is nested too deeply") from None


def _problems(node: Node, path: str, line: int, seen: set[int]) -> Iterator[str]:
    """The problems of YAML whose syntax is right.

    `path` is the dotted key of the node and `line` the key's line, because an alias has the line
    of its anchor.
    """
    place = f"line {line}: {path}{': ' if path else ''}"
    if id(node) in seen:
        yield f"{place}is a YAML alias of an anchor (&); write the value out instead"
        return
    seen.add(id(node))
    if str(node.tag) not in _PLAIN:
        tag = str(node.tag).replace("tag:yaml.org,2002:", "!!")
        yield f"{place}the tag {tag} is refused; only plain values are allowed"
    if isinstance(node, SequenceNode):
        for child in node.value:
            yield from _problems(child, path, line, seen)
    elif isinstance(node, MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                yield f"line {line}: a key must be a single word"
                continue
            inner = f"{path}.{key.value}" if path else key.value
            if key.value in lines:
                again = f"is given twice (given {_entry(value).quote()})"
                yield f"line {line}: {inner}: {again}; first on line {lines[key.value]}"
            lines.setdefault(key.value, line)
            yield from _problems(key, inner, line, seen)
            yield from _problems(value, inner, line, seen)


def _entry(node: Node, line: int | None = None) -> Entry:
    line = line or node.start_mark.line + 1
    if isinstance(node, MappingNode):
        pairs = {key.value: _entry(value, key.start_mark.line + 1) for key, value in node.value}
        text = ", ".join(f"{key}: {entry.text}" for key, entry in pairs.items())
        return Entry(pairs, line, f"{{{text}}}")
    if isinstance(node, SequenceNode):
        entries = [_entry(child) for child in node.value]
        return Entry(entries, line, f"[{', '.join(entry.text for entry in entries)}]")
    return Entry(_scalar(node), line, " ".join(node.value.split()))


def _scalar(node: ScalarNode) -> Any:
    """The Python value of a scalar: null, a boolean, a number, or else text."""
    kind = str(node.tag).rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool" and node.value.lower() in ("true", "false"):
        return node.value.lower() == "true"
    if kind in ("int", "float"):
        # Hexadecimal and octal numbers, and ints of thousands of digits, stay text, which the
        # parsers of the fields refuse.
        for number in (int, float):
            try:
                return number(node.value)
            except ValueError:
                continue
    return node.value
