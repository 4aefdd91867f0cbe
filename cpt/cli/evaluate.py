"""`cpt eval`: a model folder on any tasks, evaluated as a run evaluates its stages."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from cpt.cli.evaluate_via import evaluate_via
from cpt.common.console import printable
from cpt.evaluate.aggregates import measures
from cpt.evaluate.evaluators.base import Engines, Subject
from cpt.evaluate.evaluators.generation import GenerationEvaluator
from cpt.evaluate.foreign.harness import Via
from cpt.evaluate.responses import remembering
from cpt.plan.make import plan_model
from cpt.plan.preflight import available_model, gpu_count
from cpt.plan.stages import BasePlan, EvaluationPlan
from cpt.recipe.schema import Model, Resources, Rollout, content_hash
from cpt.recipe.task_files import read_task_file, task_file
from cpt.rollout.limits import engine_kind
from cpt.run.cluster import cluster, placement_of
from cpt.run.rows import check_rows, evaluation_reads
from cpt.store.folder import StageDir
from cpt.store.records import write_records
from cpt.tasks import declare, open_task, task_names
from cpt.tasks.limits import completion_limits
from cpt.tasks.registry import at_most
from cpt.types import Completion, GenerationRequest, PromptStyle, Record, SamplingParams, ScoringRequest

SAMPLES = 256


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face folder, such as a stage's policy.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only this task; can be repeated. Default: all of --tasks, else the built-in ones."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Task file, or one that comes with cpt, such as streams/coin. With --via: its names of tasks, with "
            "commas between.",
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that paths in --tasks start from.")] = None,
    prompt: Annotated[Literal["direct", "think"], typer.Option(help="Prompt style.")] = "direct",
    samples: Annotated[int, typer.Option(min=1, help="Test samples per task.")] = SAMPLES,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per completion. Default: each task's own limit."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the records. Default: only the table.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of answers that are not generated again. Default: --out, or none.")
    ] = None,
    via: Annotated[Via | None, typer.Option(help="Let this program score the model, where it is installed.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="With --via: samples per task. Default: all.")] = None,
    python: Annotated[
        Path | None, typer.Option(help="With --via: the Python it is installed for, or its executable.")
    ] = None,
    harness_model: Annotated[str | None, typer.Option(help="With --via: what it calls this kind of model.")] = None,
    model_args: Annotated[str, typer.Option(help="With --via: further arguments of the model, key=value,…")] = "",
    harness_args: Annotated[str, typer.Option(help="With --via: the rest of its command line, in one text.")] = "",
) -> None:
    """Evaluate a model on tasks, as a run evaluates its stages; or let lmms-eval or lm-eval do it."""
    if via is not None:
        _check_theirs(via, task, samples, {"--root": root, "--max-tokens": max_tokens, "--cache": cache})
        further = shlex.split(harness_args)
        evaluate_via(
            via, model, tasks, out, python=python, model=harness_model, model_args=model_args, limit=limit,
            further=further,
        )  # fmt: skip
        return
    theirs = {"--limit": limit, "--python": python, "--harness-model": harness_model}
    theirs |= {"--model-args": model_args, "--harness-args": harness_args}
    if given := [name for name, value in theirs.items() if value]:
        raise ValueError(f"{given[0]} goes with --via; without it there are --task and --samples")
    defined = [] if tasks is None else read_task_file(task_file(tasks), None if root is None else str(root))
    declare(defined)
    names = list(dict.fromkeys(task or [one.name for one in defined] or task_names()))
    for name in names:
        open_task(name)
    available_model(model)
    evaluate_folder(model, names, prompt, samples, out, max_tokens, cache)


def _check_theirs(via: Via, task: list[str] | None, samples: int, ours: Mapping[str, object]) -> None:
    """ValueError for an option that says nothing to another program."""
    if task:
        raise ValueError(f"--task names tasks of cpt; with --via {via} give its own with --tasks")
    if samples != SAMPLES:
        raise ValueError(f"--samples: with --via {via} it is --limit")
    if given := [name for name, value in ours.items() if value is not None]:
        raise ValueError(f"{given[0]} says nothing to {via}; --model-args and --harness-args are passed on to it")


def evaluate_folder(
    name: str,
    tasks: Sequence[str],
    prompt: PromptStyle,
    samples: int,
    out: Path | None,
    max_tokens: int | None = None,
    cache: Path | None = None,
) -> None:
    """Print strict and tolerant accuracy of a model on tasks; with `out`, write the records there.

    Args:
        name: a Hugging Face folder, a built-in model's name or an id on the Hub.
        samples: test samples per task.
        max_tokens: per completion; None for each task's own limit under this prompt style.
        cache: answers are kept in this folder, one file per model, and not generated again; None for `out`.

    Raises:
        ValueError: the model can't be loaded, a task has too few samples or one that can't be used, or `out` can't be
            written.
    """
    model = plan_model(Model(name_or_path=name))
    kind = engine_kind(model.path, Rollout(), Resources(), gpu=gpu_count() > 0)
    limits = {task: max_tokens or completion_limits([task])[prompt] for task in tasks}
    evaluation = EvaluationPlan({task: at_most(samples, task, "test") for task in tasks}, limits, temperature=0.0)
    pictures = check_rows(evaluation_reads(evaluation, prompt), model, None, kind)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    subject = Subject.of_base(BasePlan(0, prompt, model, evaluation, Rollout()), StageDir(out or Path()))
    with _engines(subject, pictures) as late:
        engines: Engines = late
        if (folder := cache or out) is not None:
            file = folder / f"responses-{content_hash(model.content())[:16]}.sqlite"
            engines = remembering(late, subject, engine=kind.name, file=file, note=_note)
        records = [replace(record, arm=name) for record in GenerationEvaluator().records(subject, engines)]
    if out is not None:
        write_records(out / "records.parquet", records)
    _print(records, tasks, set(limits.values()))


@dataclass
class LateEngines:
    """Engines that start when something is asked of them: where all answers are known already, none start.

    Attributes:
        start: starts them, with the weights of the one version that they are asked for.
    """

    start: Callable[[], Engines]
    started: Engines | None = None

    def push_folder(self, folder: str | Path, version: str) -> str:
        """See `Engines.push_folder`."""
        return self._engines().push_folder(folder, version)

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, *, version: str
    ) -> list[list[Completion]]:
        """See `Engines.generate`."""
        return self._engines().generate(requests, params, version=version)

    def loglikelihood(self, requests: Sequence[ScoringRequest], *, version: str) -> list[list[float]]:
        """See `Engines.loglikelihood`."""
        return self._engines().loglikelihood(requests, version=version)

    def _engines(self) -> Engines:
        self.started = self.started or self.start()
        return self.started


@contextmanager
def _engines(subject: Subject, pictures: int) -> Iterator[LateEngines]:
    """Ray and the rollout pool from the first question to the end of the block."""
    from cpt.run.loop import start_pool

    with ExitStack() as stack:

        def start() -> Engines:
            stack.enter_context(cluster(None))
            pool = start_pool(subject.model, Rollout(), placement_of(Rollout(), Resources()), pictures)
            stack.callback(pool.close)
            pool.push_folder(subject.folder, subject.version)
            return pool

        yield LateEngines(start)


def _note(text: str) -> None:
    typer.echo(f"note: {printable(text)}", err=True)


def _print(records: Sequence[Record], tasks: Sequence[str], limits: Collection[int]) -> None:
    table = Table("task", "samples", "strict", "tolerant", "tokens", "cut off")
    for task in tasks:
        rows = [record for record in records if record.task == task]
        means = [
            sum(values) / len(rows) for values in zip(*((r.score, r.tolerant, r.n_tokens) for r in rows), strict=True)
        ]
        cut = sum(r.finish_reason == "length" for r in rows)
        table.add_row(task, str(len(rows)), f"{means[0]:.3f}", f"{means[1]:.3f}", f"{means[2]:.1f}", str(cut))
    console = Console()
    console.print(table)
    _print_measures(console, records, tasks)
    cut = sum(record.finish_reason == "length" for record in records)
    limit = f"{min(limits)} tokens" if len(limits) == 1 else "their task's limit"
    if cut:
        console.print(
            f"{cut} of {len(records)} completions are cut off at {limit}; --max-tokens sets another limit",
            highlight=False,
            soft_wrap=True,
        )


def _print_measures(console: Console, records: Sequence[Record], tasks: Sequence[str]) -> None:
    """What benchmarks report beyond the mean, if there is one among the tasks."""
    table = Table("benchmark", "measure", "value", "of")
    for task in tasks:
        for one in measures([record for record in records if record.task == task]):
            table.add_row(task, one.name, str(one), one.of)
    if table.row_count:
        console.print(table)
