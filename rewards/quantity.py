"""Numbers with units, as they stand in short answers.

One number is read, and everything beside it has to be harmless: another number, a digit left over, an operator or a
word that changes a number's meaning ("half", "less than") makes the text ambiguous. So "5-3", "3,5", ">5" and "√5" are
never taken for 5.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from rewards import prose
from rewards.extract import ReadStatus

MAX_CHARS = 200
"""A longer text is no number."""

# Dimension → unit → its size in the dimension's base unit. Case counts first, then lower case is tried.
_UNITS: dict[str, dict[str, float]] = {
    "length": {
        **dict.fromkeys(("m", "metre", "metres", "meter", "meters"), 1.0),
        **dict.fromkeys(("km", "kilometre", "kilometres", "kilometer", "kilometers"), 1e3),
        **dict.fromkeys(("cm", "centimetre", "centimetres", "centimeter", "centimeters"), 1e-2),
        **dict.fromkeys(("mm", "millimetre", "millimetres", "millimeter", "millimeters"), 1e-3),
        **dict.fromkeys(("µm", "μm", "um"), 1e-6),
        "nm": 1e-9,
        **dict.fromkeys(("inch", "inches"), 0.0254),
        **dict.fromkeys(("ft", "foot", "feet"), 0.3048),
        **dict.fromkeys(("mi", "mile", "miles"), 1609.344),
    },
    "area": {
        **{f"m{two}": 1.0 for two in ("2", "^2", "²")},
        **{f"cm{two}": 1e-4 for two in ("2", "^2", "²")},
        **{f"mm{two}": 1e-6 for two in ("2", "^2", "²")},
        **{f"km{two}": 1e6 for two in ("2", "^2", "²")},
    },
    "volume": {
        **{f"m{three}": 1.0 for three in ("3", "^3", "³")},
        **{f"cm{three}": 1e-6 for three in ("3", "^3", "³")},
        **dict.fromkeys(("l", "L", "litre", "litres", "liter", "liters"), 1e-3),
        **dict.fromkeys(("ml", "mL", "millilitre", "millilitres", "milliliter", "milliliters"), 1e-6),
    },
    "mass": {
        **dict.fromkeys(("kg", "kilogram", "kilograms"), 1.0),
        **dict.fromkeys(("g", "gram", "grams"), 1e-3),
        **dict.fromkeys(("mg", "milligram", "milligrams"), 1e-6),
        **dict.fromkeys(("tonne", "tonnes"), 1e3),
        **dict.fromkeys(("lb", "lbs", "pound", "pounds"), 0.45359237),
    },
    "time": {
        **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
        **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1e-3),
        **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
        **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
        **dict.fromkeys(("day", "days"), 86400.0),
    },
    "speed": {**dict.fromkeys(("m/s", "mps"), 1.0), **dict.fromkeys(("km/h", "kmh", "kph"), 1 / 3.6), "mph": 0.44704},
    "angle": dict.fromkeys(("°", "degree", "degrees", "deg"), 1.0),
    "celsius": dict.fromkeys(("°C", "°c", "celsius"), 1.0),
    "fahrenheit": dict.fromkeys(("°F", "°f", "fahrenheit"), 1.0),
    "share": dict.fromkeys(("%", "percent", "per cent"), 0.01),
    "dollar": {**dict.fromkeys(("$", "usd", "dollar", "dollars"), 1.0), **dict.fromkeys(("¢", "cent", "cents"), 0.01)},
    "euro": dict.fromkeys(("€", "eur", "euro", "euros"), 1.0),
    "sterling": dict.fromkeys(("£", "gbp"), 1.0),
}
UNITS = {unit: (dimension, size) for dimension, units in _UNITS.items() for unit, size in units.items()}
_WORDS = {
    word: value
    for value, word in enumerate(
        prose.words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty"
        )
    )
}
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}


def _unit_pattern(unit: str) -> str:
    """A unit as it has to stand: a lone letter in its own case (5 m is no 5 M), no letter after it."""
    exact = f"(?-i:{unit})" if len(unit) == 1 and unit.isalpha() else re.escape(unit)
    return exact + (r"(?!\w)" if unit[-1].isalnum() else "")


# Not inside of a word or number, nor after another sign.
_START = r"(?<![\w.,+\-−–±^])"
_SIGN = r"(?P<sign>[-+−–][ ]?[($€£]?[ ]?|(?:minus|negative)[ ])?(?P<currency>(?<![$€£])[$€£][ ]?)?"
_THOUSANDS = ",\u00a0\u202f\u2009"
_DIGITS = (
    rf"(?P<digits>[1-9][0-9]{{0,2}}(?:[{_THOUSANDS}][0-9]{{3}})+(?![0-9])|[0-9]++(?:\.[0-9]++)?|\.[0-9]++)"
    rf"(?P<decimals>(?<=[{_THOUSANDS}][0-9]{{3}})\.[0-9]++)?"
)
_REST = (
    r"(?:[ ](?P<mixed>[0-9]{1,6}/[0-9]{1,6})"
    r"|[ ]?/[ ]?(?P<denominator>[0-9]++(?:\.[0-9]++)?)"
    r"|[eE](?P<exponent>[-+−]?[0-9]{1,3})(?!\w)"
    r"|[ ]?[x×*·][ ]?10[ ]?\^[ ]?\{?(?P<power>[-+−]?[0-9]{1,3})\}?)?"
)
_WORD = rf"(?P<word>{'|'.join(sorted(_WORDS, key=len, reverse=True))})(?![\w-])"
_SCALE = rf"(?:[ ]?(?P<scale>{'|'.join(_SCALES)})(?!\w))?"
_UNIT = "|".join(map(_unit_pattern, sorted(UNITS, key=len, reverse=True)))
_NUMBER = re.compile(
    rf"{_START}{_SIGN}(?:{_DIGITS}{_REST}|{_WORD}){_SCALE}(?:[ ]?-?(?P<unit>{_UNIT})|(?P<stuck>[^\W\d_]))?",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_OPERATORS = frozenset("<>≤≥≠√π∞^*×÷±∓/\\|∑∫")
_CHANGES = frozenset(
    prose.words(
        "half quarter third dozen dozens squared cubed sqrt root log pi times plus minus negative over under above "
        "below more less least most fewer than between double twice triple per hundred hundreds thousands millions "
        "or nor either almost nearly"
    )
)
_LATEX = [
    (re.compile(r"\\[dt]?frac\{([0-9]++)\}\{([0-9]++)\}"), r" \1/\2"),
    (re.compile(r"\\(?:text|mathrm)\{([^{}\\]*+)\}"), r"\1"),
    (re.compile(r"\\times(?![a-zA-Z])"), "×"),
    (re.compile(r"\\cdot(?![a-zA-Z])"), "·"),
    (re.compile(r"\\[,;:! ]"), " "),
    (re.compile(r"\\([%$])"), r"\1"),
    (re.compile(r"\^\{?\\circ\}?"), "°"),
]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its unit.

    Attributes:
        value: as said, in that unit.
        unit: as in `UNITS`; empty if none was said.
    """

    value: float
    unit: str = ""

    @property
    def dimension(self) -> str:
        """What the unit measures; empty without one."""
        return UNITS[self.unit][0] if self.unit else ""

    @property
    def base(self) -> float:
        """The value in the dimension's base unit; of a percentage, the share."""
        return self.value * self.size

    @property
    def size(self) -> float:
        """The unit's size in the dimension's base unit."""
        return UNITS[self.unit][1] if self.unit else 1.0

    def __str__(self) -> str:
        return f"{self.value:.12g} {self.unit}".strip()


def read_quantity(text: str) -> tuple[Quantity | None, ReadStatus]:
    """The one number of a text.

    Signs, thousands separators (1,000), decimals, 1e3 and 3 × 10^5, fractions, 2 1/2, words up to twenty, hundred to
    trillion after a number, units of `UNITS`, %, currencies before the number; some LaTeX. The same quantity twice
    ("1 m = 100 cm") is one.

    Returns:
        The quantity and `ok`; or None and no_answer (no number), ambiguous (several, or something that changes it),
        malformed (longer than MAX_CHARS).
    """
    if len(text) > MAX_CHARS:
        return None, "malformed"
    if _PLAIN.fullmatch(text):
        return Quantity(float(text)), "ok"
    return _read(text)


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[Quantity | None, ReadStatus]:
    text = _plain(text)
    found: list[Quantity] = []
    rest: list[str] = []
    end = 0
    for match in _NUMBER.finditer(text):
        quantity = _quantity(match)
        if quantity is None:
            return None, "ambiguous"
        found.append(quantity)
        rest.append(text[end : match.start()])
        end = match.end()
    rest.append(text[end:])
    beside = " ".join(rest)
    if not found and not any(character.isnumeric() for character in beside):
        return None, "no_answer"
    if not found or not all(_same(found[0], q) for q in found) or not _harmless(beside) or prose.asks(text):
        return None, "ambiguous"
    return found[0], "ok"


def _same(one: Quantity, other: Quantity) -> bool:
    """Whether two ways of saying a quantity mean the same; a percentage is the same as its share."""
    plain = ("", "share")
    comparable = one.dimension == other.dimension or (one.dimension in plain and other.dimension in plain)
    return comparable and math.isclose(one.base, other.base, rel_tol=1e-9)


def _plain(text: str) -> str:
    """Single spaces (those that separate thousands stay), and LaTeX that is no more than layout taken away."""
    if "\\" in text:
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    if len(text) > 2 and text[0] == text[-1] == "$":
        text = text[1:-1]
    return re.sub(r"[ \t\r\n]+", " ", text).strip()


def _quantity(match: re.Match[str]) -> Quantity | None:
    """The quantity of a match; None if it has no finite value, two units, or a letter that is no unit sticks to it."""
    value = _value(match)
    currency = (match["currency"] or match["sign"] or "").strip(" -+−–(").lower()
    unit = match["unit"] or ""
    if unit not in UNITS:
        unit = unit.lower()
    if value is None or not math.isfinite(value) or match["stuck"]:
        return None
    if currency in UNITS:
        return None if unit else Quantity(value, currency)
    return Quantity(value, unit)


def _value(match: re.Match[str]) -> float | None:
    negative = (match["sign"] or "").lower().startswith(("-", "−", "–", "minus", "negative"))
    if match["word"]:
        value = float(_WORDS[match["word"].lower()])
    else:
        value = float(re.sub(f"[{_THOUSANDS}]", "", match["digits"]) + (match["decimals"] or ""))
        if match["mixed"]:
            over, _, under = match["mixed"].partition("/")
            if float(under) == 0:
                return None
            value += float(over) / float(under)
        elif match["denominator"]:
            if float(match["denominator"]) == 0:
                return None
            value /= float(match["denominator"])
        elif power := match["exponent"] or match["power"]:
            value *= float(f"1e{power.replace('−', '-')}")
    if match["scale"]:
        value *= _SCALES[match["scale"].lower()]
    return -value if negative else value


def _harmless(beside: str) -> bool:
    """Whether what stands beside the numbers leaves their meaning alone."""
    if not beside.strip(" .,;:()[]"):
        return True
    if any(character.isnumeric() or character in _OPERATORS for character in beside):
        return False
    words = prose.words(beside)
    return not prose.denies(beside) and not any(word in _CHANGES or word in UNITS for word in words)
