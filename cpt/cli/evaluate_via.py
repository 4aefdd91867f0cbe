"""`cpt eval --via`: a model folder scored by another program, its samples read into our records."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from cpt.common.console import printable
from cpt.common.digests import listing
from cpt.common.files import write_json_atomic
from cpt.evaluate.foreign.harness import Harness, Via, find_harness, model_class, results_of, run_harness
from cpt.evaluate.foreign.log import ForeignLog, records_of
from cpt.evaluate.foreign.sidecar import SIDECAR
from cpt.models.locate import locate_model
from cpt.store.manifest import now
from cpt.store.records import write_records


def evaluate_via(
    via: Via,
    name: str,
    tasks: str | None,
    out: Path | None,
    *,
    python: Path | None = None,
    model: str | None = None,
    model_args: str = "",
    limit: int | None = None,
    further: Sequence[str] = (),
) -> None:
    """Let lmms-eval or lm-eval score a model; write our records, and beside them who scored and how.

    Args:
        name: a Hugging Face folder, a built-in model's name or an id on the Hub.
        tasks: the harness's names, with commas between.
        python: see `find_harness`.
        model: see `model_class`.
        limit, model_args, further: see `run_harness`.

    Raises:
        ValueError: the harness is not installed, or something can't be given to it.
        RunFailed: the harness failed.
    """
    harness = find_harness(via, python)
    names = [task.strip() for task in (tasks or "").split(",") if task.strip()]
    if not names:
        raise ValueError(f"--via {via} needs --tasks: names of its tasks, such as --tasks {_EXAMPLE[via]}")
    if out is None:
        raise ValueError(f"--via {via} needs --out: a folder for its logs and the records")
    source = locate_model(name)
    typer.echo(f"{via} {harness.version} runs; its output is in {out / f'{via}.log'}".replace("  ", " "))
    logs = run_harness(
        harness,
        source,
        names,
        out,
        model=model or model_class(via, source),
        model_args=model_args,
        limit=limit,
        further=further,
    )
    metrics = {log.task: log.choose() for log in logs}
    write_records(
        out / "records.parquet",
        [record for log in logs for record in records_of(log, metrics[log.task], name=log.task, arm=name)],
    )
    about = {"model": name, "harness": via, "version": logs[0].version, "command": list(harness.command), "at": now()}
    asked = {"tasks": names, "limit": limit, "model_args": model_args, "further": list(further)}
    files = listing(out, [path for log in logs for path in _files(harness, log)])
    scored = {log.task: _about(log, metrics[log.task]) for log in logs}
    write_json_atomic(out / SIDECAR, {**about, "asked": asked, "scored": scored, "files": files}, sealed=True)
    _print(logs, metrics)


_EXAMPLE = {"lmms-eval": "pope,mmstar", "lm-eval": "hellaswag,ifeval"}


def _files(harness: Harness, log: ForeignLog) -> list[Path]:
    results = results_of(harness.name, log.path)
    return [log.path, results] if results.exists() else [log.path]


def _about(log: ForeignLog, metric: str) -> dict[str, Any]:
    means = {name: _mean(log, name) for name in log.metrics}
    return {
        "metric": log.label(metric),
        "samples": len(log.samples),
        "means": {name: mean for name, mean in means.items() if mean is not None},
        "task_version": log.task_version,
        "config": log.config,
    }


def _mean(log: ForeignLog, metric: str) -> float | None:
    values = [value for value in log.values(metric) if value is not None]
    return math.fsum(values) / len(values) if len(values) == len(log.samples) else None


def _print(logs: Sequence[ForeignLog], metrics: dict[str, str]) -> None:
    table = Table("task", "samples", "score", "metric", "also")
    for log in logs:
        means = {name: _mean(log, name) for name in log.metrics}
        chosen = metrics[log.task]
        also = [f"{name} {mean:.3f}" for name, mean in means.items() if mean is not None and name != chosen]
        cells = (log.task, str(len(log.samples)), f"{means[chosen]:.3f}", chosen, ", ".join(also))
        table.add_row(*map(printable, cells))
    Console().print(table)
