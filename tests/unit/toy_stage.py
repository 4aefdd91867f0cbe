"""A stage by hand, for tests of plug-ins on modules of a few numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from cpt.methods.plugin import Batch, Stage


def stage_of(
    model: nn.Module,
    memory: Path,
    index: int = 1,
    earlier: Path | None = None,
    batches: Iterable[Batch] = (),
    references: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Stage:
    """A stage by hand. `batches` are rows one by one, of which as many are given as are asked for."""
    return Stage(
        index=index,
        step=0,
        seed=seed,
        task="new",
        samples=1,
        finished=(),
        model=model,
        parameters=dict(model.named_parameters()),
        memory=memory,
        earlier=earlier,
        batches=lambda samples, rows: list(batches)[:samples],
        batch_of=lambda rows: next(iter(batches)),
        reference=lambda name: (references or {})[name],
    )
