"""What is wrong with the numbers of samples that a recipe asks of its tasks."""

from __future__ import annotations

from collections.abc import Iterator

from cpt.common.keys import Problem
from cpt.recipe.schema import Recipe
from cpt.types import Split


def check_sizes(recipe: Recipe) -> Iterator[Problem]:
    """More samples than a task has. A task without `size` tells only when it is asked for them."""
    for i, task in enumerate(recipe.tasks):
        trained = ("tasks", i, "samples") if task.samples else ("data", "samples")
        yield from _too_many(task.name, "train", task.samples or recipe.data.samples, trained)
        asked = ("tasks", i, "evaluation_samples") if task.evaluation_samples else ("evaluation", "samples")
        yield from _too_many(task.name, "test", task.evaluation_samples or recipe.evaluation.samples, asked)
    for i, other in enumerate(recipe.general):
        asked = ("general", i, "evaluation_samples") if other.evaluation_samples else ("evaluation", "samples")
        yield from _too_many(other.name, "test", other.evaluation_samples or recipe.evaluation.samples, asked)
    for name, arm in recipe.arms.items():
        for source in arm.replay.tasks if arm.replay else ():
            assert arm.replay is not None
            yield from _too_many(source, "train", arm.replay.samples, ("arms", name, "replay", "samples"))


def _too_many(name: str, split: Split, asked: int, path: tuple[str | int, ...]) -> Iterator[Problem]:
    from cpt.tasks import get_task, task_names

    if name not in task_names():
        return  # told elsewhere
    size = getattr(get_task(name), "size", None)
    there = size(split) if size is not None else None
    if there is not None and asked > there:
        yield path, f"{asked} samples of split {split} are asked for, and task {name} has {there}; set {there} or fewer"
