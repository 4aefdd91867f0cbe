"""Numbers with tolerance and units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from rewards.decoration import undecorated
from rewards.extract import Extraction, Read, ReadStatus, Template, read_answer
from rewards.match import accepted, bad_gold, unrewarded
from rewards.quantity import MAX_CHARS, Quantity, read_quantity
from rewards.registry import reward
from rewards.remember import remembered
from rewards.score import Score

NOISE = Fraction(1, 10**9)
"""Relative difference that a decimal may have from a value that no decimal says exactly, such as 1/3."""

_PASSED_OVER = frozenset(("share", "factor", "clock"))
"""What a unit may not measure where gold has none: 3% and 3x and 3:00 are not 3."""
_TEMPERATURES = frozenset(("celsius", "fahrenheit"))
_YEAR = re.compile(r"(?:(?:in|the|year) )*(?:1[5-9]|20)[0-9]{2} ?年?\.?", re.IGNORECASE)


def unreadable_number(*, gold: Sequence[str], **_: object) -> str:
    """The problem of a row's gold answers, or ""."""
    answers = accepted(gold)
    if not answers:
        return "the row has no gold answer"
    for answer in answers:
        found = _reading(answer)
        if found.quantity is None:
            why = {"no_answer": "holds no number", "malformed": "is too long"}.get(found.status, "is not one number")
            shown = answer if len(answer) <= 60 else f"{answer[:59]}…"
            return f"gold answer {shown!r} {why}"
    return ""


@reward(
    "number",
    source="ChartQA's relaxed accuracy with relative=0.05 (arXiv 2203.10244, end of section 5.1)",
    formula="1 if |x − gold| ≤ max(absolute, relative·|gold|) in gold's unit, else 0",
    check_gold=unreadable_number,
)
def number(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    absolute: float = 0.0,
    relative: float = 0.0,
    years: Literal["exact", "relative"] = "exact",
    require_unit: bool = False,
    **_: object,
) -> Score:
    """Whether the one number of the answer is a gold one, whatever its form and unit of measurement.

    Equal are: 1,000 and 1000 and 1e3; .5 and 1/2 and ½ and 50%; 十二 and twelve and 12; 100 cm and 1 m; 2 h 30 min and
    2.5 h. `absolute` is in gold's unit. A unit of another dimension is wrong, one that is missing is taken to be gold's
    unless `require_unit` (so 50 is right for 50%), and one where gold has none is passed over, but for % (3% is not 3),
    times (3:00) and "3x". A range is right for the same range alone, a bound ("5+", "up to 5") for the same bound.
    An answer written exactly like gold is right. Parts: `number` (its value is right), `unit` (it is no wrong one); the
    reward is both.

    ChartQA counts a number within 5% of gold as right, and leaves open whether a year is a number: released code that
    takes it for one accepts 1950 for 2019 (google-research/pix2struct#35). `relative` therefore leaves out gold answers
    that look like a year, a bare 1500 to 2099; with `years: relative` it counts for them too.

    Limits: units are those of `rewards.units`; any other word ("apples") counts as no unit. One number is read: decimal
    commas, "5-3" and unevaluated sums are ambiguous, and so are words that change a number ("half of", "nearly") and
    denials ("not 5"). Fullwidth digits and those of other scripts count as the plain ones. "12 500" is one number, and
    3:45 counts as a time of day, as hours and minutes, or as minutes and seconds. Texts beyond 200 characters are
    malformed. What else the text says of the number is not understood: "5 maybe" is 5.
    """
    if not (absolute >= 0 and relative >= 0):
        raise ValueError(f"number: absolute and relative must not be negative, got {absolute} and {relative}")
    answers = accepted(gold)
    said = read_answer(completion, read, template, question=question)
    wanted = [_reading(answer) for answer in answers]
    found = _reading(said.raw) if said.status == "ok" else None
    if found and any(found.written == one.written for one in wanted):
        return Score(1.0, {"number": 1.0, "unit": 1.0}, str(found.quantity or found.text))
    if not wanted or any(one.quantity is None for one in wanted):
        return bad_gold(unreadable_number(gold=answers))
    if found is None or found.quantity is None:
        return unrewarded(Extraction("", said.status if found is None else found.status), "number", "unit")
    compared = []
    for one in wanted:
        assert one.quantity is not None
        near = 0.0 if years == "exact" and _YEAR.fullmatch(one.text) else relative
        compared.append(agrees(found.quantity, one.quantity, absolute, near, require_unit))
    right, unit = max(compared, key=lambda parts: (all(parts), parts))
    return Score(float(right and unit), {"number": float(right), "unit": float(unit)}, str(found.quantity))


def agrees(
    said: Quantity, gold: Quantity, absolute: float = 0.0, relative: float = 0.0, require_unit: bool = False
) -> tuple[bool, bool]:
    """Whether the value is right, and whether the unit is not wrong."""
    if said.bound != gold.bound or (said.high is None) != (gold.high is None):
        return False, True
    near = _Near(said, gold, absolute, relative)
    if said.unit and gold.unit:
        return _both(said, gold, near, require_unit)
    if said.unit:
        if said.dimension == "share":
            return near(said.size, Fraction(1)), True
        return near(), said.dimension not in _PASSED_OVER
    if gold.unit is None:
        return near(), True
    right = near() or (gold.dimension == "share" and near(Fraction(1), gold.size))
    return right, not require_unit and gold.dimension != "clock"


def _both(said: Quantity, gold: Quantity, near: _Near, require_unit: bool) -> tuple[bool, bool]:
    assert said.unit is not None and gold.unit is not None
    if "clock" in (said.dimension, gold.dimension) and said.dimension == gold.dimension and said.unit != gold.unit:
        # 3:45 is right for 3:45 pm, and 15:45 is; 3:45 am is not.
        whole = Fraction(12 if min(said.value, gold.value) < 12 else 24)
        plain, half = (said, gold) if gold.unit.name == "am/pm" else (gold, said)
        return (plain.value if plain.value >= 13 else plain.value % 12) in (half.value, half.value % whole), True
    shared = said.unit.shared(gold.unit)
    if shared:
        return any(near(x, y) for x, y in shared), True
    # "20 degrees" may be degrees of a temperature where gold says which.
    return near(), said.dimension == "angle" and gold.dimension in _TEMPERATURES and not require_unit


class _Near:
    """Whether two quantities are as near as the tolerances say, in units of these sizes."""

    def __init__(self, said: Quantity, gold: Quantity, absolute: float, relative: float) -> None:
        self.said, self.gold = said, gold
        self.absolute, self.relative = _exactly(absolute), _exactly(relative)

    def __call__(self, said_size: Fraction = Fraction(1), gold_size: Fraction = Fraction(1)) -> bool:
        ends = [(self.said.value, self.gold.value)]
        if self.said.high is not None and self.gold.high is not None:
            ends.append((self.said.high, self.gold.high))
        absolute = self.absolute * gold_size
        if said_size == gold_size == 1:
            return all(close(one, other, absolute, self.relative) for one, other in ends)
        return all(close(one * said_size, other * gold_size, absolute, self.relative) for one, other in ends)


def close(said: Fraction, gold: Fraction, absolute: Fraction = Fraction(0), relative: Fraction = Fraction(0)) -> bool:
    """Whether a number is within the tolerances; exact ones have none, and one like 1/3 has `NOISE`."""
    exactly = terminates(gold)
    if said == gold or (exactly and not (absolute or relative)):
        return said == gold
    noise = Fraction(0) if exactly else NOISE
    return abs(said - gold) <= max(absolute, (relative + noise) * abs(gold))


def terminates(value: Fraction) -> bool:
    """Whether a decimal can say it exactly: its denominator has no factors but 2 and 5, so divides a power of ten."""
    return pow(10, value.denominator.bit_length(), value.denominator) == 0


@lru_cache
def _exactly(tolerance: float) -> Fraction:
    """The decimal's exact value: 0.05 is 1/20, not the nearest binary number."""
    return Fraction(str(tolerance))


class _Reading(NamedTuple):
    """An answer without its decoration, as it counts as written the same, and the number in it."""

    text: str
    written: str
    quantity: Quantity | None
    status: ReadStatus


@remembered(MAX_CHARS)
def _reading(answer: str) -> _Reading:
    text = undecorated(answer)
    # The space before a unit does not count.
    written = re.sub(r"(?<=[0-9]) (?=[^\W\d])", "", " ".join(text.split()))
    return _Reading(text, written, *read_quantity(text))
