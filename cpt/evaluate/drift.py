"""How far policies have moved from the base model in what they say: the measured rows, and their means.

`cpt.evaluate.evaluators.drift` measures; this reads and summarises. Sources: forward divergence on the new task's
prompts as what predicts forgetting, RL's Razor (arXiv 2509.04259); that it has to be looked at on earlier tasks'
prompts too, CPO (arXiv 2607.04364).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cpt.common.digests import Digest
from cpt.common.files import atomic_path
from cpt.common.parquet import read_rows
from cpt.evaluate.intervals import Floats
from cpt.evaluate.stats import Bootstrap, Metric, Runs, over_seeds, undefined

Group = Literal["new", "prior", "general"]
Direction = Literal["forward", "reverse"]
GROUPS: tuple[Group, ...] = ("new", "prior", "general")
DIRECTIONS: tuple[Direction, ...] = ("forward", "reverse")

REMEASURE = "delete evaluated/drift.json beside it, and the recipe's command measures it again"
NATS = (0.0, math.inf)
_ROUNDING = 0.01  # nats by which a divergence of long completions may come out below 0

FORMULAS: dict[Direction, str] = {
    "forward": "E_{x} E_{y∼π0(·|x)} Σ_{t} KL(π0(·|x,y_{<t}) ‖ π(·|x,y_{<t}))",
    "reverse": "E_{x} E_{y∼π(·|x)} Σ_{t} KL(π(·|x,y_{<t}) ‖ π0(·|x,y_{<t}))",
}
PROMPTS: dict[Group, str] = {
    "new": "x from the stage's own task",
    "prior": "x from every task finished before, mean over tasks",
    "general": "x from every general task, mean over tasks",
}
HEADLINE = "(1/T) Σ_{i} E_{x∼task i}[KL(π0 ‖ π_{i})]: forward drift on each stage's new task, in nats per completion"


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One prompt.

    Attributes:
        group: what its task is to the stage.
        forward: Σ_t KL(π0 ‖ π) over a completion of the base model π0, in nats.
        reverse: Σ_t KL(π ‖ π0) over a completion of the stage's policy π, in nats.
        forward_tokens, reverse_tokens: lengths of those completions.
    """

    task: str
    group: str
    sample_id: str
    forward: float
    reverse: float
    forward_tokens: int
    reverse_tokens: int


def write_drift(path: Path, rows: Sequence[DriftRow]) -> None:
    """Write the rows of one stage as parquet, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=_schema())
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_drift(path: Path, digest: Digest | None = None) -> list[DriftRow]:
    """Rows of one stage. ValueError if the file is damaged, has other columns, or another digest than it is given."""
    found, _ = read_rows(path, _schema(), REMEASURE, digest=digest)
    rows = [DriftRow(**row) for row in found]
    for number, row in enumerate(rows):
        divergences, lengths = (row.forward, row.reverse), (row.forward_tokens, row.reverse_tokens)
        measured = all(math.isfinite(nats) and nats > -_ROUNDING for nats in divergences) and min(lengths) >= 0
        if row.group not in GROUPS or not measured:
            raise ValueError(f"{path}, row {number}: not a measured drift: {row}")
    return rows


def _schema() -> Any:
    import pyarrow as pa

    texts = [pa.field(name, pa.string(), nullable=False) for name in ("task", "group", "sample_id")]
    nats = [pa.field(name, pa.float64(), nullable=False) for name in DIRECTIONS]
    lengths = [pa.field(f"{name}_tokens", pa.int32(), nullable=False) for name in DIRECTIONS]
    return pa.schema([*texts, *nats, *lengths])


@dataclass(frozen=True)
class Drift:
    """One arm's drift.

    Attributes:
        stages: per stage 1..T, (direction, group) → nats per completion.
        per_token: the same in nats per token: all nats over all tokens, mean over tasks.
        headline: see `HEADLINE`.
    """

    stages: tuple[Mapping[tuple[Direction, Group], Metric], ...]
    per_token: tuple[Mapping[tuple[Direction, Group], Metric], ...]
    headline: Metric

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "headline": self.headline.as_dict(),
            "stages": [
                {
                    direction: {
                        group: {
                            "per_completion": nats[direction, group].as_dict(),
                            "per_token": rate[direction, group].as_dict(),
                        }
                        for group in GROUPS
                    }
                    for direction in DIRECTIONS
                }
                for nats, rate in zip(self.stages, self.per_token, strict=True)
            ],
        }


def drift(
    measured: Mapping[tuple[int, int], Sequence[DriftRow] | str],
    seeds: Sequence[int],
    stages: int,
    bootstrap: Bootstrap,
) -> Drift:
    """Means over prompts, then tasks, then seeds, with intervals over prompts (and seeds).

    Args:
        measured: (seed, stage) → its rows, or in words why there are none.
        stages: number T of stages.
    """
    nats, rates, first = [], [], []
    for stage in range(1, stages + 1):
        found = {seed: measured.get((seed, stage), "not trained yet") for seed in seeds}
        cells = {(d, g): _cell(found, d, g, stage, bootstrap) for d in DIRECTIONS for g in GROUPS}
        nats.append({key: per_completion for key, (per_completion, _) in cells.items()})
        rates.append({key: per_token for key, (_, per_token) in cells.items()})
        first.append([_means(rows, "forward", "new", bootstrap) for rows in found.values()])
    return Drift(tuple(nats), tuple(rates), _headline(first, seeds, nats, bootstrap))


def _headline(
    found: Sequence[Sequence[tuple[Floats, Floats]]],
    seeds: Sequence[int],
    nats: Sequence[Mapping[tuple[Direction, Group], Metric]],
    bootstrap: Bootstrap,
) -> Metric:
    """Mean over the stages, in every seed that has them all."""
    gone = [metric for stage in nats if (metric := stage["forward", "new"]).value is None]
    if gone or not found:
        return undefined("drift", HEADLINE, gone[0].reason.removeprefix("n/a: ") if gone else "no stages")
    per_seed = np.array([[float(values[0]) for _, values in stage] for stage in found]).mean(axis=0)
    replicates = np.array([[means[:, 0] for means, _ in stage] for stage in found]).mean(axis=0).T
    runs = Runs(tuple(seeds), per_seed, replicates, reach=NATS)
    return over_seeds("drift", runs, HEADLINE, bootstrap, reason="every seed misses a stage")


def _cell(
    found: Mapping[int, Sequence[DriftRow] | str], direction: Direction, group: Group, stage: int, bootstrap: Bootstrap
) -> tuple[Metric, Metric]:
    """Nats per completion and per token."""
    both = [_means(rows, direction, group, bootstrap) for rows in found.values()]
    reason = _reason(found, group, stage)
    metrics = []
    for column, unit in enumerate(("nats per completion", "nats per token")):
        definition = f"{FORMULAS[direction]}, {PROMPTS[group]}; {unit}"
        if not both:
            metrics.append(undefined(f"{direction} {group}@{stage}", definition, "no seeds"))
            continue
        per_seed = np.array([values[column] for _, values in both])
        replicates = np.stack([means[:, column] for means, _ in both], axis=1)
        name = f"{direction} {group}@{stage}"
        runs = Runs(tuple(found), per_seed, replicates, reach=NATS)
        metric = over_seeds(name, runs, definition, bootstrap, reason=reason)
        metrics.append(replace(metric, runs=None))  # of no use in a difference, and large
    return metrics[0], metrics[1]


def _reason(found: Mapping[int, Sequence[DriftRow] | str], group: Group, stage: int) -> str:
    missing = [rows for rows in found.values() if isinstance(rows, str)]
    if missing:
        return missing[0]
    if group == "prior" and stage == 1:
        return "no task is finished before the first stage"
    return {"new": "no prompts", "prior": "no earlier task", "general": "no general tasks"}[group]


def _means(
    rows: Sequence[DriftRow] | str, direction: Direction, group: Group, bootstrap: Bootstrap
) -> tuple[Floats, Floats]:
    """Bootstrap replicates (B, 2) and values (2,) of nats per completion and per token; NaN without rows."""
    by_task: dict[str, list[tuple[float, int]]] = {}
    for row in () if isinstance(rows, str) else rows:
        if row.group == group:
            value = (getattr(row, direction), getattr(row, f"{direction}_tokens"))
            by_task.setdefault(row.task, []).append(value)
    if not by_task:
        return np.full((bootstrap.resamples, 2), np.nan), np.full(2, np.nan)
    replicates, values = [], []
    for task, pairs in by_task.items():
        columns = np.array(pairs, dtype=np.float64).T  # nats and tokens, (2, n)
        replicates.append(_with_rate(bootstrap.means(columns, task)))
        values.append(_with_rate(columns.mean(axis=1)))
    return np.mean(replicates, axis=0), np.mean(values, axis=0)


def _with_rate(means: Floats) -> Floats:
    """(…, 2) mean nats and tokens of a completion → nats per completion and per token."""
    return np.stack([means[..., 0], means[..., 0] / means[..., 1]], axis=-1)


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's ρ: the correlation of ranks, equal numbers sharing their mean rank. NaN where all xs or ys are equal.

    Args:
        xs, ys: n numbers each, n ≥ 2.
    """
    from scipy.stats import spearmanr  # takes a second to import

    if len(set(xs)) == 1 or len(set(ys)) == 1:
        return math.nan
    return float(spearmanr(xs, ys).statistic)
