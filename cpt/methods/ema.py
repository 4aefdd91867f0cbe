"""Exponential moving averages of the policy over the optimizer steps of a stage: to end as, or to compare with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cpt.methods.plugin import Plugin, Stage
from cpt.methods.snapshot import Snapshot, load_average, save_average

if TYPE_CHECKING:
    import torch
    from torch import nn


class Average(Plugin):
    """θ̄ ← decay · θ̄ + (1 − decay) · θ after every optimizer step, θ̄ = θ⁰ at the stage's start; it ends as the policy.

    The average is over what is trained: under LoRA the factors A and B, not their product. Memory: a float32 copy of
    what is trained.

    Args:
        decay: in [0, 1); 0 leaves the policy as it is.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.parameters: dict[str, nn.Parameter] = {}
        self.average: dict[str, torch.Tensor] = {}

    def before_stage(self, stage: Stage) -> None:
        """Start where the stage starts."""
        self.parameters = dict(stage.parameters)
        self.average = {name: p.detach().float().clone() for name, p in self.parameters.items()}

    def after_step(self) -> None:
        """See the class."""
        for name, parameter in self.parameters.items():
            self.average[name].lerp_(parameter.detach().float(), 1 - self.decay)

    def after_stage(self, stage: Stage) -> None:
        """Let the policy be the average."""
        for name, parameter in self.parameters.items():
            parameter.detach().copy_(self.average[name])

    def save(self, folder: Path) -> None:
        """See `Plugin.save`."""
        save_average(self.average, folder)

    def load(self, folder: Path) -> None:
        """See `Plugin.load`."""
        load_average(self.average, folder)


class WithAverage(Plugin):
    """What plug-ins share that ask a moving average of the policy. Without `start_average` there is none.

    Args:
        decay: in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: Snapshot | None = None

    def start_average(self, stage: Stage) -> Snapshot:
        """The average, at the stage's start."""
        self.average = Snapshot(stage.model, stage.parameters)
        return self.average

    def after_step(self) -> None:
        """The average takes in every optimizer step, also one on completions of an earlier generation."""
        if self.average is not None:
            self.average.follow(self.decay)

    def save(self, folder: Path) -> None:
        """See `Plugin.save`."""
        if self.average is not None:
            save_average(self.average.values, folder)

    def load(self, folder: Path) -> None:
        """See `Plugin.load`."""
        if self.average is not None:
            load_average(self.average.values, folder)
