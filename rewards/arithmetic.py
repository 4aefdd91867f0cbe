"""The value of a true equation: "5 + 7 = 12" is 12, "5 + 6 = 12" is two answers."""

from __future__ import annotations

import re
from fractions import Fraction

from rewards import prose
from rewards.minus import plain_minus

MAX_CHARS = 200
"""A longer text is no sum."""

_NAME = re.compile(r"(?!\{*[\d²³½¼¾])[\w\\{}^]+(?: [^\W\d_]+){0,4}(?: ?\([^\W\d_]\))?")
_NUMBER = r"[-+]?[0-9]{1,15}(?:\.[0-9]{1,15})?"
# 12, 12 cm, 12cm, 12%, $12, 1,200, 1/2; not 2x, which is a formula.
_RESULT = re.compile(
    r"[$€£¥]?(?P<number>[-+−]?[0-9]{1,15}(?:(?:,[0-9]{3}){1,5}|/[0-9]{1,15})?(?:\.[0-9]{1,15})?)"
    r"(?:(?![\w.,/])|[^\W\d_]{2,}|[mgshlLKWVANJ](?!\w))[^\d=<>+*×·÷/^]*"
)
_SUM = re.compile(rf"{_NUMBER}(?:[-+*/]{_NUMBER})*")
_TERM = re.compile(rf"([-+*/]?)({_NUMBER})")
_OPERATORS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", " ": None, "$": None})
_LATEX = ((r"\times", "*"), (r"\cdot", "*"), (r"\div", "/"))


def solved(text: str) -> str:
    """The last side of an equation whose other sides are a name ("x", "total cost") or have the same value.

    >>> solved("5 + 7 = 12"), solved("x = 12 cm"), solved("5 + 6 = 12"), solved("y = 2x")
    ('12', '12 cm', '5 + 6 = 12', 'y = 2x')
    """
    if "=" not in text or len(text) > MAX_CHARS:
        return text
    *sides, last = (side.strip() for side in text.split("="))
    result = _RESULT.fullmatch(last)
    if result is None or not all(sides):
        return text
    value = value_of(result["number"].replace(",", ""))
    if _NAME.fullmatch(sides[0]) and not prose.denies(sides[0]):
        sides = sides[1:]
    return last if all(value_of(side) == value for side in sides) else text


def value_of(side: str) -> Fraction | None:
    """The value of a sum of products of plain numbers; None if the text is anything else.

    >>> value_of("5 + 2 × 3")
    Fraction(11, 1)
    """
    for command, sign in _LATEX:
        side = side.replace(command, sign)
    side = plain_minus(side).translate(_OPERATORS)
    if not _SUM.fullmatch(side):
        return None
    total, product = Fraction(0), Fraction(0)
    for operator, digits in _TERM.findall(side):
        number = Fraction(digits)
        if operator == "*":
            product *= number
        elif operator == "/":
            if not number:
                return None
            product /= number
        else:
            total, product = total + product, -number if operator == "-" else number
    return total + product
