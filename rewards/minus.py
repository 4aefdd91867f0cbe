"""Minus signs of every typography, as they stand before numbers."""

from __future__ import annotations

import re

MINUS_SIGNS = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u207b\u208b\u02d7\u2796\ufe58\ufe63\uff0d"
"""What is typed or typeset for a minus sign: hyphens and dashes, the sign itself; raised, lowered, small and wide."""

_MINUS = re.compile(f"[{MINUS_SIGNS}](?![⁰¹²³⁴⁵⁶⁷⁸⁹])")
_BEFORE_A_NUMBER = re.compile(rf"(?<![\w)\]}}])[{MINUS_SIGNS}](?=[.$€£¥]?\d)")


def plain_minus(text: str) -> str:
    """Every character of `MINUS_SIGNS` as "-", except before raised digits: 10⁻³ is no subtraction.

    >>> plain_minus("–3 and ﹣3")
    '-3 and -3'
    """
    return text if text.isascii() else _MINUS.sub("-", text)


def signed(text: str) -> str:
    """The sign of a number as "-"; dashes between words and numbers stay as they are.

    >>> signed("—3, 12–14, red – blue")
    '-3, 12–14, red – blue'
    """
    return text if text.isascii() else _BEFORE_A_NUMBER.sub("-", text)
