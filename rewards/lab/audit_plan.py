"""How a user's reward is audited: with which questions, in which formats, by which rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rewards.compose import Composite
from rewards.extract import Read
from rewards.golds import check_golds
from rewards.lab.attacks import BARE, STYLES, Example, Style
from rewards.lab.audit import Audit, Plan, audit
from rewards.lab.audit_examples import PLANS, UNKNOWN
from rewards.lab.choose import Chosen
from rewards.lab.saved import as_texts, read_lines
from rewards.python_file import PythonReward
from rewards.registry import nearest
from rewards.templates import TAGGED

_STYLES: Mapping[Read, tuple[Style, ...]] = {
    "strict": TAGGED,
    "tolerant": (*TAGGED, "bare"),
    "answer": ("direct", "think"),
    "boxed": ("boxed", "think_boxed"),
    "last_line": ("bare", "think_bare"),
    "whole": ("bare", "think_bare"),
}
_FORMATS: Mapping[str, Style] = {"answer": "direct", "think_answer": "think", "no_think": "bare"}
"""Names that the reward `format` has for some of the styles."""
_ROW = ("question", "gold", "wrong", "choices", "candidates", "same", "other", "meta")


def audit_chosen(chosen: Chosen, examples: Sequence[Example] = (), styles: Sequence[str] = ()) -> Audit:
    """Audit a reward or a composite.

    Args:
        examples: questions to try it on instead of those of `rewards.lab.audit_examples`.
        styles: the formats to try; default: those that the reward can read.

    Raises:
        ValueError: there is no such format.
    """
    for style in styles:
        if style not in STYLES:
            raise ValueError(f"there is no format {style!r}{nearest(style, STYLES)}")
    plan = plan_of(chosen)
    shaping = sum(abs(one.weight) for one in chosen.members if one.family == "shaping")
    return audit(
        chosen.reward,
        replace(plan, examples=tuple(examples)) if examples else plan,
        family=chosen.family,
        styles=[style for style in STYLES if style in styles] or styles_of(chosen),
        read=read_of(chosen),
        shaping=shaping if chosen.composite else 0.0,
        limits=limits_of(chosen),
    )


def limits_of(chosen: Chosen) -> str:
    """What the docstrings of users' functions in a reward say under `Limits:`."""
    rewards = (
        [one.reward for one in chosen.reward.components] if isinstance(chosen.reward, Composite) else [chosen.reward]
    )
    docs = [one.doc for one in rewards if isinstance(one, PythonReward)]
    paragraphs = [paragraph for doc in docs for paragraph in doc.split("\n\n")]
    return " ".join(
        " ".join(one.split()).removeprefix("Limits:").strip() for one in paragraphs if one.startswith("Limits:")
    )


def check_examples(chosen: Chosen, examples: Sequence[Example], path: Path) -> None:
    """ValueError that names the row of a user's questions whose gold answer the reward can't use."""
    rows = ((f"{path}, row {number}", example.row("direct", "")) for number, example in enumerate(examples, 1))
    check_golds(chosen.reward, rows, chosen.label)


def plan_of(chosen: Chosen) -> Plan:
    """The plan of the reward; of a composite, that of its first member that scores answers."""
    names = [one.name for one in chosen.members if one.name in PLANS]
    if chosen.composite:
        names = [one.name for one in chosen.members if one.name in names and one.family in ("answer", "composite")]
    return PLANS[names[0]] if names else UNKNOWN


def read_of(chosen: Chosen) -> Read:
    """How the answer is read; of a composite's several readings the first that is not strict."""
    reads = [one.read for one in chosen.members if one.read is not None]
    return next((read for read in reads if read != "strict"), "strict")


def styles_of(chosen: Chosen) -> tuple[Style, ...]:
    """The formats that the reward can read: the one that a member asks for, else those of its reading.

    If a member rewards the format, an answer without any format is not tried: it may get 0.
    """
    fixed = [one.parameters["template"] for one in chosen.members if "template" in one.parameters]
    if fixed:
        return (_FORMATS.get(fixed[0], fixed[0]),)
    styles = _STYLES[read_of(chosen)]
    if any(one.family == "format" for one in chosen.members):
        return tuple(style for style in styles if style not in BARE) or styles
    return styles


def read_examples(path: Path) -> list[Example]:
    """A user's own questions, from JSON lines, each of them checked.

    A row has `gold` and may have `question`, `choices`, `candidates`, `meta`; `wrong`, a plain wrong answer (default: a
    gold answer of another row); `same`, other spellings of the right one; `other`, answers that must not be rewarded.
    The last two are lists, or mappings from what they change to the answer.

    Raises:
        ValueError: a row without gold, or no wrong answer to be found.
    """
    rows = list(read_lines(path))
    golds = [as_texts(row.get("gold")) for row in rows]
    for number, (row, gold) in enumerate(zip(rows, golds, strict=True), 1):
        if not gold:
            raise ValueError(f"{path}, row {number}: has no gold answer")
        unknown = [key for key in row if key not in _ROW]
        if unknown:
            raise ValueError(f"{path}, row {number}: unknown key {unknown[0]!r}{nearest(unknown[0], _ROW)}")
    if not rows:
        raise ValueError(f"{path}: has no rows")
    return [_example(path, number, row, golds) for number, row in enumerate(rows, 1)]


def _example(path: Path, number: int, row: Mapping[str, Any], golds: Sequence[Sequence[str]]) -> Example:
    gold = golds[number - 1]
    others = (answer for others in golds for answer in others if answer not in gold)
    wrong = next(iter(as_texts(row.get("wrong"))), None) or next(others, None)
    if wrong is None:
        raise ValueError(f'{path}, row {number}: needs a wrong answer; add it, as in "wrong": "…"')
    return Example(
        question=str(row.get("question", "")),
        gold=tuple(gold),
        wrong=wrong,
        choices=tuple(as_texts(row.get("choices"))),
        candidates=tuple(as_texts(row.get("candidates"))),
        same=_named(row.get("same"), "the same"),
        other=_named(row.get("other"), "something else"),
        columns={"meta": row["meta"]} if "meta" in row else {},
    )


def _named(value: Any, what: str) -> dict[str, str]:
    """Answers by what they change; a list has numbers for that."""
    if isinstance(value, Mapping):
        return {str(name): str(answer) for name, answer in value.items()}
    return {f"{what} ({number})": answer for number, answer in enumerate(as_texts(value), 1)}
