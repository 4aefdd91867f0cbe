"""Mathematical equality through math-verify, in a process that can be killed."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.extract import Read, Template, normalise, read_answer
from rewards.match import accepted, bad_gold, unrewarded
from rewards.maths_process import shared
from rewards.maths_text import comparable, is_text, letter_of, plain, quantity_in, without_unit
from rewards.numbers import agrees
from rewards.registry import reward
from rewards.score import Score

MAX_CHARACTERS = 500
"""An answer longer than this, and than every gold answer, is wrong without asking math-verify."""


def unreadable_formula(*, gold: Sequence[str], **_: object) -> str:
    """The problem of a row's gold answers, or "". Words are not formulas, and are compared as text."""
    return "" if any(map(normalise, accepted(gold))) else "the row has no gold answer"


@reward(
    "maths",
    source="Math-Verify (github.com/huggingface/Math-Verify)",
    formula="1 if math-verify finds the answer equal to a gold one, or they are the same text or number, else 0",
    check_gold=unreadable_formula,
)
def maths(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    limit: float = 5.0,
    **_: object,
) -> Score:
    """Whether the answer is mathematically equal to a gold one: 1/2, 0.5 and \\frac{1}{2} are the same.

    math-verify runs in a separate worker process. `limit`: seconds for one answer; past it the worker is killed and
    the status is timeout. An exception in math-verify, or a worker that crashes, is status error. An answer with the
    same text as a gold one is right without asking, and a gold answer that is words or a letter is only compared as
    text ("A" also with "A. 12", whose letter it is).

    Where this departs from math-verify, which rounds at six decimals: numbers are equal exactly. A decimal passes for a
    fraction that no decimal says exactly if it is rounded from it and has six digits or more (0.333333), for an
    irrational number with seven. Where gold is one number with a unit or without, the answer is read as `number` does
    too: number words, ½ and 1 1/4, units (one that is missing or where gold has none is passed over), "x = 12" and true
    equations (5 + 7 = 12). 50% is 1/2, and not 50, but where gold has the sign, 50 is right as well. An inequality is
    the interval that it describes, "x=1 or x=2" the two solutions.

    Limits: an unevaluated expression pays (5+7 for 12), and so does repeating a question that is a bare formula. Case
    of variables, the order of a set's elements and of letters in a product (xy, yx) do not count. A lone letter after a
    number is a variable and no unit: "12 m" is not 12, "12 \\text{ m}" is. Beside a number, words of three letters and
    more are passed over ("12 apples"). Fullwidth forms count as the plain ones. Units of formulas convert into no other
    units.
    """
    answers = accepted(gold)
    if wrong := unreadable_formula(gold=answers):
        return bad_gold(wrong)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    if len(said.raw) > max([MAX_CHARACTERS, *map(len, answers)]):
        return Score(0.0, {"match": 0.0}, "", "malformed", f"an answer of {len(said.raw)} characters")
    answer, expected = plain(said.raw), [plain(one) for one in answers]
    if _same_text(said.answer, answer, expected) or any(_same_number(one, answer) for one in expected):
        return Score(1.0, {"match": 1.0}, answer)
    formulas = [pair for one in expected if (pair := _to_compare(one, answer))]
    if not formulas:
        return Score(0.0, {"match": 0.0}, answer)
    return _judged(formulas, answer, limit)


def _same_text(normalised: str, answer: str, expected: Sequence[str]) -> bool:
    """Whether the answer is written as a gold one; of words and letters, case and edge punctuation do not count."""
    texts = {normalise(one) for one in expected if is_text(one)} | {letter_of(one) for one in expected} - {""}
    return answer in expected or not texts.isdisjoint((normalised, normalise(answer), letter_of(answer)))


def _same_number(gold: str, answer: str) -> bool:
    wanted = quantity_in(gold, bare=True)
    said = quantity_in(answer) if wanted else None
    return wanted is not None and said is not None and all(agrees(said, wanted))


def _to_compare(gold: str, answer: str) -> tuple[str, str] | None:
    """Gold and answer as given to math-verify: without units that agree; None if they can't be equal."""
    if is_text(gold) or not comparable(answer, gold):
        return None
    (formula, unit), (said, said_unit) = without_unit(gold), without_unit(answer)
    if unit and said_unit and not any(x == y for x, y in unit.shared(said_unit)):
        return None
    return formula, said


def _judged(pairs: Sequence[tuple[str, str]], answer: str, limit: float) -> Score:
    try:
        value = 0.0
        for said in dict.fromkeys(said for _, said in pairs):
            value = max(value, float(shared.equal([gold for gold, one in pairs if one == said], said, limit)))
    except TimeoutError as error:
        return Score(0.0, {}, answer, "timeout", str(error))
    except RuntimeError as error:
        return Score(0.0, {}, answer, "error", str(error))
    return Score(value, {"match": value}, answer)
