"""A reward's scores of many completions: means over the scored rows, and counts of all."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.lab.saved import Saved
from rewards.score import STATUSES, Score, Status


@dataclass(frozen=True, slots=True)
class Summary:
    """A reward's scores of n completions.

    Attributes:
        not_applicable: rows without a column that the reward needs; they have no status.
        mean: over the rows that could be scored; None if there is none.
        statuses: rows by status, every status named.
        parts: mean of each part over the scored rows that have it.
    """

    n: int
    not_applicable: int
    mean: float | None
    statuses: dict[Status, int]
    parts: dict[str, float]

    @property
    def failed(self) -> int:
        """Rows without a reward: errors and timeouts."""
        return self.statuses["error"] + self.statuses["timeout"]


def summarise(scores: Sequence[Score | None]) -> Summary:
    """Means over the scored rows, and counts of all. None is a row that the reward does not apply to."""
    applicable = [score for score in scores if score is not None]
    scored = [score for score in applicable if not score.failed]
    counted = Counter(score.status for score in applicable)
    sums: dict[str, list[float]] = {}
    for score in scored:
        for name, part in score.parts.items():
            sums.setdefault(name, []).append(part)
    return Summary(
        n=len(scores),
        not_applicable=len(scores) - len(applicable),
        mean=math.fsum(score.value for score in scored) / len(scored) if scored else None,
        statuses={status: counted[status] for status in STATUSES},
        parts={name: math.fsum(values) / len(values) for name, values in sums.items()},
    )


def by_group(saved: Saved, scores: Sequence[Score | None], columns: Sequence[str]) -> dict[tuple[str, ...], Summary]:
    """Summaries of the rows that share the values of `columns`, in the order in which those first occur."""
    groups: dict[tuple[str, ...], list[Score | None]] = {}
    for score, *key in zip(scores, *(saved.columns[name] for name in columns), strict=True):
        groups.setdefault(tuple(map(str, key)), []).append(score)
    return {key: summarise(found) for key, found in groups.items()}


def with_scores(saved: Saved, scores: Mapping[str, Sequence[Score | None]]) -> dict[str, Sequence[Any]]:
    """The file's columns and, for each reward, `<reward>/value`, `<reward>/status`, `<reward>/extracted`,
    `<reward>/detail` and `<reward>/part/<part>`.

    Where the reward failed there is no value and no part; where it does not apply, nothing at all (null).
    """
    columns = dict(saved.columns)
    for name, found in scores.items():
        scored = [None if one is None or one.failed else one for one in found]
        columns[f"{name}/value"] = [None if one is None else one.value for one in scored]
        for field in ("status", "extracted", "detail"):
            columns[f"{name}/{field}"] = [None if one is None else getattr(one, field) for one in found]
        for part in dict.fromkeys(part for one in scored if one is not None for part in one.parts):
            columns[f"{name}/part/{part}"] = [None if one is None else one.parts.get(part) for one in scored]
    return columns
