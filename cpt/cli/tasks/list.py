"""`cpt tasks list`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cpt.common.console import printable
from cpt.recipe.shipped_recipes import headline
from cpt.recipe.task_files import read_task_file, shipped_task_files, task_file
from cpt.tasks import get_task, task_names


def list_tasks(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE]", help="List the tasks of this file, such as streams/coin.")
    ] = None,
) -> None:
    """List the built-in tasks and the task files that come with cpt, or the tasks of one file."""
    console = Console()
    if file is not None:
        table = Table("task", "metric", "about")
        for one in read_task_file(task_file(file), root="."):
            table.add_row(one.name, printable(one.metric or ""), printable(one.about))
        console.print(table, markup=False)  # a file of tasks may come from elsewhere
        return
    table = Table("task", "family", "role", "about")
    for name in task_names():
        found = get_task(name)
        table.add_row(found.name, found.family, found.role, found.about)
    console.print(table)
    for name, path in shipped_task_files().items():
        typer.echo(f"{name:28} {headline(path)}")
