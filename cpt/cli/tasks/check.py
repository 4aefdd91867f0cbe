"""`cpt tasks check`: what is wrong with the data of tasks, row by row, before anything is trained on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cpt.cli.tasks.shown import Shown, shown_samples
from cpt.common.console import counted, printable
from cpt.common.files import write_text_atomic
from cpt.plan.make import plan_model
from cpt.plan.preflight import available_model
from cpt.recipe import load_recipe
from cpt.recipe.schema import Model
from cpt.recipe.task_files import read_task_file, task_file
from cpt.run.reads import Row
from cpt.run.rows_fit import Fit, own_limit
from cpt.tasks import declare
from cpt.tasks.audit.findings import KINDS, Finding, Report
from cpt.tasks.audit.scan import TooLong, audit
from cpt.tasks.data_task import DataTask
from cpt.tasks.definition import TaskDefinition
from cpt.tasks.registry import get_task
from cpt.types import Sample

ROWS = 5
"""Rows that the terminal names of one kind; `--json` has all."""


def check(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|FILE", help="A recipe, or a file of tasks.")],
    root: Annotated[
        Path | None, typer.Option(help="For a file of tasks: the folder that its paths start from.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; can be repeated. Default: all.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Whose prompts are counted in tokens. Default: the recipe's; of a file of tasks none are."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write a page with three samples of each task.")] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write all that was found, row by row.")] = None,
    allow: Annotated[float, typer.Option(min=0, max=1, help="Share of rows with errors that is no failure.")] = 0.0,
) -> None:
    """Look at every row and picture of tasks over one's own data. Exit code 1 where rows have errors."""
    definitions, named, limit = _definitions(recipe, root)
    chosen = [one for one in definitions if not task or one.name in task]
    unknown = [name for name in task or () if name not in {one.name for one in definitions}]
    if unknown or not chosen:
        known = ", ".join(one.name for one in definitions) or "none"
        wanted = repr(unknown[0]) if unknown else ""
        raise ValueError(f"{recipe} has no task {wanted} over data of one's own; there are: {known}")
    counted_by = Model(name_or_path=model) if model else named
    if model:
        available_model(model)
    fit = None if counted_by is None else Fit(plan_model(counted_by), limit)
    console = Console()
    reports, pages = [], []
    for one in chosen:
        found = get_task(one.name)
        assert isinstance(found, DataTask)
        if found.answered_by == "generation":
            _ = found.scorer  # an unknown metric is no fault of the rows
        reports.append(audit(found) if fit is None else audit(found, _too_long(found, fit), markup=_markup(found, fit)))
        pages.append((reports[-1], shown_samples(found, fit)))
        _print(console, *pages[-1])
    if out is not None:
        from cpt.report.tasks_page import render_tasks

        write_text_atomic(out, render_tasks(pages))
        console.print(f"page: {out}", highlight=False)
    if json_ is not None:
        write_text_atomic(json_, json.dumps([_plain(report) for report in reports], indent=1, ensure_ascii=False))
    rows = sum(sum(report.rows.values()) for report in reports)
    for one in chosen:
        get_task(one.name).index.check_splits()  # type: ignore[attr-defined]
    bad = len({(report.task, one.where) for report in reports for one in report.errors})
    if bad > allow * rows:
        raise typer.Exit(1)


def _definitions(name: str, root: Path | None) -> tuple[list[TaskDefinition], Model | None, int | None]:
    """The tasks of a recipe, its model and limit of tokens; or of a file of tasks."""
    path = Path(name)
    is_recipe = path.is_file() and any(line.startswith("version:") for line in path.read_text("utf-8").splitlines())
    if not is_recipe:
        try:
            file = task_file(name)
        except ValueError:
            is_recipe = True  # one that comes with cpt, or none at all: told there
        else:
            definitions = read_task_file(file, None if root is None else str(root))
            declare(definitions)
            return definitions, None, None
    recipe = load_recipe(name, checked=False)
    if root is not None:
        raise ValueError(f"--root is for a file of tasks, and {name} is a recipe: write root in its entries")
    declare(recipe.definitions)
    return recipe.definitions, recipe.model, recipe.rollout.max_model_len


def _too_long(task: DataTask, fit: Fit) -> TooLong:
    own = own_limit(fit.model)
    limits = [limit for limit in (own, fit.max_model_len) if limit is not None]

    def told(sample: Any, sizes: tuple[tuple[int, int], ...]) -> str:
        if not limits:
            return ""
        row, chat = Row(sample.id, sizes, (), ()), task.messages(sample, "direct")
        found = fit.excess(row, chat, "", task.max_tokens["direct"], min(limits))
        if found is None:
            return ""
        return f"{found[0]} tokens and {found[1]} of a completion are more than {min(limits)}"

    return told


def _markup(task: DataTask, fit: Fit) -> Callable[[Sample], str]:
    def told(sample: Sample) -> str:
        target = task.target(sample, "dataset", "direct") if sample.gold else ""
        return fit.markup(task.messages(sample, "direct"), target)

    return told


def _print(console: Console, report: Report, shown: Sequence[Shown]) -> None:
    console.print(
        f"[bold]{report.task}[/bold]: {report.summary}; metric {report.metric}", highlight=False, soft_wrap=True
    )
    for one in shown:
        tokens = "" if one.tokens is None else f", {one.tokens} tokens"
        tokens += f"; {one.unknown} of prompt and answer are unknown to the model" if one.unknown else ""
        pictures = ", ".join(f"{width} × {height}" for width, height in one.sizes) or "no picture"
        console.print(f"  {printable(one.where)} ({pictures}{tokens})", highlight=False, markup=False, soft_wrap=True)
        for line in one.prompt.splitlines():
            console.print(f"    {printable(line)}", highlight=False, markup=False, soft_wrap=True)
        console.print(f"    → {printable(one.target)}", highlight=False, markup=False, soft_wrap=True)
    if report.answers is not None:
        answers = report.answers
        often = ", ".join(f"{printable(text)[:24]!r} {count}" for text, count in answers.counts[:ROWS])
        console.print(
            f"  {counted(answers.different, 'different answer')} in test rows; the commonest: {often}; always "
            f"{printable(answers.constant)[:24]!r} scores {100 * answers.score:.1f} %",
            highlight=False, markup=False, soft_wrap=True,
        )  # fmt: skip
    table = Table("found", "rows", "which")
    for kind, about in KINDS.items():
        rows = report.of(kind)
        if rows:
            table.add_row(f"{about.severity}: {kind}", str(len(rows)), _which(rows))
    if table.row_count:
        console.print(table, markup=False)
    else:
        console.print("  nothing is wrong with it", highlight=False)
    places = [printable(json.dumps(one.where, ensure_ascii=False)) for one in report.errors]
    if places:
        few = ", ".join(dict.fromkeys(places[:20])) + (", …" if len(places) > 20 else "")
        console.print(f"  to leave them out: data.leave_out: [{few}]", markup=False, highlight=False, soft_wrap=True)


def _which(rows: Sequence[Finding]) -> str:
    told = [printable(f"{one.where}: {one.detail}") for one in rows[:ROWS]]
    return "\n".join([*told, *([f"and {len(rows) - ROWS} more"] if len(rows) > ROWS else [])])


def _plain(report: Report) -> dict[str, Any]:
    return {
        "task": report.task,
        "metric": report.metric,
        "rows": report.rows,
        "counts": {kind: len(report.of(kind)) for kind in KINDS if report.of(kind)},
        "answers": None if report.answers is None else asdict(report.answers),
        "findings": [asdict(one) for one in report.findings],
    }
