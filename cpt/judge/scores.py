"""Scores from judgements: means by evaluation, and the metrics of continual learning on totals instead of accuracy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cpt.evaluate.matrix import accuracy_matrix, metrics
from cpt.evaluate.scores import collect
from cpt.evaluate.stats import Bootstrap, Metric
from cpt.judge.files import Identity, Judgement, identity_of, record_digest
from cpt.judge.rubric import Rubric
from cpt.types import Record

SHOWN = {"AvgAcc": "AP", "BWT": "BWT"}
"""Metrics of `cpt.evaluate.matrix` → what MLLM-CTBench calls them (arXiv 2508.08275)."""


@dataclass(frozen=True)
class Cell:
    """One task after one stage, seeds together.

    Attributes:
        counts: judgements by status.
        aspects: mean score of each, in its own range; None where none was scored.
        total: mean from 0 to 1 over the judged; None where none is. What is refused or not read counts nowhere.
    """

    arm: str
    stage: int
    task: str
    counts: Mapping[str, int]
    aspects: Mapping[str, float | None]
    total: float | None

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def cells(rows: Sequence[Judgement], rubric: Rubric) -> list[Cell]:
    """Means of every evaluation, in the order of the rows."""
    found: dict[tuple[str, int, str], list[Judgement]] = {}
    for row in rows:
        found.setdefault((row.arm, row.stage, row.task), []).append(row)
    return [
        Cell(
            *place,
            counts=Counter(row.status for row in own),
            aspects={
                one.name: _mean(row.scores[one.name] for row in own if one.name in row.scores) for one in rubric.aspects
            },
            total=_mean(row.total for row in own if row.total is not None),
        )
        for place, own in found.items()
    ]


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


@dataclass(frozen=True)
class Continual:
    """AP and BWT of every arm.

    Attributes:
        metrics: arm → by their names in `SHOWN`.
        samples: task → (how many samples they rest on, how many were judged at all). A sample that has no score in some
            evaluation is left out of all, so that every difference is of the same samples.
    """

    metrics: Mapping[str, Mapping[str, Metric]]
    samples: Mapping[str, tuple[int, int]]


def continual(
    records: Mapping[str, Sequence[Record]],
    rows: Sequence[Judgement],
    tasks: Sequence[str],
    name: str,
    bootstrap: Bootstrap | None = None,
) -> Continual:
    """The metrics on totals.

    Args:
        records: by arm; those that are not judged are not looked at.
        rows: judgements of them.
        tasks: trained tasks in the order of their stages.
        name: of the score.
    """
    boot = bootstrap or Bootstrap()
    by_record = {row.identity: row for row in rows}
    totals = {
        identity_of(one): row.total
        for own in records.values()
        for one in own
        if (row := _judgement(one, by_record)) is not None
    }
    samples, shared = _samples(totals)
    found = {}
    for arm, own in records.items():
        judged = [
            replace(one, score=total, tolerant=total, metric=name)
            for one in own
            if one.sample_id in shared.get(one.task, ()) and (total := totals.get(identity_of(one))) is not None
        ]
        numbers = metrics(accuracy_matrix(collect(judged, tasks), tasks, bootstrap=boot))
        found[arm] = {new: numbers[old] for old, new in SHOWN.items()}
    return Continual(found, {task: (len(shared[task]), len(ids)) for task, ids in samples.items()})


def _samples(totals: Mapping[Identity, float | None]) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """By task, the samples that have a judgement somewhere, and those that have a score in every evaluation."""
    scored: dict[str, dict[tuple[str, int, int], set[str]]] = {}
    samples: dict[str, set[str]] = {}
    for (arm, seed, stage, task, sample), total in totals.items():
        samples.setdefault(task, set()).add(sample)
        own = scored.setdefault(task, {}).setdefault((arm, seed, stage), set())
        if total is not None:
            own.add(sample)
    return samples, {task: set.intersection(*by_cell.values()) for task, by_cell in scored.items()}


def current(rows: Sequence[Judgement], records: Iterable[Record]) -> list[Judgement]:
    """The judgements of these records as they are now; of one that was made again since, there is none."""
    by_record = {row.identity: row for row in rows}
    found = (_judgement(record, by_record) for record in records)
    return [row for row in found if row is not None]


def _judgement(record: Record, rows: Mapping[Identity, Judgement]) -> Judgement | None:
    row = rows.get(identity_of(record))
    return row if row is not None and row.record == record_digest(record) else None
