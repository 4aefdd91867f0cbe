"""The score of one completion."""

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
    """The result of a reward, or of a task's scoring, for one completion.

    Attributes:
        value: in [0, 1]. Without meaning if `status` is error or timeout.
        parts: named components, each in [0, 1].
        extracted: the answer that was read; empty if none was.
        status: ok; because of the completion: no_answer, ambiguous (several answers), malformed (not in the format
            asked for); because of the reward: error, timeout, which are counted apart and never as wrong answers.
        detail: what went wrong, for a person.
    """

    value: float
    parts: Mapping[str, float] = field(default_factory=dict)
    extracted: str = ""
    status: Status = "ok"
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the reward could not score this completion."""
        return self.status in FAILED


class Reward(Protocol):
    """Scores one completion. Its other inputs are keywords (`rewards.registry.COLUMNS`)."""

    def __call__(self, completion: str, **row: object) -> Score: ...


def required_columns(reward: Reward) -> frozenset[str]:
    """Columns that a row has to have: those that the reward declares, or its keywords without a default."""
    known: frozenset[str] | None = getattr(reward, "required", None)
    if known is not None:
        return known
    parameters = inspect.signature(reward).parameters.items()
    return frozenset(name for name, p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty)
