"""Finds a number in a text with plain numerals, with its exact value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from rewards.units import CLOCK, CURRENCY, NOON, Unit, unit

MOST_POWER = 300
"""A number beyond this power of ten has no value here, so that every value is a float too."""

_SCALES = {
    **dict.fromkeys(("hundred", "百"), 10**2),
    **dict.fromkeys(("thousand", "千", "k"), 10**3),
    **dict.fromkeys(("万", "萬"), 10**4),
    **dict.fromkeys(("lakh",), 10**5),
    **dict.fromkeys(("million", "mn", "mln", "百万", "m"), 10**6),
    **dict.fromkeys(("crore", "千万"), 10**7),
    **dict.fromkeys(("亿", "億"), 10**8),
    **dict.fromkeys(("billion", "bn", "bln", "b"), 10**9),
    **dict.fromkeys(("trillion", "tn", "trn", "万亿"), 10**12),
}
# Not inside a word or number, nor after another sign.
_START = r"(?<![A-Za-z0-9_.,+\-^À-ɏ])"
_SIGN = rf"(?P<sign>[-+][ ]?[(]?|(?:minus|negative)[ ])?(?P<currency>{CURRENCY}[ ]?)?(?P<inner>(?<=[$€£¥])-)?"
_CLOCK = (
    r"(?P<clock>[0-9]{1,3}:[0-5][0-9](?::[0-5][0-9])?)(?![0-9:])"
    r"|(?P<hour>1[0-2]|[1-9])(?=[ ]?(?:[ap]\.?m(?![a-z])|o['’]?clock))"
)
_DIGITS = r"(?P<digits>[0-9]++(?:\.[0-9]++)?|\.[0-9]++)"
_REST = (
    r"(?:[ ](?P<mixed>[0-9]{1,6}/[0-9]{1,6})(?![0-9/])"
    r"|[ ]?/[ ]?(?P<denominator>[0-9]++(?:\.[0-9]++)?)"
    r"|[eE](?P<exponent>[-+]?[0-9]{1,3})(?![A-Za-z0-9_])"
    r"|[ ]?[x×*·⋅][ ]?10[ ]?\^[ ]?\{?[ ]?(?P<power>[-+]?[0-9]{1,3})[ ]?\}?"
    r"|(?<=10)\^\{?(?P<of_ten>[-+]?[0-9]{1,3})\}?(?![0-9.]))?"
)
_LONG = "hundred|thousand|lakh|crore|million|billion|trillion|mn|mln|bn|bln|tn|trn"
_CHINESE = "百万|千万|万亿|百|千|万|萬|亿|億"
# A lone letter is a scale where it sticks to the number, a capital M or B also after a space, and any after money.
_SCALE = (
    rf"(?:[ ]?(?P<scale>(?:{_LONG})(?![A-Za-z])|{_CHINESE})"
    r"|(?P<stuck>k|(?-i:[KMB]))(?![A-Za-z])|[ ](?P<capital>(?-i:[MB]))(?![A-Za-z])"
    r"|(?(currency)[ ]?(?P<money>[kmb])(?![A-Za-z/²³^])|(?!)))?"
)
_HALF_DAY = r"(?:[ ]?(?:(?P<half>[ap])\.?m(?![a-z])\.?|o['’]?clock))?"
_NUMBER = re.compile(rf"{_START}{_SIGN}(?:{_CLOCK}|{_DIGITS}{_REST}{_SCALE}){_HALF_DAY}[)]?", re.IGNORECASE)

_DECADE = re.compile(r"(?:1[5-9]|20)[0-9]0s(?![A-Za-z])")


@dataclass(frozen=True, slots=True)
class Number:
    """A number in a text.

    Attributes:
        value: None if it has none, such as 1/0 or 1950s, or if its sign is uncertain.
        unit: a currency before it, or that of a time; units after it are not looked for.
        start, end: its place in the text.
    """

    value: Fraction | None
    unit: Unit | None
    start: int
    end: int


def next_number(text: str, start: int) -> Number | None:
    """The first number from this place on. The text has to have plain numerals (`rewards.number_text.plain`)."""
    found = _NUMBER.search(text, start)
    if found is None:
        return None
    currency = (found["currency"] or "").strip(" .")
    measured = unit(currency) if currency else None
    value = _value(found)
    if found["half"]:
        measured = NOON
    elif found["clock"] or found["hour"]:
        measured = CLOCK
    if (found["sign"] or "").endswith(" ") and not _sign_is_certain(found, text):
        value = None
    return Number(value, measured, found.start(), found.end())


def _sign_is_certain(found: re.Match[str], text: str) -> bool:
    """Whether "- 5" is no dash in a sentence: "Total - 5"."""
    before = text[: found.start()].rstrip()
    return found["sign"][0] not in "-+" or not before or before[-1] in ":=(~≈"


def _value(found: re.Match[str]) -> Fraction | None:
    negative = (found["sign"] or "+").lower().startswith(("-", "minus", "negative")) or bool(found["inner"])
    value = _time(found) if found["clock"] or found["hour"] else _numeral(found)
    if value is None or abs(value) > 10**MOST_POWER:
        return None
    return -value if negative else value


def _time(found: re.Match[str]) -> Fraction | None:
    """Hours; after noon if it says so."""
    parts = [int(part) for part in (found["clock"] or found["hour"]).split(":")]
    hours = sum((Fraction(part, 60**i) for i, part in enumerate(parts)), Fraction(0))
    half = (found["half"] or "").lower()
    if not half:
        return hours
    return None if parts[0] > 12 else hours % 12 + (12 if half == "p" else 0)


def _numeral(found: re.Match[str]) -> Fraction | None:
    if found["half"] or _DECADE.match(found.string, found.start("digits")):
        return None
    value = Fraction(found["digits"])
    if found["mixed"]:
        over, _, under = found["mixed"].partition("/")
        if not int(under):
            return None
        value += Fraction(int(over), int(under))
    elif found["denominator"]:
        if not Fraction(found["denominator"]):
            return None
        value /= Fraction(found["denominator"])
    elif found["of_ten"]:
        if found["digits"] != "10" or abs(int(found["of_ten"])) > MOST_POWER:
            return None
        value = Fraction(10) ** int(found["of_ten"])
    elif power := found["exponent"] or found["power"]:
        if abs(int(power)) > MOST_POWER:
            return None
        value *= Fraction(10) ** int(power)
    scale = found["scale"] or found["stuck"] or found["capital"] or found["money"]
    return value * _SCALES[scale.lower()] if scale else value
