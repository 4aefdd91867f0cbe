"""Records of one arm as arrays: seed × stage × sample, per task, paired by sample id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cpt.evaluate.intervals import Floats
from cpt.types import RIGHT, Record

Scoring = Literal["strict", "tolerant"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Outcomes of one arm.

    Attributes:
        tasks: the trained tasks in the order of their stages; T of them.
        general: tasks that are evaluated and never trained.
        seeds: G seeds.
        sample_ids: n ids per task, sorted.
        questions: per task (n,) which of its m questions each sample asks, 0 to m - 1; m < n where some are copies.
        strict, tolerant: per task (G, T + 1, n) from 0 to 1; row 0 is the base model; NaN where nothing was evaluated.
        right_from: per task the score from which a sample counts as right.
        metric: per task what its score is called; empty where the records do not say.
        imported: tasks that were scored elsewhere; no mean over tasks has them in it.
    """

    tasks: tuple[str, ...]
    general: tuple[str, ...]
    seeds: tuple[int, ...]
    sample_ids: dict[str, tuple[str, ...]]
    questions: dict[str, NDArray[np.int64]]
    strict: dict[str, Floats]
    tolerant: dict[str, Floats]
    right_from: dict[str, float]
    metric: dict[str, str]
    imported: tuple[str, ...] = ()

    @property
    def stages(self) -> int:
        """Number T of stages."""
        return len(self.tasks)

    def of(self, scoring: Scoring) -> dict[str, Floats]:
        """The outcomes under one scoring."""
        return self.strict if scoring == "strict" else self.tolerant

    def right(self, scoring: Scoring, task: str) -> Floats:
        """(G, T + 1, n) 1 from the task's `right_from` on, 0 below, NaN where nothing was evaluated."""
        found = self.of(scoring)[task]
        return np.where(np.isnan(found), np.nan, found >= self.right_from[task])

    def number_of_questions(self, task: str) -> int:
        """How many different questions its samples ask."""
        return int(self.questions[task].max()) + 1 if len(self.questions[task]) else 0


def collect(
    records: Iterable[Record],
    tasks: Sequence[str],
    general: Sequence[str] = (),
    *,
    imported: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
) -> Scores:
    """Arrange the records of one arm.

    Args:
        tasks: trained tasks in the order of their stages.
        general: further tasks that were evaluated.
        imported: tasks that were scored elsewhere.
        seeds: the planned seeds; those found if None.

    Raises:
        ValueError: records of several arms, a sample evaluated twice, a stage beyond the tasks, or evaluations of one
            task on different samples (their difference would not be paired) or by different scores.
    """
    found = list(records)
    arms = sorted({record.arm for record in found})
    if len(arms) > 1:
        raise ValueError(f"records of several arms: {', '.join(arms)}; give one arm at a time")
    seed_list = tuple(sorted({record.seed for record in found}) if seeds is None else seeds)
    columns = tuple(dict.fromkeys((*tasks, *general, *imported)))
    cells: dict[tuple[str, int, int], dict[str, Record]] = {}
    for record in found:
        if record.task not in columns or record.seed not in seed_list:
            continue
        if not 0 <= record.stage <= len(tasks):
            raise ValueError(f"record of stage {record.stage}, but there are {len(tasks)} stages")
        cell = cells.setdefault((record.task, record.seed, record.stage), {})
        if record.sample_id in cell:
            raise ValueError(f"{record.sample_id}: evaluated twice after stage {record.stage}, seed {record.seed}")
        cell[record.sample_id] = record
    sample_ids, questions, strict, tolerant = {}, {}, {}, {}
    right_from, metric = {}, {}
    for task in columns:
        own = {key[1:]: cell for key, cell in cells.items() if key[0] == task}
        sample_ids[task] = _common_ids(task, own)
        questions[task] = question_numbers(sample_ids[task], own.values())
        strict[task], tolerant[task] = _arrays(own, sample_ids[task], seed_list, len(tasks) + 1)
        right_from[task], metric[task] = _scale(task, own)
    return Scores(
        *(tuple(tasks), tuple(general), seed_list, sample_ids, questions, strict, tolerant, right_from, metric),
        imported=tuple(imported),
    )


def question_numbers(ids: Sequence[str], found: Iterable[Mapping[str, Record]]) -> NDArray[np.int64]:
    """(n,) the question that each of n samples asks, counted from 0 in the samples' order.

    Args:
        found: evaluations, each by sample id. A sample of which none knows the question is a question of its own.
    """
    asked = {name: record.question_id for cell in found for name, record in cell.items() if record.question_id}
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(asked.get(name, name), len(numbers)) for name in ids], dtype=np.int64)


def _common_ids(task: str, cells: dict[tuple[int, int], dict[str, Record]]) -> tuple[str, ...]:
    ids: tuple[str, ...] | None = None
    for (seed, stage), cell in sorted(cells.items()):
        own = tuple(sorted(cell))
        if ids is not None and own != ids:
            raise ValueError(
                f"task {task}: stage {stage}, seed {seed} was evaluated on other samples ({len(own)}) than the rest "
                f"({len(ids)}); evaluate them on the same samples"
            )
        ids = own
    return ids or ()


def _scale(task: str, cells: Mapping[tuple[int, int], Mapping[str, Record]]) -> tuple[float, str]:
    """From where on samples count as right, and the score's name; records that do not say go with those that do."""
    found = {(record.right_from, record.metric) for cell in cells.values() for record in cell.values() if record.metric}
    found = found or {(record.right_from, "") for cell in cells.values() for record in cell.values()}
    if len(found) > 1:
        told = " and ".join(f"{metric} (right from {right_from:g} on)" for right_from, metric in sorted(found))
        raise ValueError(f"task {task}: evaluated by different scores, {told}; evaluate all by the same")
    return next(iter(found), (RIGHT, ""))


def _arrays(
    cells: dict[tuple[int, int], dict[str, Record]], ids: Sequence[str], seeds: Sequence[int], rows: int
) -> tuple[Floats, Floats]:
    strict = np.full((len(seeds), rows, len(ids)), np.nan)
    tolerant = strict.copy()
    for (seed, stage), cell in cells.items():
        at = (seeds.index(seed), stage)
        strict[at] = [cell[name].score for name in ids]
        tolerant[at] = [cell[name].tolerant for name in ids]
    return strict, tolerant
