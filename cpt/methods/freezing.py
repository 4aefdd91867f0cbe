"""Parameters that stay where they are for a stage: what freezing methods have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import TYPE_CHECKING, ClassVar

from cpt.methods.plugin import Plugin, Stage

if TYPE_CHECKING:
    from torch import nn


class Freezing(Plugin, ABC):
    """Sets the gradients of chosen parameters to zero after every backward pass, penalties' gradients included.

    `requires_grad` is left alone: the optimizer has the same parameters in every stage, so its checkpoints fit, and so
    do the names that other plug-ins keep. A gradient that is zero from the first step on leaves a parameter exactly
    where it is under SGD and AdamW, whose moments stay zero. Weight decay would move it all the same, which is why
    `Setting.needs_no_weight_decay` is set for these.
    """

    holds_still: ClassVar[bool] = True

    def __init__(self) -> None:
        self.held: list[nn.Parameter] = []
        self.share = 0.0

    @abstractmethod
    def frozen(self, stage: Stage) -> Collection[str]:
        """Names of the parameters that this stage must not move."""

    def before_stage(self, stage: Stage) -> None:
        """Choose what is held."""
        self.held = [stage.parameters[name] for name in self.frozen(stage)]
        trained = sum(parameter.numel() for parameter in stage.parameters.values())
        self.share = sum(parameter.numel() for parameter in self.held) / trained

    def after_backward(self) -> None:
        """See the class."""
        for parameter in self.held:
            if parameter.grad is not None:
                parameter.grad.zero_()

    def metrics(self) -> dict[str, float]:
        """Share of the trained numbers that is held."""
        return {"frozen_share": self.share}
