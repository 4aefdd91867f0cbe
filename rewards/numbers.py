"""Numbers with tolerance and units."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.extract import Extraction, Read, Template, read_answer
from rewards.match import accepted, bad_gold, unpaid
from rewards.quantity import Quantity, read_quantity
from rewards.registry import reward
from rewards.score import Score

NOISE = 1e-9
"""Relative difference that floating point alone may make."""


@reward(
    "number",
    source="ChartQA's relaxed accuracy with relative=0.05 (arXiv 2203.10244)",
    formula="1 if |x − gold| ≤ max(absolute, relative·|gold|) in gold's unit, else 0",
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
    require_unit: bool = False,
    **_: object,
) -> Score:
    """Whether the one number of the answer is a gold one, whatever its form and unit of measurement.

    Equal are: 1,000 and 1000 and 1e3; .5 and 1/2 and 50%; seven and 7; 100 cm and 1 m. `absolute` is in gold's unit. A
    unit of another dimension is wrong, one that is missing is taken to be gold's unless `require_unit` (so 50 is right
    for 50%), and one where gold has none is passed over, but for % (3% is not 3). Parts: `number` (its value is right),
    `unit` (it is no wrong one); the reward is both.

    Limits: units are those of `rewards.quantity.UNITS`; any other word ("apples") counts as no unit. One number is
    read: "1 h 30 min", "2 × 3 = 6" and decimal commas are ambiguous, and so are words that change a number ("half",
    "over") and denials ("not 5"). Number words beyond twenty, vulgar fractions (½) and digits of other alphabets are
    not read. Texts beyond 200 characters are malformed. What else the text says of the number is not understood:
    "5 maybe" is 5.
    """
    if not (absolute >= 0 and relative >= 0):
        raise ValueError(f"number: absolute and relative must not be negative, got {absolute} and {relative}")
    wanted = [read_quantity(answer)[0] for answer in accepted(gold)]
    golden = [quantity for quantity in wanted if quantity is not None]
    if not wanted or len(golden) < len(wanted):
        return bad_gold(f"every gold answer has to be one number, not {list(gold)!r}")
    said = read_answer(completion, read, template, question=question)
    if said.status != "ok":
        return unpaid(said, "number", "unit")
    quantity, status = read_quantity(said.raw)
    if quantity is None:
        return unpaid(Extraction("", status), "number", "unit")
    judged = [_judge(quantity, one, absolute, relative, require_unit) for one in golden]
    right, unit = max(judged, key=lambda parts: (all(parts), parts))
    return Score(float(right and unit), {"number": float(right), "unit": float(unit)}, str(quantity))


def _judge(said: Quantity, gold: Quantity, absolute: float, relative: float, require_unit: bool) -> tuple[bool, bool]:
    """Whether the value is right, and whether the unit is no reason against it."""
    if said.unit and gold.unit and said.dimension == gold.dimension:
        return _close(said.base, gold.base, absolute * gold.size, relative), True
    as_gold = _close(said.value, gold.value, absolute, relative)
    if said.unit and gold.unit:
        return as_gold, False
    if said.dimension == "share":
        return _close(said.base, gold.value, absolute, relative), True
    if gold.dimension == "share":
        as_gold = as_gold or _close(said.value, gold.base, absolute * gold.size, relative)
    return as_gold, not (require_unit and gold.unit and not said.unit)


def _close(said: float, gold: float, absolute: float, relative: float) -> bool:
    return abs(said - gold) <= max(absolute, relative * abs(gold)) + NOISE * max(abs(said), abs(gold))
