"""`cpt judge`: an LLM's scores of recorded completions, beside the records."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cpt.common import terminal
from cpt.common.console import console
from cpt.common.errors import RunFailed
from cpt.common.keys import nearest
from cpt.evaluate.stats import format_metric
from cpt.judge.asked import Judge, Question
from cpt.judge.endpoint import Endpoint, checked_url, is_private
from cpt.judge.files import FOLDER, Judged, Store
from cpt.judge.judging import Judging, Open
from cpt.judge.local import LocalJudge
from cpt.judge.reply import STATUSES
from cpt.judge.rubric import load_rubric
from cpt.judge.scores import cells, continual
from cpt.models.load import load_processor
from cpt.models.locate import stated_length
from cpt.plan.make import plan_model
from cpt.plan.preflight import available_model, gpu_count
from cpt.plan.stages import ModelPlan
from cpt.recipe.schema import Model, Resources, Rollout
from cpt.recipe.task_files import read_task_file, task_file
from cpt.report.load import load_run
from cpt.rollout.limits import check_family, engine_kind
from cpt.run.cluster import cluster, placement_of
from cpt.store.folder import is_run
from cpt.store.records import read_records
from cpt.tasks import declare
from cpt.types import Record

KEY = "OPENAI_API_KEY"


@dataclass(frozen=True)
class Source:
    """What can be judged.

    Attributes:
        root: the folder that judgements go to.
        tasks: trained ones in the order of their stages; none of records without stages.
        records: by arm.
    """

    root: Path
    tasks: tuple[str, ...]
    records: dict[str, list[Record]]


def judge(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|RECORDS", help="A run folder, or what `cpt eval --out` has written.")
    ],
    rubric: Annotated[str, typer.Option(help="ctbench, coin, or a rubric's YAML file.")],
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Of an OpenAI-compatible server, up to /v1; with --model.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The judge, as the server names it.")] = None,
    local: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="The judge as a Hugging Face folder, instead of a server.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"Environment variable with the server's key. Default: {KEY}.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; can be repeated.")] = None,
    tasks: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Task file that the records of `cpt eval --tasks` are of; a run knows its own."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that paths in --tasks start from.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; can be repeated.")] = None,
    stage: Annotated[
        list[int] | None, typer.Option(help="Only after this stage, 0 is the base; can be repeated.")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Only the first samples of every task.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a reply.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Sent with every question.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, help="Questions at a time, of a server.")] = 8,
    timeout: Annotated[
        float, typer.Option(min=0.01, max=86_400, help="Seconds that an answer of a server may take.")
    ] = 120.0,
    retries: Annotated[int, typer.Option(min=0, max=100, help="How often a busy or silent server is asked again.")] = 5,
) -> None:
    """Let a language model score recorded completions by a rubric.

    The records stay as they are; judgements go beside them. The same command again judges what is missing.
    """
    if (endpoint is None) == (local is None):
        raise ValueError("give one of --endpoint URL with --model NAME, or --local FOLDER")
    found = load_rubric(rubric)
    if endpoint is not None:
        if not model:
            raise ValueError("--endpoint needs --model NAME, as the server names the judge")
        key = _key(checked_url(endpoint), key_env)
        who = _server(Endpoint(endpoint, model, key, max_tokens, seed, concurrency, timeout, retries))
    else:
        if model or key_env:
            raise ValueError("--model and --key-env are of --endpoint; with --local the folder is the judge")
        assert local is not None
        who = _folder(local, max_tokens, seed)
    everything = load_source(source)
    if tasks is not None:
        declare(read_task_file(task_file(str(tasks)), None if root is None else str(root)))
    records = select(everything, task, arm, stage, samples)
    recorded = {one: len(_sample_ids(everything, one)) for one in {record.task for record in records}}
    terminal.ctrl_c.line = "cpt: interrupted; the same command again asks what is missing"
    identity = {"model": who.model, "seed": seed, "max_tokens": max_tokens, **who.identity}
    store = Store(everything.root / FOLDER, found, identity)
    judged = Judging(store, who.model, who.where, who.open, _tell).run(records, recorded)
    _print(judged, everything, records)
    _tell(str(store.parquet))
    _check_usable(judged)


@dataclass(frozen=True)
class Who:
    """The judge, before it is asked.

    Attributes:
        identity: what its replies depend on beside its name.
    """

    model: str
    where: str
    identity: Mapping[str, str]
    open: Open


def _server(endpoint: Endpoint) -> Who:
    return Who(endpoint.model, endpoint.where, {"by": "endpoint"}, lambda questions: nullcontext(endpoint))


def _folder(name: str, max_tokens: int, seed: int) -> Who:
    available_model(name)
    model = plan_model(Model(name_or_path=name))
    identity = {"by": "local", "fingerprint": model.fingerprint}
    return Who(name, "this machine", identity, partial(_local, model, max_tokens, seed))


def _check_usable(judged: Judged) -> None:
    """RunFailed if there is not one score."""
    counts = Counter(row.status for row in judged.rows)
    if not counts["ok"]:
        told = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
        first = next((f"; the first: {row.reason}" for row in judged.rows if row.reason), "")
        raise RunFailed(f"nothing usable was judged: {told}{first}")


def _key(url: str, name: str | None) -> str:
    """From the environment. The usual one does not go over a line that others can read."""
    key = os.environ.get(name or KEY, "").strip()
    if name is not None and not key:
        raise ValueError(f"--key-env {name}: there is no such environment variable, or it is empty")
    if key and name is None and not is_private(url):
        _tell(f"{KEY} is not sent over http, which others can read; --key-env {KEY} sends it all the same")
        return ""
    return key


@contextmanager
def _local(model: ModelPlan, max_tokens: int, seed: int, questions: Sequence[Question]) -> Iterator[Judge]:
    """The engines of a run, on the judge's folder."""
    from cpt.run.loop import start_pool

    pictures = {len(question.images): question.digest for question in questions}
    kind = engine_kind(model.path, Rollout(), Resources(), gpu=gpu_count() > 0)
    check_family(model.path, kind.name, gpu=kind.gpu, pictures=[(sample, n) for n, sample in pictures.items()])
    limit = stated_length(Path(model.path)) if Path(model.path).is_dir() else None
    processor = load_processor(model.path, trust_remote_code=model.trust_remote_code)
    with cluster(None):
        pool = start_pool(model, Rollout(), placement_of(Rollout(), Resources()), max(pictures, default=0))
        version = pool.push_folder(model.path, f"judge:{model.fingerprint}")
        yield LocalJudge(pool, version, processor, limit, max_tokens, seed)
        pool.close()


def load_source(path: Path) -> Source:
    """A run folder's records, or those of one file.

    Raises:
        ValueError: it is neither, has no records yet, or is a file inside of a run.
    """
    if path.is_dir() and is_run(path):
        run = load_run(path)
        records = {arm.name: list(arm.records.values()) for arm in run.arms}
        if not any(records.values()):
            raise ValueError(f"{path}: nothing is evaluated yet; judge it when `cpt run` has evaluated something")
        return Source(path, run.tasks, records)
    file = path / "records.parquet" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{path}: no run folder, and no records.parquet; give a run, or what `cpt eval --out` has written"
        )
    if (file.parent / "DONE.json").exists():
        raise ValueError(f"{path}: part of a run; give the run's folder, and choose by --arm, --stage and --task")
    by_arm: dict[str, list[Record]] = {}
    for record in read_records(file):
        by_arm.setdefault(record.arm, []).append(record)
    if not by_arm:
        raise ValueError(f"{file}: no records in it")
    return Source(file.parent, (), by_arm)


def select(
    source: Source,
    tasks: Sequence[str] | None,
    arms: Sequence[str] | None,
    stages: Sequence[int] | None,
    samples: int | None,
) -> list[Record]:
    """The records that are asked for.

    Raises:
        ValueError: there is no such task, arm or stage.
    """
    every = [record for own in source.records.values() for record in own]
    _known("--arm", arms, list(source.records))
    _known("--task", tasks, list(dict.fromkeys(record.task for record in every)))
    _known("--stage", stages, sorted({record.stage for record in every}))
    first = {name: set(_sample_ids(source, name)[:samples]) for name in {record.task for record in every}}
    found = [
        record
        for arm, own in source.records.items()
        for record in own
        if (not arms or arm in arms)
        and (not tasks or record.task in tasks)
        and (not stages or record.stage in stages)
        and record.sample_id in first[record.task]
    ]
    if not found:
        raise ValueError("no record is of that --task, --arm and --stage together; ask for fewer of them")
    return found


def _known(option: str, asked: Sequence[Any] | None, there: Sequence[Any]) -> None:
    strange = [one for one in asked or () if one not in there]
    if strange:
        raise ValueError(
            f"{option} {strange[0]}: there is none in the records{nearest(strange[0], list(map(str, there)))}"
        )


def _sample_ids(source: Source, task: str) -> list[str]:
    """Those of a task, in the order of the records."""
    found = (record.sample_id for own in source.records.values() for record in own if record.task == task)
    return list(dict.fromkeys(found))


def _print(judged: Judged, source: Source, records: Sequence[Record]) -> None:
    """Means by evaluation with what is not in them, and AP and BWT of a run."""
    rubric = judged.rubric
    names = [f"{aspect.name} ({aspect.range[0]:g}–{aspect.range[1]:g})" for aspect in rubric.aspects]
    table = Table("arm", "stage", "task", "judged", *STATUSES[1:], *names, "total")
    for cell in cells(judged.rows, rubric):
        counts = [str(cell.counts.get(status, 0)) for status in STATUSES]
        means = ["–" if mean is None else f"{mean:.1f}" for mean in cell.aspects.values()]
        total = "–" if cell.total is None else f"{cell.total:.3f}"
        table.add_row(cell.arm, str(cell.stage) if cell.stage else "base", cell.task, *counts, *means, total)
    console().print(table)
    if not source.tasks:
        return
    chosen: dict[str, list[Record]] = {}
    for record in records:
        chosen.setdefault(record.arm, []).append(record)
    found = continual(chosen, judged.rows, source.tasks, rubric.name)
    summary = Table("arm", "AP, %", "BWT, points")
    for arm, numbers in found.metrics.items():
        summary.add_row(arm, format_metric(numbers["AP"]), format_metric(numbers["BWT"], signed=True))
    console().print(summary)
    fewer = [f"{task} {kept} of {n}" for task, (kept, n) in found.samples.items() if kept < n and task in source.tasks]
    if fewer:
        _tell(f"AP and BWT rest on the samples with a score in every evaluation: {', '.join(fewer)}")


def _tell(text: str) -> None:
    console().print(text, markup=False, highlight=False, soft_wrap=True)
