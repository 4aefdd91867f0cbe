"""General benchmarks by their own measures: of the base model, and after the last stage of every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.evaluate.aggregates import Measure, measures
from cpt.report.load import ArmRun, RunData
from cpt.types import Record


@dataclass(frozen=True)
class BenchmarkView:
    """One task with measures of its own.

    Attributes:
        rows: (arm, measure → value for the base model and after the last stage; None where it was not evaluated).
        of: measure → what it is made from.
    """

    task: str
    metric: str
    rows: Sequence[tuple[ArmRun, Mapping[str, tuple[Measure | None, Measure | None]]]]
    of: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "task": self.task,
            "metric": self.metric,
            "arms": {
                arm.name: {
                    name: {"base": before and before.value, "last": after and after.value}
                    for name, (before, after) in own.items()
                }
                for arm, own in self.rows
            },
        }


def benchmark_views(run: RunData) -> list[BenchmarkView]:
    """Every task whose benchmark reports more than a mean, in the run's order."""
    tasks = dict.fromkeys((*run.tasks, *run.general))
    return [view for task in tasks if (view := _view(run, task)) is not None]


def _view(run: RunData, task: str) -> BenchmarkView | None:
    rows = []
    of: dict[str, str] = {}
    for arm in run.arms:
        last = max((stage for _, stage in arm.stages), default=0)
        before, after = (_mean_over_seeds(arm, task, stage) for stage in (0, last))
        for one in (*before.values(), *after.values()):
            of.setdefault(one.name, one.of)
        rows.append((arm, before, after))
    if not of:
        return None
    table = [(arm, {name: (before.get(name), after.get(name)) for name in of}) for arm, before, after in rows]
    return BenchmarkView(task, _metric(run, task), table, of)


def _mean_over_seeds(arm: ArmRun, task: str, stage: int) -> dict[str, Measure]:
    """Each measure after a stage, as the mean over the seeds that were evaluated."""
    by_seed: dict[int, list[Record]] = {}
    for (seed, own, _), record in arm.records.items():
        if own == stage and record.task == task:
            by_seed.setdefault(seed, []).append(record)
    found: dict[str, list[Measure]] = {}
    for records in by_seed.values():
        for one in measures(records):
            found.setdefault(one.name, []).append(one)
    return {
        name: Measure(name, sum(one.value for one in own) / len(own), own[0].of, own[0].share)
        for name, own in found.items()
    }


def _metric(run: RunData, task: str) -> str:
    return next((arm.scores.metric[task] for arm in run.arms if arm.scores.metric.get(task)), "")
