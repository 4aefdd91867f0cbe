"""Samples of a task, checked as they are read; splits by content."""

from __future__ import annotations

import hashlib
from collections import Counter

from cpt.types import Sample, Split, Task

# Shares of the space of contents: 6 parts base training, 2 parts stage training, 2 parts test.
_SHARES: tuple[Split, ...] = ("base",) * 6 + ("train",) * 2 + ("test",) * 2


def split_of(content: str) -> Split:
    """The split that owns a picture or a question, by its content: what one split shows, no other can."""
    digest = hashlib.blake2b(content.encode(), digest_size=8).digest()
    return _SHARES[int.from_bytes(digest, "big") % len(_SHARES)]


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
        twice = Counter(ids).most_common(1)[0][0]
        raise ValueError(f"task {task.name}: two samples of split {split} have the id {twice}; ids must be unique")
    return samples
