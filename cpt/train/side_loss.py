"""Which replayed samples a supervised side loss has at each optimizer step of a stage."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from cpt.methods.memory import Row
from cpt.methods.replay import replayed
from cpt.methods.side_loss import SideLoss
from cpt.train.data import presentation_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cpt.plan.stages import StagePlan
    from cpt.train.weighting import Objectives

SIDE_LOSS = "replay"
"""What the plug-in is called."""


def side_loss(stage: StagePlan, objectives: Objectives | None = None) -> SideLoss | None:
    """The stage's supervised side loss; None where the recipe has none, or nothing to replay yet.

    Args:
        objectives: those that weigh it, task by task; None for no weights.
    """
    replay = stage.replay
    if replay is None or replay.loss != "supervised":
        return None
    numbers = zip(stage.sources, replayed(replay, stage.sources, stage.seed), strict=True)
    sources: list[Sequence[Row]] = [[(source.task, number) for number in found] for source, found in numbers if found]
    if not sources:
        return None
    orders = _orders(stage, sources)

    def draw(step: int) -> Sequence[Row]:
        return orders[step % len(orders)][step // len(orders)]

    if objectives is None:
        return SideLoss(replay.coefficient, draw)
    return SideLoss(replay.coefficient, draw, objectives.weight, partial(objectives.observe, supervised=True))


def rows_per_step(stage: StagePlan) -> int:
    """Replayed rows of an optimizer step: `ratio` of its prompts (those of one process), and at least one."""
    assert stage.replay is not None
    batch = stage.method.batch()
    prompts = stage.global_batch * batch.samples / batch.completions
    return max(1, round(stage.replay.share * prompts))


def _orders(stage: StagePlan, sources: Sequence[Sequence[Row]]) -> list[list[Sequence[Row]]]:
    """The rows of every step, by source: `uniform` lets the sources take turns, otherwise they are one.

    Each is read in seeded permutations one after another, as `cpt.train.data` reads what is mixed into batches.
    """
    assert stage.replay is not None
    rows = rows_per_step(stage)
    named = {f"source {i}": source for i, source in enumerate(sources)}
    if stage.replay.sampler != "uniform":
        named = {"replay": [row for source in sources for row in source]}
    turns = math.ceil(stage.steps / len(named))
    orders: list[list[Sequence[Row]]] = []
    for name, source in named.items():
        order = presentation_order(len(source), turns * rows, f"{stage.stream}/{name}")
        orders.append([[source[i] for i in order[turn * rows :][:rows]] for turn in range(turns)])
    return orders
