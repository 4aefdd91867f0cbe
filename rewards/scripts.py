"""Scripts that put no spaces between words, where a character counts as a word."""

from __future__ import annotations

import re

UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""For a set in a pattern: Thai, Lao, Myanmar, Khmer, kana, Han with its extensions."""
_CHARACTER = re.compile(f"[{UNSPACED}]")
_TOKEN = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+")
_CHUNK = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def unspaced(character: str) -> bool:
    """Whether a character is of such a script."""
    return character >= "\u0e00" and _CHARACTER.match(character) is not None


def tokens(text: str) -> list[str]:
    """Runs of letters and digits; in a script without spaces, every character.

    >>> tokens("a red circle: 红色 3.5")
    ['a', 'red', 'circle', '红', '色', '3', '5']
    """
    return _TOKEN.findall(text)


def chunks(text: str) -> list[str]:
    """Runs of text without white space; in a script without spaces, every character.

    >>> chunks("It's 红色.")
    ["It's", '红', '色', '.']
    """
    return _CHUNK.findall(text)
