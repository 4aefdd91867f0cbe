"""What a reward says of one completion."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args

Status = Literal["ok", "no_answer", "ambiguous", "malformed", "error", "timeout"]
STATUSES: tuple[Status, ...] = get_args(Status)
FAILED: frozenset[Status] = frozenset({"error", "timeout"})
"""Statuses that say something of the reward, not of the completion: such a row has no reward at all."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a reward or a task's scoring says of one completion.

    Attributes:
        value: in [0, 1]. Of no meaning when `status` is error or timeout.
        parts: named components, each in [0, 1].
        extracted: what was read as the answer; empty if none was.
        status: ok; no_answer (nothing said), ambiguous (several answers), malformed (not in the asked-for format): the
            completion's doing. error, timeout: the reward's own; counted apart, never taken for a wrong answer.
        detail: what went wrong, for a person.
    """

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)
    extracted: str = ""
    status: Status = "ok"
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the reward could not judge this completion."""
        return self.status in FAILED


class Reward(Protocol):
    """Scores one completion. What it needs to know arrives by keyword (`rewards.registry.COLUMNS`), never by place."""

    def __call__(self, completion: str, **row: object) -> Score: ...


def required_columns(reward: Reward) -> frozenset[str]:
    """Columns that a row has to have for this reward: its own word, or its keywords without a default."""
    known: frozenset[str] | None = getattr(reward, "required", None)
    if known is not None:
        return known
    parameters = inspect.signature(reward).parameters.items()
    return frozenset(name for name, p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
