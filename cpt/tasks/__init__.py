"""The tasks that a recipe can name. A new one is a class in this package and a line in its module's TASKS."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Literal

from cpt.types import Task


@lru_cache(maxsize=1)
def builtin_tasks() -> tuple[Task, ...]:
    """The tasks of the built-in world: what the built-in model's vocabulary and training are made from."""
    from cpt.tasks import digits, shapes, text

    return tuple(cls() for module in (shapes, digits, text) for cls in module.TASKS)


@lru_cache(maxsize=1)
def _registry() -> dict[str, Task]:
    tasks: list[Task] = [*builtin_tasks()]
    return {task.name: task for task in tasks}


def task_names(role: Literal["stage", "general"] | None = None) -> list[str]:
    """Names of all tasks, or of those that stages train on, or of those that none does."""
    return [name for name, task in _registry().items() if role in (None, task.role)]


def get_task(name: str) -> Task:
    """The task of this name.

    Raises:
        ValueError: if there is none; the message names the nearest one.
    """
    registry = _registry()
    if name not in registry:
        near = difflib.get_close_matches(name, registry, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(registry)}"
        raise ValueError(f"unknown task {name!r}; {hint}")
    return registry[name]
