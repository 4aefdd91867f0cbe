"""What a reward said of many completions: means over what could be judged, and counts of everything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewards.saved import Saved
from rewards.score import STATUSES, Score, Status


@dataclass(frozen=True, slots=True)
class Summary:
    """What a reward said of n completions.

    Attributes:
        mean: of the rows that could be judged; None if there is none.
        statuses: rows by status, every status named.
        parts: mean of each part over the judged rows that have it.
    """

    n: int
    mean: float | None
    statuses: dict[Status, int]
    parts: dict[str, float]

    @property
    def failed(self) -> int:
        """Rows without a reward: errors and timeouts."""
        return self.statuses["error"] + self.statuses["timeout"]


def summarise(scores: Sequence[Score]) -> Summary:
    """Means over what could be judged, and counts of everything."""
    judged = [score for score in scores if not score.failed]
    counted = Counter(score.status for score in scores)
    sums: dict[str, list[float]] = {}
    for score in judged:
        for name, part in score.parts.items():
            sums.setdefault(name, []).append(part)
    return Summary(
        n=len(scores),
        mean=math.fsum(score.value for score in judged) / len(judged) if judged else None,
        statuses={status: counted[status] for status in STATUSES},
        parts={name: math.fsum(values) / len(values) for name, values in sums.items()},
    )


def by_group(saved: Saved, scores: Sequence[Score], columns: Sequence[str]) -> dict[tuple[str, ...], Summary]:
    """Summaries of the rows that share the values of `columns`, in the order in which those first occur."""
    groups: dict[tuple[str, ...], list[Score]] = {}
    for score, *key in zip(scores, *(saved.columns[name] for name in columns), strict=True):
        groups.setdefault(tuple(map(str, key)), []).append(score)
    return {key: summarise(found) for key, found in groups.items()}


def with_scores(saved: Saved, scores: Mapping[str, Sequence[Score]]) -> dict[str, Sequence[Any]]:
    """The file's columns and, for each reward, `<reward>/value` (null where it could not judge), `<reward>/status`,
    `<reward>/extracted`, `<reward>/detail` and `<reward>/part/<part>`.
    """
    columns = dict(saved.columns)
    for name, found in scores.items():
        columns[f"{name}/value"] = [None if s.failed else s.value for s in found]
        columns[f"{name}/status"] = [s.status for s in found]
        columns[f"{name}/extracted"] = [s.extracted for s in found]
        columns[f"{name}/detail"] = [s.detail for s in found]
        for part in dict.fromkeys(part for s in found for part in s.parts):
            columns[f"{name}/part/{part}"] = [None if s.failed else s.parts.get(part) for s in found]
    return columns
