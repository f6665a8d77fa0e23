"""What is wrong with a recipe, and what may have been meant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from raygpt.errors import UserError


class RecipeError(UserError, ValueError):
    """A recipe, a range or a value in one that cannot be used.

    It is a ValueError too, so that pydantic collects it when a field's parser raises it.
    `message` says what is wrong and `hint` what would be right; a caller that knows the place
    puts the value as it was written between the two.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)
        self.message = message
        self.hint = hint

    def __reduce__(self):
        return type(self), (self.message, self.hint)


def all_of(problems: Sequence[str]) -> RecipeError:
    """One error for every problem found, a line each, repetitions left out."""
    return RecipeError("\n".join(dict.fromkeys(problems)))


def allowed(given: object, names: Iterable[str]) -> str:
    """A hint that lists `names`, the one most like `given` first where there is one."""
    names = list(names)
    listed = f"allowed here: {', '.join(names)}"
    nearest = closest(given, names)
    return f'did you mean "{nearest}"? {listed[0].upper()}{listed[1:]}' if nearest else listed


def closest(given: object, names: Iterable[str]) -> str | None:
    """The name most like `given`, or None where none comes near."""
    by_lower_case = {name.lower(): name for name in names}
    found = get_close_matches(str(given).lower(), by_lower_case, n=1)
    return by_lower_case[found[0]] if found else None
