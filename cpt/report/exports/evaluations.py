"""What a run has to export: for each of its policies the records of every task, and who made them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import cpt
from cpt.report.load import ArmRun, RunData
from cpt.store.results import read_marker
from cpt.store.run_store import RunStore
from cpt.store.schemas import Done
from cpt.types import Record


@dataclass(frozen=True)
class Evaluation:
    """One policy on one task.

    Attributes:
        folder: where its file goes, below that of the export: as in the run's folder.
        at: when it was evaluated, UTC.
        records: in the run's order.
        max_tokens, temperature: how it was asked, where the plan says.
    """

    run: str
    folder: Path
    model: str
    arm: str
    seed: int
    stage: int
    task: str
    at: datetime
    records: tuple[Record, ...]
    max_tokens: int | None = None
    temperature: float | None = None

    @property
    def policy(self) -> str:
        """`demo/sft/seed-0/01-count-colour`."""
        return f"{self.run}/{self.folder.as_posix().removeprefix('arms/')}"

    @property
    def metric(self) -> str:
        """What the task calls its score; empty where the records do not say."""
        return self.records[0].metric

    def means(self) -> dict[str, float]:
        """Mean score per scoring."""
        n = len(self.records)
        return {
            "strict": sum(record.score for record in self.records) / n,
            "tolerant": sum(record.tolerant for record in self.records) / n,
        }


VERSION = cpt.__version__


def evaluations(run: RunData) -> Iterator[Evaluation]:
    """Everything that cpt has scored; what was imported is not ours to export."""
    store = RunStore(run.root)
    shown: set[tuple[str, int]] = set()
    for arm in run.arms:
        for seed in arm.seeds:
            if (arm.prompt, seed) not in shown:
                shown.add((arm.prompt, seed))
                yield from _policy(run, arm, seed, 0, store.base_dir(seed, arm.prompt).root)
            for (own, index), stage in sorted(arm.stages.items()):
                if own == seed and stage.evaluated:
                    where = store.stage_dir(arm.name, seed, index, stage.plan["task"])
                    yield from _policy(run, arm, seed, index, where.root)


def _policy(run: RunData, arm: ArmRun, seed: int, stage: int, where: Path) -> Iterator[Evaluation]:
    by_task: dict[str, list[Record]] = {}
    for (own, index, _), record in arm.records.items():
        if (own, index) == (seed, stage):
            by_task.setdefault(record.task, []).append(record)
    if not by_task:
        return
    at = datetime.fromisoformat(str(read_marker(where / "DONE.json", Done).get("at")))
    planned = next(iter(arm.stages.values())).plan.get("evaluation") or {}
    for task, records in by_task.items():
        yield Evaluation(
            run=run.name,
            folder=where.relative_to(run.root.absolute()),
            model=str((run.plan.get("model") or {}).get("name", "")),
            arm=arm.name if stage else "base",
            seed=seed,
            stage=stage,
            task=task,
            at=at,
            records=tuple(records),
            max_tokens=planned.get("max_tokens"),
            temperature=planned.get("temperature"),
        )
