"""Stages that rehearse finished tasks, by hand and from recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
import toys
from folders import load_arm
from torch import nn
from toy_stage import stage_of
from toys import batch

from cpt.methods.plugin import Batch, Stage
from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan

Row = tuple[str, int]
GRPO = "{type: grpo, max_steps: 6, num_generations: 4, per_device_train_batch_size: 32}"  # 8 prompts


class Lookup(toys.Lookup):
    """With a bias [V] that may be left out, a parameter that no output needs, and dropout."""

    def __init__(self, table: list[list[float]], bias: bool = False, dropout: float = 0.0) -> None:
        super().__init__(table)
        self.bias = nn.Parameter(torch.zeros(len(table))) if bias else None
        self.unused = nn.Parameter(torch.ones(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        logits = self.dropout(super().forward(input_ids).logits)
        return SimpleNamespace(logits=logits if self.bias is None else logits + self.bias)


def rehearsing(
    model: nn.Module,
    tmp_path: Path,
    contents: Mapping[Row, Sequence[int]] | None = None,
    *,
    step: int = 0,
    index: int = 2,
    finished: Sequence[tuple[str, int]] = (("old", 1),),
    task: str = "new",
    samples: int = 1,
    asked: list[list[Row]] | None = None,
) -> Stage:
    """A stage by hand. `contents`: token ids of rows, (0, 1) for others; `asked` collects what rows were wanted."""

    def batch_of(rows: Sequence[Row]) -> Batch:
        if asked is not None:
            asked.append(list(rows))
        return batch(*((contents or {}).get(row, (0, 1)) for row in rows))

    plain = stage_of(model, tmp_path / str(index), index, tmp_path / str(index - 1) if index > 1 else None, seed=7)
    return replace(plain, step=step, task=task, samples=samples, finished=tuple(finished), batch_of=batch_of)


def replaying(tmp_path: Path, replay: str, method: str = GRPO, arm: str = "") -> list[StagePlan]:
    """The stages of an arm with this `replay:`, 40 samples each; `arm` has further lines."""
    recipe = load_arm(tmp_path, f"method: {method}\nreplay: {{{replay}}}\n{arm}", "data.samples=40")
    return make_plan(recipe).stages
