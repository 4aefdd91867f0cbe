"""The tasks that a recipe can name, and what is known of their data. A new one is a line in `_registry`."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Literal

from cpt.common.digests import bytes_digest
from cpt.tasks.fingerprint import samples_fingerprint, scoring_fingerprint
from cpt.tasks.metric import scale_of
from cpt.tasks.world import builtin
from cpt.types import RIGHT, Split, Task


@lru_cache(maxsize=1)
def _registry() -> dict[str, Task]:
    tasks: list[Task] = [*builtin.tasks()]
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


def data_fingerprint(name: str, split: Split, n: int, seed: int = 0) -> str:
    """Of the first `n` samples of a split of the task of this name, and of what answers to them are worth.

    Raises:
        ValueError: there is no such task, `read_samples` refuses what it gives, or a `meta` holds what can't be known
            again.
    """
    task = get_task(name)
    own = getattr(task, "fingerprint", None)
    if own is not None:
        right_from = scale_of(task).right_from
        return f"{own(split, n, seed)}" + (f" right from {right_from:g}" if right_from != RIGHT else "")
    asked = (id(task), split, n, seed)
    if asked not in _read:
        both = samples_fingerprint(task, split, n, seed) + scoring_fingerprint(task)
        _read[asked] = task, bytes_digest(both.encode())
    return _read[asked][1]


_read: dict[tuple[int, Split, int, int], tuple[Task, str]] = {}
"""What was read in this process; holds the tasks, so that no other one gets their `id`."""
