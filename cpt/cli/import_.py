"""`cpt import`: scores of a run's policies that another program has made, into the run's matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from cpt.common.console import counted, printable
from cpt.common.digests import file_digest
from cpt.common.keys import nearest
from cpt.evaluate.foreign.log import records_of
from cpt.evaluate.foreign.read import read_task
from cpt.report.load import RunData, load_run
from cpt.store.folder import StageDir, lock
from cpt.store.imported import ImportedTask, check_name, read_imported, write_imported
from cpt.store.run_store import RunStore
from cpt.types import Record


@dataclass(frozen=True)
class Place:
    """A policy of a run, as its records are labelled."""

    where: StageDir
    key: str
    arm: str
    seed: int
    stage: int

    @property
    def label(self) -> str:
        """As messages name it."""
        return (
            f"{self.arm}, seed {self.seed}, stage {self.stage}" if self.stage else f"the base model, seed {self.seed}"
        )


def import_(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Samples of lmms-eval or lm-eval, Inspect logs.")
    ],
    run: Annotated[Path, typer.Option(help="The run folder.")],
    task: Annotated[str, typer.Option(help="What the run is to call the task.")],
    arm: Annotated[str | None, typer.Option(help="Arm of the policy that was scored.")] = None,
    seed: Annotated[int | None, typer.Option(help="Its seed. Default: the only one.")] = None,
    stage: Annotated[int | None, typer.Option(help="Its stage, from 1.")] = None,
    base: Annotated[bool, typer.Option("--base", help="The base model was scored: for all its seeds.")] = False,
    metric: Annotated[str | None, typer.Option(help="As the log calls it. Default: the first with scores.")] = None,
    scale: Annotated[float, typer.Option(help="Scores are divided by it, such as 100 for percent.")] = 1.0,
) -> None:
    """Import scores of a run's policy that another program has made."""
    if not scale > 0:
        raise ValueError(f"--scale {scale:g}: has to be above 0")
    check_name(task)
    data = load_run(run)
    if task in (*data.tasks, *data.general):
        raise ValueError(f"--task {task}: a task of the run, which cpt scores itself; choose another name")
    places = _bases(data, arm, seed, stage) if base else [_stage(data, arm, seed, stage)]
    log = read_task(files, task)
    records = records_of(log, metric, name=task, scale=scale)
    _check_alike(data, task, records, places)
    about = {
        "harness": log.harness,
        "version": log.version,
        "task_version": log.task_version,
        "config": log.config,
        "scale": scale,
        "logs": [{"path": str(path), **file_digest(path)} for path in files],
    }
    held = lock(data.root)
    try:
        for place in places:
            own = [replace(one, arm=place.arm, seed=place.seed, stage=place.stage) for one in records]
            write_imported(RunStore(data.root), place.where, place.key, own, source=log.source, **about)
    finally:
        held.release()
    mean = sum(record.score for record in records) / len(records)
    told = f"{task}: {counted(len(records), 'sample')} scored by {log.source}, {records[0].metric}, mean {mean:.4f}"
    for place in places:
        typer.echo(printable(f"{told}; imported for {place.label}"))
    typer.echo(f"cpt report {run} shows them")


def _bases(data: RunData, arm: str | None, seed: int | None, stage: int | None) -> list[Place]:
    """The base model is one, whatever the seed of a run and the style of its prompts."""
    if given := [name for name, value in (("arm", arm), ("seed", seed), ("stage", stage)) if value is not None]:
        raise ValueError(f"--base: is the same for all of a run; leave --{given[0]} out")
    store = RunStore(data.root)
    return [
        Place(store.base_dir(one["seed"], one["prompt"]), one["key"], "base", one["seed"], 0)
        for one in data.plan["bases"]
    ]


def _stage(data: RunData, arm: str | None, seed: int | None, stage: int | None) -> Place:
    """The policy that these options name. ValueError if there is none, or it is not trained yet."""
    if arm is None or stage is None:
        raise ValueError("which policy was scored? give --arm and --stage, or --base")
    found = {one.name: one for one in data.arms}
    if arm not in found:
        raise ValueError(f"--arm: there is no arm {arm!r}{nearest(arm, list(found))}")
    seeds = found[arm].seeds
    if seed is None and len(seeds) > 1:
        raise ValueError(f"--seed: the arm has {', '.join(map(str, seeds))}; say which one was scored")
    chosen = seeds[0] if seed is None else seed
    planned = found[arm].stages.get((chosen, stage))
    if planned is None:
        known = sorted(index for own, index in found[arm].stages if own == chosen)
        what = f"stages {', '.join(map(str, known))}" if known else "no stages"
        raise ValueError(f"{arm}, seed {chosen}: has {what}, and no stage {stage}")
    if not planned.trained:
        raise ValueError(f"{arm}, seed {chosen}, stage {stage}: not trained yet; there is nothing that was scored")
    where = RunStore(data.root).stage_dir(arm, chosen, stage, planned.plan["task"])
    return Place(where, planned.plan["key"], arm, chosen, stage)


def _check_alike(data: RunData, task: str, records: Sequence[Record], places: Sequence[Place]) -> None:
    """Whether what is imported can stand beside what has been: the same samples, by the same metric.

    Raises:
        ValueError: it can't; what was imported before is named.
    """
    for before in _others(data, task, places):
        first = before.records[0]
        label = f"{first.arm}, seed {first.seed}, stage {first.stage}"
        instead = f"import the same, or delete {before.marker}"
        if before.metric != records[0].metric:
            raise ValueError(f"{task}: scored by {records[0].metric}, but for {label} by {before.metric}; {instead}")
        ids, known = ({one.sample_id for one in some} for some in (records, before.records))
        if ids != known:
            raise ValueError(
                f"{task}: {counted(len(ids), 'sample')}, of which {len(ids & known)} are among the {len(known)} of "
                f"{label}; differences have to be between the same samples; {instead}"
            )


def _others(data: RunData, task: str, places: Sequence[Place]) -> list[ImportedTask]:
    """What was imported of this task for other policies of the run."""
    store = RunStore(data.root)
    bases = [(place.where, place.key) for place in _bases(data, None, None, None)]
    stages = [
        (store.stage_dir(one["arm"], one["seed"], one["index"], one["task"]), one["key"]) for one in data.plan["stages"]
    ]
    replaced = {place.where.root for place in places}
    return [
        one
        for where, key in [*bases, *stages]
        if where.root not in replaced
        for one in read_imported(where, key)
        if one.task == task
    ]
