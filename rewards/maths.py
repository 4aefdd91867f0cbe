"""Mathematical equality through math-verify, in a process that can be killed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rewards.extract import Read, Template, normalise, read_answer
from rewards.match import accepted, bad_gold, unpaid
from rewards.registry import reward
from rewards.score import Score

MAX_CHARACTERS = 500
"""An answer longer than this, and than every gold answer, is wrong without asking math-verify."""

_SIGN = re.compile(r"[\d\\+*/^=<>]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_FUNCTIONS = frozenset(("sqrt", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"))
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{\w+\}")
_PERCENT = re.compile(r"(\d[\d.,]*)\s*\\?%")
_NAMED = re.compile(r"[A-Za-z](?:_\{?\w+\}?)?(?:\(\w\))?\s*=[^=]+")
_SUBSCRIPT_OF_NO_LETTER = re.compile(r"(?:^|[^A-Za-z])\s*_")

_SPACING = re.compile(r"\\(?:[,;:! ]|(?:q?quad|left|right)(?![A-Za-z]))")
_BRACED = r"\s*\{[^{}]*\}"
_ARGUMENTS = re.compile(
    rf"[_^](?:{_BRACED}|\s*\d+)|\\(?:[dtc]?frac|binom)(?:{_BRACED}{_BRACED}|\s*\d\s*\d)|\\sqrt(?:\[[^][]*\])?{_BRACED}"
)
_OPEN, _CLOSE, _NUMBER = r"\s*\\?[({[]\s*", r"\s*\\?[)}\]]\s*", r"[\d.]+"
_SIDE_BY_SIDE = re.compile(rf"\d\s+\.?\d|\d{_OPEN}{_NUMBER}{_CLOSE}|{_OPEN}{_NUMBER}{_CLOSE}(?:{_OPEN})?\.?\d")


@reward(
    "maths",
    source="Math-Verify (github.com/huggingface/Math-Verify)",
    formula="1 if math-verify finds the answer equal to a gold one, or they are the same text, else 0",
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

    math-verify runs in a worker process of its own. `limit`: seconds for one answer; past it the worker is killed and
    the status is timeout. An exception in math-verify, or a worker that crashes, is status error. An answer with the
    same text as a gold one is right without asking, and a gold answer that is words or a letter is only compared as
    text.

    Limits: an unevaluated expression pays (5+7 for 12), and so does repeating a question that is a bare formula. Case
    of variables, digits beyond the sixth decimal, the order of a set's elements and of letters in a product (xy, yx) do
    not count. Units, words, number words, digits grouped by
    spaces, mixed numbers like "1 2/3" and equations such as 5+7=12 are not understood: wrong unless written as gold is.
    """
    answers = accepted(gold)
    if not any(map(normalise, answers)):
        return bad_gold("the row has no gold answer")
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unpaid(said, "match")
    if len(said.raw) > max([MAX_CHARACTERS, *map(len, answers)]):
        return Score(0.0, {"match": 0.0}, "", "malformed", f"an answer of {len(said.raw)} characters")
    answer, expected = plain(said.raw), [plain(one) for one in answers]
    same = answer in expected or said.answer in {normalise(one) for one in answers if is_text(plain(one))}
    formulas = [one for one in expected if not is_text(one) and comparable(answer, one)]
    if same or not formulas:
        return Score(float(same), {"match": float(same)}, answer)
    return _judged(formulas, answer, limit)


def _judged(gold: Sequence[str], answer: str, limit: float) -> Score:
    from rewards.maths_process import shared

    try:
        value = float(shared.equal(gold, answer, limit))
    except TimeoutError as error:
        return Score(0.0, {}, answer, "timeout", str(error))
    except RuntimeError as error:
        return Score(0.0, {}, answer, "error", str(error))
    return Score(value, {"match": value}, answer)


def plain(text: str) -> str:
    """Single spaces, no `$…$` around, no full stop at the end, 50% as a fraction (math-verify takes it for 50 too)."""
    text = " ".join(text.split())
    if len(text) > 1 and text[0] == text[-1] == "$":
        text = text.strip("$").strip()
    return _PERCENT.sub(r"\\frac{\1}{100}", text.removesuffix(".").rstrip())


def is_text(text: str) -> bool:
    """Whether a gold answer is words, a letter or a row of numbers rather than a formula. It has to be `plain`.

    As formulas, "listen" and "silent" would be one product of letters, and "3 0 7" and "7 0 3" one sum.
    """
    words = set(_WORD.findall(_ENVIRONMENT.sub(" ", text)))
    return bool(words - _FUNCTIONS) or not _SIGN.search(text) or _misread(text)


def comparable(answer: str, gold: str) -> bool:
    """Whether math-verify may be asked about an answer: it reads 5=12 as 12 where no equation was asked for."""
    named = "=" not in answer or "=" in gold or bool(_NAMED.fullmatch(answer))
    return named and answer.isprintable() and not _misread(answer)


def _misread(text: str) -> bool:
    """Whether it holds what math-verify takes for something else: 12_5 for 12, and numbers side by side for a sum.

    It adds these up because the mixed number 1\\frac{2}{3} is one: "12 5", "12(5)" and "{12}{5}" are 17 to it.
    """
    if _SUBSCRIPT_OF_NO_LETTER.search(text):
        return True
    text = _SPACING.sub(" ", text)
    while found := _ARGUMENTS.search(text):
        arguments = re.findall(r"[{[]([^{}]*)[}\]]", found.group())
        if any(map(_SIDE_BY_SIDE.search, arguments)):
            return True
        text = f"{text[: found.start()]}F{text[found.end() :]}"
    return bool(_SIDE_BY_SIDE.search(text))
