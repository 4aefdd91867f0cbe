"""Quadratic anchors: what EWC, MAS and plain L2 have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from cpt.methods.likelihood import nll
from cpt.methods.plugin import Batch, Penalty, Stage

if TYPE_CHECKING:
    import torch
    from torch import nn

FILE = "anchors.safetensors"


class Anchored(Penalty):
    """coefficient/2 · Σ_k Σ_i Ω_ki (θ_i − θ*_ki)² over finished tasks k and parameters i; zero in the first stage.

    Args:
        coefficient: λ.
        decay: None keeps every task's Ω and θ*; otherwise one Ω = decay·Ω + Ω_new is kept, with the last θ*.
    """

    def __init__(self, coefficient: float, decay: float | None) -> None:
        self.coefficient, self.decay = coefficient, decay
        self.anchors: dict[str, torch.Tensor] = {}  # "<task>/omega/<parameter>", "<task>/theta/<parameter>"
        self.parameters: dict[str, nn.Parameter] = {}

    @abstractmethod
    def importance(self, stage: Stage) -> dict[str, torch.Tensor]:
        """Ω of the task that has just been finished, by parameter; not negative."""

    def before_stage(self, stage: Stage) -> None:
        """Read the anchors of the stages before."""
        self.parameters = dict(stage.parameters)
        self.anchors = stage.left(FILE)

    def value(self) -> torch.Tensor | None:
        """See the class."""
        if not self.anchors:
            return None
        import torch

        squares = [
            (omega * (self.parameters[name] - self.anchors[f"{task}/theta/{name}"]).square()).sum()
            for key, omega in self.anchors.items()
            for task, kind, name in [key.split("/", 2)]
            if kind == "omega" and name in self.parameters
        ]
        return self.coefficient / 2 * torch.stack(squares).sum()

    def after_stage(self, stage: Stage) -> None:
        """Add this task's anchors and leave all of them to the next stage."""
        new = self.importance(stage)
        task = "all" if self.decay is not None else str(stage.index)
        kept = {} if self.decay is not None else dict(self.anchors)
        for name, omega in new.items():
            before = self.anchors.get(f"all/omega/{name}")
            if self.decay is not None and before is not None:
                omega = self.decay * before + omega
            kept[f"{task}/omega/{name}"] = omega
            kept[f"{task}/theta/{name}"] = stage.parameters[name].detach().clone()
        stage.leave(FILE, kept)


def mean_over_samples(
    stage: Stage,
    samples: int,
    of_gradient: Callable[[torch.Tensor], torch.Tensor],
    objective: Callable[[nn.Module, Batch], torch.Tensor] = nll,
) -> dict[str, torch.Tensor]:
    """Mean over single samples of a function of the objective's gradient, by parameter. Leaves no gradient behind.

    Args:
        samples: how many of the stage's training samples.
        of_gradient: e.g. the square, elementwise.
        objective: of the model and a batch of one row.
    """
    import torch

    names, parameters = list(stage.parameters), list(stage.parameters.values())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    count = 0
    for batch in stage.batches(samples, 1):
        gradients = torch.autograd.grad(objective(stage.model, batch), parameters, allow_unused=True)
        for total, gradient in zip(sums, gradients, strict=True):
            if gradient is not None:
                total += of_gradient(gradient)
        count += 1
    return {name: total / max(1, count) for name, total in zip(names, sums, strict=True)}
