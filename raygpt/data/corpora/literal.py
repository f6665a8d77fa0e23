"""Signs of a wiki source that are text and not markup.

Until everything else is parsed, code points that stand for no character, and so are in no text,
take their places.
"""

import re

_SIGNS = "&'*#:;<>=[]_{|}~-"
_FIRST = 0xFDD0
_STAND_INS = {ord(sign): chr(_FIRST + number) for number, sign in enumerate(_SIGNS)}
# Faster than str.translate, as most texts have none of them.
_STAND_IN = re.compile(f"[{''.join(_STAND_INS.values())}]")


def protect(text: str) -> str:
    """A text in which stand-ins take the places of all signs that may be markup."""
    return text.translate(_STAND_INS)


def restore(text: str) -> str:
    """A text with the signs themselves in place of their stand-ins."""
    return _STAND_IN.sub(lambda found: _SIGNS[ord(found[0]) - _FIRST], text)
