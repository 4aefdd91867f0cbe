"""The accuracy matrix R_ij and the metrics of continual learning that follow from it.

R_ij is the score on task j after stage i, row 0 the base model, T the number of stages. Every metric carries its
formula; one that is undefined (a single task, a missing cell) has no value and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cpt.evaluate.intervals import Floats, effective
from cpt.evaluate.scores import Scores, Scoring, collect
from cpt.evaluate.stats import CHANGE, SHARE, Bootstrap, Metric, Runs, over_seeds, undefined
from cpt.types import Record


@dataclass(frozen=True, slots=True)
class Matrix:
    """Mean scores by stage and task.

    Attributes:
        tasks: C columns.
        n: number of test samples per column.
        questions: of those, different questions.
        seeds: the G seeds.
        per_seed: (G, T + 1, C), NaN where an evaluation is missing.
        replicates: (B, G, T + 1, C) bootstrap replicates of `per_seed`.
        cells: (T + 1) × C, R_ij with their intervals.
        absent: how the reason begins why a cell has no value.
    """

    tasks: tuple[str, ...]
    n: tuple[int, ...]
    questions: tuple[int, ...]
    seeds: tuple[int, ...]
    scoring: Scoring
    per_seed: Floats
    replicates: Floats
    bootstrap: Bootstrap
    cells: tuple[tuple[Metric, ...], ...] = ()
    absent: str = "missing cell"

    @property
    def stages(self) -> int:
        """Number T of stages: rows without row 0."""
        return int(self.per_seed.shape[1]) - 1

    @property
    def values(self) -> Floats:
        """(T + 1, C) mean over the seeds that have the cell; NaN where none has."""
        have = ~np.isnan(self.per_seed)
        total = np.where(have, self.per_seed, 0.0).sum(axis=0)
        count = have.sum(axis=0)
        mean: Floats = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        return mean

    def cell(self, stage: int, column: int) -> Metric:
        """R_ij with its interval."""
        return self.cells[stage][column]

    def runs(self, values: Floats, replicates: Floats, columns: Sequence[int], *, signed: bool) -> Runs:
        """What is computed from these columns, (G,) and (B, G); signed: a change, which can be negative."""
        sure = effective([self.questions[column] for column in columns])
        return Runs(self.seeds, values, replicates, sure, CHANGE if signed else SHARE)

    def bare(self) -> Matrix:
        """Without the replicates, which are most of its size, once all that needs them is computed."""
        return replace(self, replicates=np.empty((0, *self.per_seed.shape)))


def accuracy_matrix(
    records: Iterable[Record] | Scores,
    tasks: Sequence[str],
    *,
    columns: Sequence[str] | None = None,
    scoring: Scoring = "strict",
    bootstrap: Bootstrap | None = None,
    absent: str = "missing cell",
) -> Matrix:
    """R_ij of one arm from its records alone.

    Args:
        records: of one arm, any number of seeds, the base model's rows as stage 0; or `collect`'s result.
        tasks: the trained tasks in the order of their stages; they give the T + 1 rows.
        columns: the tasks to show, the trained ones if None; give the general tasks for retention.
        absent: see `Matrix`.

    Raises:
        ValueError: as `collect`.
    """
    shown = tuple(tasks if columns is None else columns)
    general = [name for name in shown if name not in tasks]
    scores = records if isinstance(records, Scores) else collect(records, tasks, general)
    boot = bootstrap or Bootstrap()
    outcomes = [scores.of(scoring)[task] for task in shown]
    shape = (len(scores.seeds), scores.stages + 1, len(shown))
    per_seed = np.full(shape, np.nan)
    # In memory the resamples lie last, beside each other: that is how everything goes through them.
    replicates = np.moveaxis(np.full((*shape, boot.resamples), np.nan), -1, 0)
    for column, (task, outcome) in enumerate(zip(shown, outcomes, strict=True)):
        if outcome.shape[-1]:
            per_seed[:, :, column] = outcome.mean(axis=-1)
            replicates[:, :, :, column] = boot.means(outcome, task, scores.questions[task])
    n = tuple(outcome.shape[-1] for outcome in outcomes)
    questions = tuple(scores.number_of_questions(task) for task in shown)
    matrix = Matrix(shown, n, questions, scores.seeds, scoring, per_seed, replicates, boot, absent=absent)
    cells = (tuple(_cell(matrix, stage, column) for column in range(shape[2])) for stage in range(shape[1]))
    return replace(matrix, cells=tuple(cells))


def _cell(matrix: Matrix, stage: int, column: int) -> Metric:
    name = f"R[{stage}, {matrix.tasks[column]}]"
    values, replicates = matrix.per_seed[:, stage, column], matrix.replicates[:, :, stage, column]
    runs = matrix.runs(values, replicates, [column], signed=False)
    reason = _missing(matrix, np.array([[stage, column]]))
    cell = over_seeds(name, runs, f"{matrix.scoring} score after stage {stage}", matrix.bootstrap, reason=reason)
    return replace(cell, runs=None)


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric: its formula as printed, the computation on (…, T + 1, T) arrays, and the cells it needs."""

    name: str
    title: str
    formula: str
    better: str
    compute: Callable[[Floats], Floats]
    needs: Callable[[int], list[tuple[int, int]]]
    least_stages: int = 1
    signed: bool = False


def _avg_acc(r: Floats) -> Floats:
    return np.asarray(r[..., -1, :].mean(axis=-1))


def _own_stage(r: Floats) -> Floats:
    """(…, T) the diagonal R_jj."""
    return np.diagonal(r[..., 1:, :], axis1=-2, axis2=-1)


def _mft(r: Floats) -> Floats:
    return np.asarray(_own_stage(r).mean(axis=-1))


def _maa(r: Floats) -> Floats:
    stages = r.shape[-1]
    return np.asarray(np.mean([r[..., i, :i].mean(axis=-1) for i in range(1, stages + 1)], axis=0))


def _bwt(r: Floats) -> Floats:
    return np.asarray((r[..., -1, :-1] - _own_stage(r)[..., :-1]).mean(axis=-1))


def _fwt(r: Floats) -> Floats:
    stages = r.shape[-1]
    return np.asarray(np.mean([r[..., j, j] - r[..., 0, j] for j in range(1, stages)], axis=0))


def _fm(r: Floats) -> Floats:
    return np.asarray((r[..., :-1, :-1].max(axis=-2) - r[..., -1, :-1]).mean(axis=-1))


def _last_row(stages: int) -> list[tuple[int, int]]:
    return [(stages, j) for j in range(stages)]


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "MFT",
        "New-task accuracy",
        "(1/T) Σ_{i} R_{ii}: each task right after its own stage",
        "higher",
        _mft,
        lambda t: [(i + 1, i) for i in range(t)],
    ),
    Definition(
        "AvgAcc",
        "Final accuracy",
        "(1/T) Σ_{j} R_{Tj}: all trained tasks after the last stage",
        "higher",
        _avg_acc,
        _last_row,
    ),
    Definition(
        "MAA",
        "Mean average accuracy",
        "(1/T) Σ_{i} (1/i) Σ_{j≤i} R_{ij}: the tasks seen so far, averaged over stages",
        "higher",
        _maa,
        lambda t: [(i + 1, j) for i in range(t) for j in range(i + 1)],
    ),
    Definition(
        "BWT",
        "Backward transfer",
        "1/(T−1) Σ_{j<T} (R_{Tj} − R_{jj}): negative = forgetting",
        "higher",
        _bwt,
        lambda t: [(j + 1, j) for j in range(t - 1)] + _last_row(t)[:-1],
        2,
        signed=True,
    ),
    Definition(
        "FWT",
        "Forward transfer",
        "1/(T−1) Σ_{j≥2} (R_{j−1,j} − R_{0j}): gain on a task before its own stage",
        "higher",
        _fwt,
        lambda t: [cell for j in range(1, t) for cell in ((j, j), (0, j))],
        2,
        signed=True,
    ),
    Definition(
        "FM",
        "Forgetting from the best row",
        "1/(T−1) Σ_{j<T} (max_{0≤l<T} R_{lj} − R_{Tj}): drop from the best row, the base (l=0) included, as published; "
        "a maximum of noisy scores, so that it leans upward",
        "lower",
        _fm,
        lambda t: [(i, j) for i in range(t + 1) for j in range(t - 1)],
        2,
        signed=True,
    ),
)
BY_NAME = {definition.name: definition for definition in DEFINITIONS}


def metrics(matrix: Matrix) -> dict[str, Metric]:
    """AvgAcc, MFT, MAA, BWT, FWT and FM of a matrix whose columns are the trained tasks in the order of their stages.

    Sources: BWT and FWT as in GEM (arXiv 1706.08840, equations 3 and 4; FWT relative to the base model), FM as in
    arXiv 1801.10112 (equation 3) with the base model's row included. FM's maximum is biased upward, by 1 to 3 points at
    64 to 512 questions where nothing is forgotten; BWT is not, and is what cpt compares by.

    Raises:
        ValueError: the columns are not the trained tasks.
    """
    if len(matrix.tasks) != matrix.stages:
        raise ValueError(f"{matrix.stages} stages but {len(matrix.tasks)} columns; give the trained tasks as columns")
    return {definition.name: _metric(definition, matrix) for definition in DEFINITIONS}


def _metric(definition: Definition, matrix: Matrix) -> Metric:
    if matrix.stages < definition.least_stages:
        reason = "one task only" if matrix.stages == 1 else "no tasks"
        return undefined(definition.name, definition.formula, reason)
    needed = np.array(definition.needs(matrix.stages))
    values, replicates = definition.compute(matrix.per_seed), definition.compute(matrix.replicates)
    columns = sorted({column for _, column in definition.needs(matrix.stages)})
    runs = matrix.runs(values, replicates, columns, signed=definition.signed)
    return over_seeds(definition.name, runs, definition.formula, matrix.bootstrap, reason=_missing(matrix, needed))


def _missing(matrix: Matrix, cells: NDArray[np.int64]) -> str:
    """The first of these cells that no seed has, in words."""
    if not matrix.seeds:
        return "no records"
    for stage, column in cells:
        if np.isnan(matrix.per_seed[:, stage, column]).all():
            return f"{matrix.absent}: stage {stage} × task {matrix.tasks[column]}"
    return "every seed misses a cell"
