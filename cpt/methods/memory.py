"""An episodic memory: samples of finished tasks that a plug-in looks at again.

What is in it follows from the plan alone. It is balanced over the tasks, and only loses samples as tasks are added.
The rows of an optimizer step follow from the stage's seed and the step's number: a resumed stage draws what an
undisturbed one draws, and so does every process, whose parameters then get the same gradient without communication.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cpt.methods.replay import buffer

if TYPE_CHECKING:
    from torch import nn

Row = tuple[str, int]
"""A task and the number of one of its training samples."""


def remembered(tasks: Sequence[tuple[str, int]], samples: int) -> list[Row]:
    """The samples in memory.

    The draw has one seed for all stages, or an older sample could come back; a recipe's seed is in the samples already.

    Args:
        tasks: name and number of training samples of each, oldest first.
        samples: of all tasks together.
    """
    kept = buffer([size for _, size in tasks], samples, "balanced", "memory")
    return [(task, number) for (task, _), numbers in zip(tasks, kept, strict=True) for number in numbers]


def drawn(memory: Sequence[Row], rows: int, seed: str) -> list[Row]:
    """`rows` different ones; the whole memory if it is smaller."""
    return random.Random(seed).sample(memory, min(rows, len(memory)))


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, then in its own again. Nothing random is drawn that the training would miss.

    Gradient checkpointing is off in this mode, too: a forward pass keeps the activations of all its rows.
    """
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
