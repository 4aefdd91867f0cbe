"""Numerals of every typography as plain ones: digits, fractions, grouping, number words; and minus signs with them.

Used by every reader of numbers. A text without numerals is returned unchanged.

>>> plain_numerals("−１２ or 2½")
'-12 or 2 1/2'
>>> plain_numerals("twelve hundred; 10\\u2009000; 二十一个")
'1200; 10000; 21 个'
"""

from __future__ import annotations

import re
import unicodedata

from rewards.minus import plain_minus
from rewards.numerals_chinese import plain_chinese
from rewards.numerals_english import plain_english

# Wide punctuation; wide letters stay, since units and words are read as they are written.
_WIDE = {code + 0xFEE0: code for code in range(0x21, 0x7F) if not chr(code).isalnum()} | {0x2044: "/", 0x2215: "/"}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_POWER_OF_TEN = re.compile(r"(?<=10)(?:[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_SPACES = "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f"

# 1,234  1 234  1'234  and 1,00,000 as in India. A group has three digits, and the first of them all is no zero.
_GROUPED = re.compile(
    rf"(?<![\w.,'’])(?:[1-9]\d{{0,2}}(?P<by>[,'’ {_SPACES}]|\\,|\{{,\}})\d{{3}}(?:(?P=by)\d{{3}})*"
    r"|[1-9]\d?(?:,\d{2})+,\d{3})(?![\d'’]|[, ]\d)",
    re.ASCII,
)
_CONTINENTAL = re.compile(r"(?<![\w.,])([1-9]\d{0,2}(?:\.\d{3})+),(\d+)(?![\w.,])", re.ASCII)


def plain_numerals(text: str) -> str:
    """Numerals as ASCII digits with "-", "." and "/", without grouping; English and Chinese number words too.

    Digits of every script and wide punctuation become plain, 2½ becomes 2 1/2, 10⁻³ becomes 10^-3, 1'234 and 1.234,0
    lose their grouping. Raised digits elsewhere stay: 5² is not 52. A decimal comma stays a comma.
    """
    if not text.isascii():
        text = plain_minus(text)
        text = _POWER_OF_TEN.sub(lambda found: "^" + found.group().translate(_RAISED), text)
        text = "".join(map(_plain_character, text)).translate(_WIDE)
        text = re.sub("(?<=[0-9])\0|\1(?=\0|[0-9.])", " ", text).replace("\0", "").replace("\1", "")
        text = plain_chinese(text)
    text = _GROUPED.sub(lambda found: re.sub("[^0-9]", "", found.group()), text)
    text = _CONTINENTAL.sub(lambda found: f"{found[1].replace('.', '')}.{found[2]}", text)
    return plain_english(text)


def _plain_character(character: str) -> str:
    """A digit of any script as its value; a fraction in one character as two numbers, in control characters."""
    if character.isascii():
        return character
    kind = unicodedata.category(character)
    if kind == "Nd":
        return str(unicodedata.digit(character))
    spelled = unicodedata.normalize("NFKC", character) if kind == "No" else ""
    return f"\0{spelled}\1" if re.fullmatch("[0-9]+\u2044[0-9]+", spelled) else character
