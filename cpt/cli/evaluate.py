"""`cpt eval`: a model folder on any tasks, evaluated as a run evaluates its stages."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from cpt.evaluate.aggregates import measures
from cpt.evaluate.evaluators.base import Subject
from cpt.evaluate.evaluators.generation import GenerationEvaluator
from cpt.plan.make import plan_model
from cpt.plan.preflight import available_model, gpu_count
from cpt.plan.stages import BasePlan, EvaluationPlan
from cpt.recipe.schema import Model, Resources, Rollout
from cpt.recipe.task_files import read_task_file, task_file
from cpt.rollout.limits import engine_kind
from cpt.run.cluster import cluster, placement_of
from cpt.run.rows import check_rows, evaluation_reads
from cpt.store.folder import StageDir
from cpt.store.records import write_records
from cpt.tasks import declare, get_task, open_task, task_names
from cpt.tasks.limits import completion_limits
from cpt.types import PromptStyle, Record


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A Hugging Face folder, such as a stage's policy.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="Only this task; can be repeated. Default: all of --tasks, else the built-in ones."),
    ] = None,
    tasks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Task file, or one that comes with cpt, such as streams/coin.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder that paths in --tasks start from.")] = None,
    prompt: Annotated[Literal["direct", "think"], typer.Option(help="Prompt style.")] = "direct",
    samples: Annotated[int, typer.Option(min=1, help="Test samples per task.")] = 256,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens per completion. Default: as in recipes, enough for the built-in model."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the records. Default: only the table.")] = None,
) -> None:
    """Evaluate a model on tasks, by free generation."""
    defined = [] if tasks is None else read_task_file(task_file(str(tasks)), None if root is None else str(root))
    declare(defined)
    names = list(dict.fromkeys(task or [one.name for one in defined] or task_names()))
    for name in names:
        open_task(name)
    available_model(model)
    evaluate_folder(model, names, prompt, samples, out, max_tokens)


def evaluate_folder(
    name: str,
    tasks: Sequence[str],
    prompt: PromptStyle,
    samples: int,
    out: Path | None,
    max_tokens: int | None = None,
) -> None:
    """Print strict and tolerant accuracy of a model on tasks; with `out`, write the records there.

    Args:
        name: a Hugging Face folder, a built-in model's name or an id on the Hub.
        samples: test samples per task.
        max_tokens: per completion; None for the default of recipes with this prompt style.

    Raises:
        ValueError: the model can't be loaded, a task has too few samples or one that can't be used, or `out` can't be
            written.
    """
    from cpt.run.loop import start_pool

    model = plan_model(Model(name_or_path=name))
    kind = engine_kind(model.path, Rollout(), Resources(), gpu=gpu_count() > 0)
    limits = {task: max_tokens or completion_limits([task])[prompt] for task in tasks}
    evaluation = EvaluationPlan({task: _there(task, samples) for task in tasks}, limits, temperature=0.0)
    pictures = check_rows(evaluation_reads(evaluation, prompt), model, None, kind)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    subject = Subject.of_base(BasePlan(0, prompt, model, evaluation, Rollout()), StageDir(out or Path()))
    with cluster(None):
        pool = start_pool(model, Rollout(), placement_of(Rollout(), Resources()), pictures)
        pool.push_folder(subject.folder, subject.version)
        records = [replace(record, arm=name) for record in GenerationEvaluator().records(subject, pool)]
        pool.close()
    if out is not None:
        write_records(out / "records.parquet", records)
    _print(records, tasks, set(limits.values()))


def _there(task: str, samples: int) -> int:
    """As many samples, or all of a task that has fewer."""
    size = getattr(get_task(task), "size", None)
    return samples if size is None else min(samples, size("test"))


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
