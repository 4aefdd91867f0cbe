"""Reading the answer out of a completion: strictly (the asked-for format and nothing else) or in any style.

Two readers and nothing more. `strict_answer` accepts a completion only when the whole of it has the format that the
prompt asked for, so it measures the skill and the format together. `tolerant_answer` looks for the answer wherever a
model may have put it, so that a lost format is not mistaken for a lost skill (SEFE, arXiv 2505.02486).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Template = Literal["direct", "think"]

_STRICT: dict[str, re.Pattern[str]] = {
    "direct": re.compile(r"<answer>([^<>]*)</answer>"),
    "think": re.compile(r"<think>[^<>]*</think>\s*<answer>([^<>]*)</answer>"),
}
_ANSWER = re.compile(r"<answer>([^<>]*)(?:</answer>|$)")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_THINK = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
_LEAD_IN = re.compile(r"^.*\b(?:answer|it) is\b\s*:?\s*", re.IGNORECASE | re.DOTALL)
_EDGES = " \t\r\n.,;:!?\"'"


@dataclass(frozen=True, slots=True)
class Extraction:
    """The answer and how it was read: ok, no_answer (empty), ambiguous (several), malformed (wrong format)."""

    answer: str
    status: Literal["ok", "no_answer", "ambiguous", "malformed"]


def normalise(text: str) -> str:
    """Lower case, single spaces, no punctuation at the edges. Idempotent.

    >>> normalise("  The  Red circle. ")
    'the red circle'
    """
    return " ".join(text.lower().split()).strip(_EDGES)


def strict_answer(completion: str, template: Template) -> Extraction:
    """The answer of a completion that is exactly in the asked-for format, surrounding white space aside."""
    match = _STRICT[template].fullmatch(completion.strip())
    if match is None:
        return Extraction("", "malformed")
    answer = normalise(match.group(1))
    return Extraction(answer, "ok" if answer else "no_answer")


def tolerant_answer(completion: str, candidates: Sequence[str] = ()) -> Extraction:
    """The answer in whatever style it was given.

    Tags first (`<answer>`, then `\\boxed{}`), reasoning left out. Otherwise, what the text says outside of the
    reasoning: the whole of it, what follows "the answer is", or the one candidate that it mentions. Two different
    tagged answers, or a text that mentions several candidates, are `ambiguous` and never count as right.

    Args:
        completion: decoded text of any length.
        candidates: the answers that the question admits, if the task knows them.
    """
    said = _THINK.sub(" ", completion)
    tagged = [normalise(t) for t in _ANSWER.findall(said) or _BOXED.findall(said)]
    if tagged:
        distinct = set(tagged)
        if len(distinct) > 1:
            return Extraction("", "ambiguous")
        return Extraction(tagged[0], "ok" if tagged[0] else "no_answer")
    text = normalise(_LEAD_IN.sub("", said))
    if not text:
        return Extraction("", "no_answer")
    mentioned = _mentioned(text, candidates)
    if len(mentioned) == 1:
        return Extraction(mentioned[0], "ok")
    if len(mentioned) > 1:
        return Extraction("", "ambiguous")
    return Extraction(text, "ok")


def _mentioned(text: str, candidates: Sequence[str]) -> list[str]:
    """Candidates that occur in the text as whole words; one inside a longer mentioned one does not count.

    "unanswerable" and "3" beside "3 0 7" are why longer candidates are taken first and blotted out.
    """
    found: list[str] = []
    for candidate in sorted({normalise(c) for c in candidates}, key=lambda c: (-len(c), c)):
        pattern = re.compile(rf"(?<!\w){re.escape(candidate)}(?!\w)")
        if pattern.search(text):
            found.append(candidate)
            text = pattern.sub("\0", text)
    return found
