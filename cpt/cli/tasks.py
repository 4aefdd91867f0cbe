"""`cpt tasks`."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from cpt.tasks import get_task, task_names


def tasks() -> None:
    """List the built-in tasks."""
    table = Table("task", "family", "role", "about")
    for name in task_names():
        found = get_task(name)
        table.add_row(found.name, found.family, found.role, found.about)
    Console().print(table)
