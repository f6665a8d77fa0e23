"""Errors in recipes, with suggestions for misspelt names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from raygpt.errors import UserError


class RecipeError(UserError, ValueError):
    """A recipe, a range or a value in one that cannot be used.

    It is a ValueError too, so that pydantic collects it when a field's parser raises it.
    `message` says what is wrong and `hint` what would be right; a caller that knows where the value
    is from puts the place before them and the given value between them.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint

    def __reduce__(self):
        return type(self), (self.message, self.hint)


def all_of(problems: Sequence[str]) -> RecipeError:
    """One error for all problems, a line each, without repetitions."""
    return RecipeError("\n".join(dict.fromkeys(problems)))


def allowed(given: object, names: Iterable[str]) -> str:
    """A hint that lists `names`, and begins with the one most like `given` if there is one."""
    names = list(names)
    listed = f"allowed here: {', '.join(names)}"
    nearest = closest(given, names)
    return f'did you mean "{nearest}"? {listed[0].upper()}{listed[1:]}' if nearest else listed


def closest(given: object, names: Iterable[str]) -> str | None:
    """The name most like `given`; None if none is similar."""
    by_lower_case = {name.lower(): name for name in names}
    found = get_close_matches(str(given).lower(), by_lower_case, n=1)
    return by_lower_case[found[0]] if found else None
