"""Samples of a task, checked as they are read."""

from __future__ import annotations

from cpt.types import Sample, Split, Task


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
