"""IFEval: whether a text follows all instructions that its prompt gives, such as a number of words or no commas."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewards.extract import Extraction, Read, Template
from rewards.instructions import follows, loosened, problem
from rewards.match import bad_gold, unrewarded
from rewards.registry import reward
from rewards.score import Score
from rewards.templates import body, outside_reasoning, tagged_answers

KWARGS = "kwargs"
"""The column with each instruction's arguments."""

Followed = Literal["strictly", "loosely", "not"]
_MARKS: Mapping[str, Followed] = {"+": "strictly", "~": "loosely", "-": "not"}


def unchecked(*, gold: Sequence[str], meta: Mapping[str, Any] | None = None, **_: object) -> str:
    """Why a row's instructions can't be checked, or ""."""
    arguments = list((meta or {}).get(KWARGS) or ())
    if not gold:
        return "there are no instructions: name their column as the answer"
    if told := next(filter(None, map(problem, gold)), ""):
        return told
    if len(arguments) != len(gold):
        return f"{len(gold)} instructions and {len(arguments)} {KWARGS}: the row needs a column {KWARGS}, one for each"
    return next(filter(None, map(problem, gold, arguments)), "")


@reward(
    "ifeval",
    source="IFEval, arXiv 2311.07911, strict and loose accuracy, and the checks of its published code",
    formula="1 if every instruction of the row is followed, else 0",
    check_gold=unchecked,
)
def ifeval(
    completion: str,
    *,
    gold: Sequence[str],
    meta: Mapping[str, Any] | None = None,
    template: Template = "direct",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether all instructions are followed. Parts: `match`, and `instructions`, the share of them that is.

    Gold are the instructions' names (`punctuation:no_comma`), in the order of their arguments, which the row's `meta`
    has as `kwargs`. Strictly, they hold for the answer as it stands; in every other reading for it, or for it without
    its first line, its last line, both, or its asterisks, whichever fits (IFEval's loose accuracy). What is extracted
    names each with + (followed), ~ (loosely) or -. `rewards.instructions` says where checks differ from the published;
    besides, a text without a letter or digit is no answer here.

    Limits: the question need not be answered: a text of the right shape earns all (nonsense, a placeholder, the
    question repeated, several answers, several tagged answers in one, a denial, a refusal (declined), look-alikes, an
    injected verdict, an extremely long text).
    """
    if told := unchecked(gold=gold, meta=meta):
        return bad_gold(told)
    asked = list(zip(gold, (meta or {})[KWARGS], strict=True))
    strict, loose = body(completion, template), _said(completion)
    said = strict if read == "strict" else loose
    if said is None or not any(map(str.isalnum, said)):
        return unrewarded(Extraction("", "malformed" if said is None else "no_answer"), "match", "instructions")
    marks = [_mark(name, own, strict or "", loose) for name, own in asked]
    share = sum(mark in ("+" if read == "strict" else "+~") for mark in marks) / len(marks)
    value = float(share == 1)
    shown = " ".join(f"{mark}{name}" for mark, (name, _) in zip(marks, asked, strict=True))
    return Score(value, {"match": value, "instructions": share}, shown)


def followed(extracted: str) -> list[Followed]:
    """How each instruction was followed, from what the metric has extracted; none where it extracted nothing."""
    return [_MARKS[one[0]] for one in extracted.split() if one[0] in _MARKS]


def _said(completion: str) -> str:
    """The answer outside of the reasoning, in whatever tags."""
    said = outside_reasoning(completion)
    return (tagged_answers(said) or [said])[-1]


def _mark(name: str, arguments: Mapping[str, Any], strict: str, said: str) -> str:
    if follows(name, strict, arguments):
        return "+"
    return "~" if any(follows(name, one, arguments) for one in loosened(said)) else "-"
