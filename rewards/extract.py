"""Reads the answer of a completion: strictly (only the format asked for) or in any style.

A strict reading accepts a completion only when the whole of it has the format that the prompt asked for, so it measures
the skill and the format together. A tolerant one looks for the answer wherever a model may have put it, so that a lost
format is not mistaken for a lost skill (SEFE, arXiv 2505.02486).

There is one reader, `read_answer`: rewards and the tasks' evaluation read through it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rewards import prose
from rewards.arithmetic import solved
from rewards.decoration import composed, undecorated, unwrapped
from rewards.prose import EDGES
from rewards.remember import remembered
from rewards.statements import stated
from rewards.templates import Template, body, boxed_answers, holds_box, outside_reasoning, tagged_answers

__all__ = [
    "Extraction",
    "Read",
    "ReadStatus",
    "Template",
    "bare",
    "normalise",
    "read_answer",
    "read_text",
]

ReadStatus = Literal["ok", "no_answer", "ambiguous", "malformed"]
Read = Literal["strict", "tolerant", "answer", "boxed", "last_line", "whole"]


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer and how it was read.

    Attributes:
        answer: `bare`; empty unless `status` is ok.
        status: ok, no_answer (nothing said), ambiguous (several answers), malformed (not in the asked-for format).
        raw: the words as they stand in the completion (`rewards.decoration.unwrapped`): for readers that need case,
            signs and lead-ins.
    """

    answer: str
    status: ReadStatus
    raw: str = ""


def normalise(text: str) -> str:
    """Lower case, Unicode NFC, single spaces, no punctuation at the edges; .5 is 0.5. Idempotent.

    >>> normalise("  The  Red circle. ")
    'the red circle'
    """
    text = " ".join(composed(text.lower()).split()).rstrip(EDGES)
    kept = text.lstrip(EDGES)
    left_out = text[: len(text) - len(kept)]
    decimal = left_out.endswith(".") and not left_out.endswith("..") and kept[:1].isdigit()
    return f"0.{kept}" if decimal else kept


@remembered()
def bare(text: str) -> str:
    """What a text answers, normalised: without decoration and lead-ins (`rewards.decoration.undecorated`). Idempotent.

    Equations stay: whether "x = 3" is 3 depends on what was asked.

    >>> bare("**The answer is:** `Red`.")
    'red'
    """
    before, said = None, text
    while said != before:
        before, said = said, normalise(undecorated(said, equations=False))
    return said


def read_answer(
    completion: str,
    how: Read = "strict",
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
) -> Extraction:
    """The answer of a completion.

    - `strict`: the whole completion has the template (`rewards.templates.body`); the answer is what the template holds.
    - `answer`, `boxed`: the one `<answer>`, or balanced `\\boxed{}`, outside of the reasoning. Several different ones
      are ambiguous; none is malformed.
    - `last_line`: the last line outside of the reasoning that is not empty, from "the answer is" on.
    - `whole`: everything outside of the reasoning.
    - `tolerant`: whatever `<answer>` and `\\boxed{}` agree on; without such tags, what the text says. See `_tolerant`.

    Decoration is removed in every reading: "**12**" is 12. Strictness is only about the format.
    Reading an answer again (`whole`, `tolerant`) changes nothing. An answer that is only the question again is none.

    Args:
        completion: decoded text of any length; takes linear time.
        template: the format that was asked for; used by `strict` only.
        candidates: the possible answers to the question, if known; used by `tolerant` only.
        question: the user's words, if known.

    Raises:
        ValueError: there is no such reading or template.
    """
    if how == "tolerant":
        return _tolerant(completion, candidates, normalise(question))
    if how == "strict":
        inside = body(completion, template)
        read = Extraction("", "malformed") if inside is None else _read(inside)
    elif how == "answer":
        read = _agreed(tagged_answers(outside_reasoning(completion)))
    elif how == "boxed":
        boxes = boxed_answers(outside_reasoning(completion))
        nested = any(map(holds_box, boxes))
        read = Extraction("", "ambiguous") if nested else _agreed(boxes)
    elif how == "last_line":
        lines = [line for line in outside_reasoning(completion).splitlines() if line.strip()]
        read = _read(prose.without_lead_in(" ".join(lines[-1].split())) if lines else "")
    elif how == "whole":
        read = _read(outside_reasoning(completion))
    else:
        raise ValueError(f"reading {how!r} is not known; it has to be one of {', '.join(get_args(Read))}")
    if read.status == "ok" and question and _only_asks(read, normalise(question)):
        return Extraction("", "no_answer")
    return read


def read_text(completion: str, how: Read = "strict", template: Template = "direct", question: str = "") -> Extraction:
    """The words in which a published script looks for its answer, for metrics that bring an extraction of their own.

    As `read_answer`, but a tolerant reading chooses nothing: it gives all of what `<answer>` and `\\boxed{}` agree on,
    or without such tags everything outside of the reasoning, lead-ins and the question included.
    """
    if how != "tolerant":
        return read_answer(completion, how, template, question=question)
    tags = _in_tags(outside_reasoning(completion))
    if tags is None:
        return read_answer(completion, "whole", question=question)
    only_asks = tags.status == "ok" and question and _only_asks(tags, normalise(question))
    return Extraction("", "no_answer") if only_asks else tags


def _tolerant(completion: str, candidates: Sequence[str], question: str) -> Extraction:
    """The answer in any style. Hedges are not accepted, because policies are optimised against rewards.

    Tags first: boxes may hold braces, tags any case; `<answer>` and `\\boxed{}` have to agree with each other; what
    a tag holds is read as prose too. Without tags the answer is what the text says outside of the reasoning: the
    whole of it, what follows "the answer is", or the one candidate that it mentions; several are ambiguous. In
    prose, the question is skipped where it comes first, "answer:" is a lead-in, and a candidate that is mentioned
    beside a denial ("it is not red"), in a question or as part of something else ("-2") is ambiguous. Candidates
    are looked for in `prose.MAX_CHARS` characters at most. Without candidates, one sentence that states a number or a
    property (`rewards.statements`: "There are 12 apples.") says no more than that.
    """
    known = {bare(candidate) for candidate in candidates} - {""}
    if bare(completion) in known:
        return _read(completion)
    said = outside_reasoning(completion)
    tags = _in_tags(said)
    if tags is not None and tags.status != "ok":
        return tags
    return _in_prose(said if tags is None else tags.raw, known, question)


def _in_tags(said: str) -> Extraction | None:
    """What all `<answer>` and `\\boxed{}` of a text agree on; None without any."""
    tagged = [_unboxed(answer) for answer in tagged_answers(said)] + boxed_answers(said)
    if any(map(holds_box, tagged)):
        return Extraction("", "ambiguous")
    return _agreed(tagged) if tagged else None


def _in_prose(said: str, known: Collection[str], question: str) -> Extraction:
    """The answer of a text without tags."""
    said = unwrapped(said)
    if bare(said) in known:
        return _read(said)
    text = " ".join(said.split())
    rest = prose.without_question(prose.without_lead_in(prose.without_question(text, question)), question)
    read = _read(said if rest == text else prose.tail(said, rest))
    if read.status == "ok" and not known and (states := bare(stated(rest))):
        return Extraction(states, "ok", read.raw)
    if not read.answer or len(read.answer) > prose.MAX_CHARS:
        return read
    if (comes_to := bare(solved(read.answer))) in known:
        return Extraction(comes_to, "ok", comes_to)
    mentioned, beside = prose.mentions(read.answer, known)
    if not mentioned:
        return read
    hedged = beside.strip("\0") and (prose.denies(beside) or prose.asks(said) or prose.glued(beside))
    if len(mentioned) > 1 or hedged:
        return Extraction("", "ambiguous")
    return Extraction(mentioned[0], "ok", mentioned[0])


def _read(raw: str) -> Extraction:
    raw = unwrapped(composed(raw))
    answer = bare(raw)
    return Extraction(answer, "ok", raw) if answer else Extraction("", "no_answer")


def _agreed(tagged: Iterable[str]) -> Extraction:
    """The answer of several tags that have to agree."""
    distinct = {bare(text): text for text in tagged}
    if not distinct:
        return Extraction("", "malformed")
    if len(distinct) > 1:
        return Extraction("", "ambiguous")
    return _read(next(iter(distinct.values())))


def _unboxed(text: str) -> str:
    """The content of the only `\\boxed{}` of a text; the text if there is none, or several."""
    boxes = boxed_answers(text)
    return boxes[0] if len(boxes) == 1 else text


def _only_asks(read: Extraction, question: str) -> bool:
    return not normalise(prose.without_question(" ".join(read.raw.split()), question))
