"""Characters of a wiki source that look like markup but are text.

Until everything else is parsed, Unicode's noncharacters, which no text contains, stand in for them.
"""

import re

_SIGNS = "&'*#:;<>=[]_{|}~-"
_FIRST = 0xFDD0
_STAND_INS = {ord(sign): chr(_FIRST + number) for number, sign in enumerate(_SIGNS)}
# Faster than str.translate, as most texts have none of them.
_STAND_IN = re.compile(f"[{''.join(_STAND_INS.values())}]")


def protect(text: str) -> str:
    """A text with stand-ins in place of all characters that may be markup."""
    return text.translate(_STAND_INS)


def restore(text: str) -> str:
    """A text with the original characters in place of their stand-ins."""
    return _STAND_IN.sub(lambda found: _SIGNS[ord(found[0]) - _FIRST], text)
