"""What is left of abilities that no stage trains on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cpt.evaluate.matrix import Matrix
from cpt.evaluate.stats import Metric, over_seeds, undefined

CHANGE = "R_{ig} − R_{0g}: score on general task g after stage i minus the base model's"
MEAN_CHANGE = "mean over the general tasks g of R_{ig} − R_{0g}: 0 = nothing lost"


@dataclass(frozen=True, slots=True)
class Retention:
    """Change against the base model.

    Attributes:
        tasks: the general tasks.
        by_task: per stage 1..T, one Metric per task.
        mean: per stage 1..T, the mean over tasks.
    """

    tasks: tuple[str, ...]
    by_task: tuple[tuple[Metric, ...], ...]
    mean: tuple[Metric, ...]

    @property
    def final(self) -> Metric:
        """The mean after the last stage."""
        return self.mean[-1]


def retention(matrix: Matrix) -> Retention:
    """Change of every general task against the base model, per stage and in the mean.

    Args:
        matrix: of the general tasks (`accuracy_matrix(..., columns=general)`).
    """
    if not matrix.tasks:
        none = tuple(undefined(f"retention@{i}", MEAN_CHANGE, "no general tasks") for i in range(1, matrix.stages + 1))
        return Retention((), tuple(() for _ in none), none)
    change = matrix.per_seed[:, 1:] - matrix.per_seed[:, :1]
    replicates = matrix.replicates[:, :, 1:] - matrix.replicates[:, :, :1]
    by_task, mean = [], []
    for stage in range(1, matrix.stages + 1):
        row = []
        for column, task in enumerate(matrix.tasks):
            # Either side of the difference may be what is missing.
            gone = next((c.reason[5:] for c in (matrix.cell(0, column), matrix.cell(stage, column)) if c.reason), "")
            own = (change[:, stage - 1, column], replicates[:, :, stage - 1, column])
            runs = matrix.runs(*own, [column], signed=True)
            found = over_seeds(f"retention[{task}]@{stage}", runs, CHANGE, matrix.bootstrap, reason=gone)
            row.append(replace(found, runs=None))
        by_task.append(tuple(row))
        reason = next((metric.reason[5:] for metric in row if metric.reason), "")
        own = (change[:, stage - 1].mean(axis=-1), replicates[:, :, stage - 1].mean(axis=-1))
        runs = matrix.runs(*own, range(len(matrix.tasks)), signed=True)
        mean.append(over_seeds(f"retention@{stage}", runs, MEAN_CHANGE, matrix.bootstrap, reason=reason))
    return Retention(matrix.tasks, tuple(by_task), tuple(mean))
