"""The tasks that a recipe can name. A new one is a class in this package and a line in its module's TASKS."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Literal

from cpt.types import Sample, Split, Task


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


def read_samples(task: Task, split: Split, n: int, seed: int = 0) -> list[Sample]:
    """The first `n` samples of a split, after the checks that a user's own task may need.

    Raises:
        ValueError: a file that the task reads can't be read, there are not as many samples, some are no
            `cpt.types.Sample`, or two have one id. The message names the task, and the split where it matters.
    """
    try:
        samples = list(task.samples(split, n, seed))
    except OSError as error:
        raise ValueError(f"task {task.name}, split {split}: {error}") from error
    if len(samples) != n:
        raise ValueError(f"task {task.name}: {n} samples of split {split} are asked for, and it gave {len(samples)}")
    strange = {type(sample).__name__ for sample in samples if not isinstance(sample, Sample)}
    if strange:  # whose pictures nobody has prepared
        raise ValueError(f"task {task.name} gives samples that are no cpt.types.Sample but {min(strange)}")
    ids = [sample.id for sample in samples]
    if len(set(ids)) < len(ids):
        twice = next(name for number, name in enumerate(ids) if name in ids[:number])
        raise ValueError(f"task {task.name}: two samples of split {split} have the id {twice}; ids must be unique")
    return samples
