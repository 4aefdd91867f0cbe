"""Reads a judge's reply by a strict rule: what is not wholly in the form asked for is no score."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from cpt.judge.asked import Reply
from cpt.judge.rubric import Aspect

Status = Literal["ok", "refused", "unparsed", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.[0-9]{1,9})?")
# Where the server does not say it. Only of replies that hold no scores: nothing that is scored can be taken for one.
_REFUSES = re.compile(
    r"(i['’]?m|i am) (very )?(sorry|unable|not able)|sorry[,.]|i apologi[sz]e|i (can['’]?t|cannot|won['’]?t) "
    r"|as an ai\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says.

    Attributes:
        scores: by aspect, in the aspect's own range; empty unless `status` is ok.
        reason: why there are none.
    """

    status: Status
    scores: dict[str, float] = field(default_factory=dict)
    reason: str = ""


def read_reply(reply: Reply, aspects: Sequence[Aspect], form: Literal["json", "number"]) -> Reading:
    """The scores in a reply.

    Before it is read, reasoning that ends with `</think>` and a code fence around the whole are taken off. Then all of
    it has to be one JSON object with a number in range for every aspect (more keys may be there), or one number.
    """
    if reply.failure:
        return Reading("failed", reason=reply.failure)
    if reply.refusal:
        return Reading("refused", reason=reply.refusal)
    if reply.cut:  # "10" may have become "1"
        return Reading("unparsed", reason="cut off at the token limit; --max-tokens sets another")
    said = reply.text.strip()
    if not said.startswith("{"):
        said = said.rpartition("</think>")[2].strip()
    if fenced := _FENCED.fullmatch(said):
        said = fenced[1].strip()
    try:
        scores = _scores(said, aspects) if form == "json" else {aspects[0].name: _number(said)}
        for aspect in aspects:
            if not aspect.range[0] <= scores[aspect.name] <= aspect.range[1]:
                raise ValueError(f"{aspect.name} is out of its range")
    except (ValueError, RecursionError) as error:
        if _REFUSES.match(said):
            return Reading("refused", reason="by its words")
        return Reading("unparsed", reason=str(error).partition("\n")[0][:200] or "nested too deep")
    return Reading("ok", {name: float(score) for name, score in scores.items()})


def _scores(said: str, aspects: Sequence[Aspect]) -> dict[str, float]:
    try:
        found = json.loads(said, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON object alone ({error.msg})") from None
    if not isinstance(found, dict):
        raise ValueError("JSON, but no object")
    for aspect in aspects:
        if aspect.name not in found:
            raise ValueError(f"no score of {aspect.name}")
        if isinstance(found[aspect.name], bool) or not isinstance(found[aspect.name], int | float):
            raise ValueError(f"the score of {aspect.name} is no number")
    return {aspect.name: found[aspect.name] for aspect in aspects}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no score")


def _number(said: str) -> float:
    if not _NUMBER.fullmatch(said):
        raise ValueError("not one number alone")
    return float(said)
