"""Numbers with units in short answers.

One number is read, and the rest of the text must not change it: another number, a remaining digit, an operator or a
word that changes a number's meaning ("half", "double") makes the text ambiguous. So "5-3", "3,5" and "√5" are never
read as 5. The value of a true equation is its last side. Values are exact fractions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from rewards import prose
from rewards.arithmetic import value_of
from rewards.extract import ReadStatus
from rewards.number_pattern import next_number
from rewards.number_text import plain
from rewards.units import Unit, unit_at

MAX_CHARS = 200
"""A longer text is no number."""

_PLAIN = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_OPERATORS = frozenset("<>≤≥≠√π∞^*×÷±∓/\\|∑∫→")
_CHANGES = frozenset(
    prose.words(
        "half quarter third dozen dozens squared cubed sqrt root log pi times plus minus negative over under above "
        "below more less least most fewer than between double twice triple per hundred hundreds thousands millions "
        "or nor either almost nearly up exceeds point early late"
    )
)
_CHINESE_CHANGES = re.compile("[不没沒无無非未别別勿错錯否或多少余餘几幾第半倍超负負除仅]|以上|以下|大于|小于")
_BOUNDS = {
    "≥": "at least|not less than|no less than|no fewer than|a minimum of|≥|>=|至少|不少于",
    "≤": "at most|up to|not more than|no more than|a maximum of|≤|<=|至多|最多|不超过",
    ">": "over|above|more than|greater than|larger than|exceeding|>|超过|多于|大于|高于",
    "<": "under|below|less than|fewer than|smaller than|<|不到|少于|小于|低于",
}
_BOUND_BEFORE = [(bound, re.compile(f"(?:{words})(?![a-z])", re.IGNORECASE)) for bound, words in _BOUNDS.items()]
_BOUND_AFTER = [
    ("≥", re.compile(r"(?:(?<=[0-9A-Za-z%])\+| (?:and|or) (?:above|over|more|up)| ?以上)$", re.IGNORECASE)),
    ("≤", re.compile(r"(?: (?:and|or) (?:below|under|less|fewer)| ?以下)$", re.IGNORECASE)),
]
# A plus, and a dash that is neither a hyphen nor, between spaces, a sentence's: "5+ cm", "5- cm"; not "5 - the apples".
_LOOSE_SIGN = re.compile(r"\+|(?<![\w\n ])-|-(?![\w ])|(?<! )- |(?<= )-(?! [A-Za-z]{2})")
_RANGE = re.compile(
    r"(?<=[0-9%A-Za-z.°\"'\u4e00-\u9fff])(?P<by> ?- ?| ?to | through |~| ?至 ?| ?到 ?| and )(?=[-$€£¥0-9.])",
    re.IGNORECASE,
)
_EQUALS = re.compile(r"(?<![<>!≠≤≥=])=(?!=)|≈")
# x, f(2), x_1, ∠ABC, P(A): what an equation may give the value of, digits in it or not.
_NAME = re.compile(r"[∠△]?[^\W\d_]\w{0,3}(?:_\{?\w+\}?)?(?:\([\w ,]*\))?")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit.

    Attributes:
        value: as said, in that unit.
        unit: None if none was said.
        high: of a range, its other end; None of a single number.
        bound: `>`, `<`, `≥` or `≤` if the text gives only a bound.
    """

    value: Fraction
    unit: Unit | None = None
    high: Fraction | None = None
    bound: str = ""

    @property
    def dimension(self) -> str:
        """What the unit measures; empty without one."""
        return self.unit.dimension if self.unit else ""

    @property
    def size(self) -> Fraction:
        """The unit's size in its dimension's base unit; of several meanings, the first's."""
        return self.unit.meanings[0][1] if self.unit else Fraction(1)

    def __str__(self) -> str:
        high = "" if self.high is None else f"–{float(self.high):.12g}"
        return f"{self.bound}{float(self.value):.12g}{high} {self.unit.name if self.unit else ''}".strip()


def read_quantity(text: str) -> tuple[Quantity | None, ReadStatus]:
    """The one number of a text.

    Numerals of every typography (`rewards.numerals`), 1e3 and 3 × 10^5, fractions, 2 1/2, million and M, units and
    currencies of `rewards.units` on either side, %, times (3:45, 3 pm), feet and inches (5'8"), several units that add
    up (2 h 30 min), ranges (12-14), bounds (5+, up to 5), "x = 12" and "5 + 7 = 12"; some LaTeX. The same quantity
    twice ("1 m = 100 cm") is one.

    Returns:
        The quantity and `ok`; or None and no_answer (no number), ambiguous (several, or something that changes it),
        malformed (longer than MAX_CHARS).
    """
    if len(text) > MAX_CHARS:
        return None, "malformed"
    if _PLAIN.fullmatch(text):
        return Quantity(Fraction(text)), "ok"
    return _read(text)


def _read(text: str) -> tuple[Quantity | None, ReadStatus]:
    text = plain(text)
    if not any(character.isnumeric() for character in text):
        return None, "no_answer"
    found = None if prose.asks(text) else _equation(text)
    return (None, "ambiguous") if found is None else (found, "ok")


def _equation(text: str) -> Quantity | None:
    """The last side of an equation, if the others are a name, the same quantity, or arithmetic that gives it."""
    *before, last = _EQUALS.split(text)
    before = [part.strip() for part in before if part.strip()]
    if before and _NAME.fullmatch(last.strip(" .")) and not re.search("[0-9]", last):  # 12 = x
        *before, last = [last, *before]
    found = _bounded(last)
    if found is None:
        return None
    return found if all(_agrees(part, found) for part in before) else None


def _agrees(part: str, quantity: Quantity) -> bool:
    if _NAME.fullmatch(part):
        part = re.sub("[0-9]", "", part)  # of x1 and f(2)
    if not any(character.isnumeric() for character in part):
        return _harmless(part)
    worked_out = value_of(re.sub(r"[^\W\d_]{2,}|[°%$€£.](?![0-9])", "", part))
    if worked_out is not None and _rounds_to(worked_out, quantity.value):
        return True
    other = _bounded(part)
    return other is not None and same(other, quantity)


def _rounds_to(exact: Fraction, said: Fraction) -> bool:
    """Whether a value is the other one, or is rounded to it: 10/3 = 3.33."""
    places = 0
    while places < 12 and (said * 10**places).denominator != 1:
        places += 1
    return exact == said or (places > 0 and round(exact, places) == said)


def _bounded(text: str) -> Quantity | None:
    """A number, a range, or a bound."""
    text = text.strip(" ,;:!").rstrip(". ")
    for bound, words in _BOUND_BEFORE:
        if before := words.match(text):
            inner = _single(text[before.end() :])
            return inner and replace(inner, bound=bound)
    for bound, words in _BOUND_AFTER:
        if after := words.search(text):
            inner = _single(text[: after.start()])
            return inner and replace(inner, bound=bound)
    return _range(text) or _single(text)


def _range(text: str) -> Quantity | None:
    """ "12-14", "12 to 14 cm", "between 12 and 14"."""
    between = re.match(r"(?:between|from) ", text, re.IGNORECASE)
    text = text[between.end() :] if between else text
    for by in _RANGE.finditer(text):
        if (by["by"] == " and ") != bool(between and between.group().lower() == "between "):
            continue
        low, high = _single(text[: by.start()]), _single(text[by.end() :])
        if low is None or high is None or (low.unit and low.unit != high.unit):
            continue
        if low.value < high.value:
            return Quantity(low.value, high.unit, high.value)
    return None


def _single(text: str) -> Quantity | None:
    """The one number of a text that has no "=" in it."""
    found: list[tuple[Quantity, str]] = []
    end = 0
    while number := next_number(text, end):
        before, end = text[end : number.start], number.end
        if number.value is None:
            return None
        unit = number.unit
        if after := unit_at(text, end):
            if unit and not unit.shared(after[0]):  # US$5 dollars are no two units, $5 kg are
                return None
            unit, end = unit or after[0], after[1]
        elif text[end : end + 1].isascii() and text[end : end + 1].isalpha():
            return None  # a letter that is no unit sticks to it
        found.append((Quantity(number.value, unit), before))
    if not found or not _harmless("\n".join([*(before for _, before in found), text[end:]])):
        return None
    first, *others = [quantity for quantity, _ in found]
    return first if all(same(first, other) for other in others) else _added_up(found)


def _added_up(found: list[tuple[Quantity, str]]) -> Quantity | None:
    """ "2 h 30 min" and "5 ft 8 in": every unit is smaller than the one before, and its number makes less than one."""
    (total, _), *others = found
    if total.unit is None or total.value < 0 or total.value.denominator != 1:
        return None
    last = total.unit
    for quantity, between in others:
        sizes = [] if quantity.unit is None else last.shared(quantity.unit)
        fits = any(smaller < larger and 0 <= quantity.value * smaller < larger for larger, smaller in sizes)
        if between.strip(" ,.").lower() not in ("", "and", "又") or not fits:
            return None
        assert quantity.unit is not None
        larger, smaller = total.unit.shared(quantity.unit)[0]
        total = replace(total, value=total.value + quantity.value * smaller / larger)
        last = quantity.unit
    return total


def same(one: Quantity, other: Quantity) -> bool:
    """Whether two quantities are the same; a percentage equals its share."""
    if one.bound != other.bound:
        return False
    if one.unit and other.unit:
        return any(_ends(one, x) == _ends(other, y) for x, y in one.unit.shared(other.unit))
    if (one.unit or other.unit) and "share" not in (one.dimension, other.dimension):
        return False
    return _ends(one, one.size) == _ends(other, other.size)


def _ends(quantity: Quantity, size: Fraction = Fraction(1)) -> tuple[Fraction, Fraction]:
    return quantity.value * size, (quantity.value if quantity.high is None else quantity.high) * size


def _harmless(beside: str) -> bool:
    """Whether the text beside the numbers does not change their meaning."""
    if not beside.strip(" \n.,;:!()[]~≈"):
        return True
    if any(character.isnumeric() or character in _OPERATORS for character in beside):
        return False
    if _LOOSE_SIGN.search(beside) or _CHINESE_CHANGES.search(beside):
        return False
    return not prose.denies(beside) and _CHANGES.isdisjoint(prose.words(beside))
