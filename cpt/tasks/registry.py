"""The tasks that there are in this process, and what is known of their data.

The built-in ones are always there; those that a recipe or a file defines are after `declare`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Literal

from cpt.common.digests import bytes_digest
from cpt.tasks.data_task import DataTask
from cpt.tasks.definition import TaskDefinition
from cpt.tasks.fingerprint import samples_fingerprint, scoring_fingerprint
from cpt.tasks.metric import scale_of
from cpt.tasks.world import builtin
from cpt.types import RIGHT, Split, Task


@lru_cache(maxsize=1)
def _builtin() -> dict[str, Task]:
    return {task.name: task for task in builtin.tasks()}


_declared: dict[str, DataTask] = {}


def _registry() -> Mapping[str, Task]:
    return {**_builtin(), **_declared}


def declare(definitions: Iterable[TaskDefinition]) -> None:
    """Let `get_task` know these tasks, in this process. Nothing is opened yet.

    A name that was declared before becomes the new definition's; with an equal one it stays the task it is, whose rows
    have perhaps been read already.

    Raises:
        ValueError: a built-in task has the name.
    """
    for definition in definitions:
        if definition.name in _builtin():
            raise ValueError(f"a built-in task is called {definition.name!r}; give this one another name")
        known = _declared.get(definition.name)
        if known is None or known.definition != definition:
            _declared[definition.name] = DataTask(definition)


def task_names(role: Literal["stage", "general"] | None = None) -> list[str]:
    """Names of all tasks, or of those that stages train on, or of those that none does."""
    return [name for name, task in _registry().items() if role is None or task.role == role]


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


def size_of(name: str, split: Split) -> int | None:
    """How many samples a split of the task of this name has; None where the task does not say."""
    size = getattr(get_task(name), "size", None)
    return None if size is None else size(split)


def at_most(asked: int, name: str, split: Split) -> int:
    """As many samples as are asked for, or all of a task that has fewer."""
    there = size_of(name, split)
    return asked if there is None else min(asked, there)


def open_task(name: str) -> Task:
    """The task of this name, after a look at its rows where it reads files.

    Raises:
        ValueError: there is none, or its data or definition is unusable (`cpt.tasks.data_task.DataTask.open`).
    """
    task = get_task(name)
    if isinstance(task, DataTask):
        try:
            task.open()
        except ValueError as error:
            told = str(error)
            raise ValueError(told if f"task {name}" in told else f"task {name}: {told}") from error
    return task


def data_fingerprint(name: str, split: Split, n: int, seed: int = 0) -> str:
    """Of the first `n` samples of a split of the task of this name, and of what answers to them are worth.

    Raises:
        ValueError: there is no such task, `read_samples` refuses what it gives, or a `meta` holds what can't be known
            again.
    """
    task = get_task(name)
    right_from = scale_of(task).right_from
    asked = (id(task), split, n, seed, right_from)
    if asked not in _read:
        own = getattr(task, "fingerprint", None)
        if own is not None:
            found = f"{own(split, n, seed)}" + (f" right from {right_from:g}" if right_from != RIGHT else "")
        else:
            both = samples_fingerprint(task, split, n, seed) + scoring_fingerprint(task)
            found = bytes_digest(both.encode())
        _read[asked] = task, found
    return _read[asked][1]


_read: dict[tuple[int, Split, int, int, float], tuple[Task, str]] = {}
"""What was read in this process; holds the tasks, so that no other one gets their `id`."""
