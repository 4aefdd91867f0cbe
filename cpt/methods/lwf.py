"""Learning without forgetting: on the current task's data, stay close to what the earlier policy said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from cpt.methods.divergence import token_kl
from cpt.methods.likelihood import completion_logits, row_means
from cpt.methods.plugin import Batch, Plugin, Stage
from cpt.methods.setting import Factor, Setting, Temperature

if TYPE_CHECKING:
    import torch
    from torch import nn


class LwF(Setting):
    """λ · KL(π_previous ‖ π) over the whole vocabulary at every completion token (arXiv 1606.09282, section 3).

    Both distributions are taken at `temperature`, and the term is multiplied by its square, so that its gradient does
    not shrink with it (arXiv 1503.02531, section 2). The previous policy is the one that the stage started from.
    """

    type: Literal["lwf"]
    coefficient: Factor = 1.0
    temperature: Temperature = 2.0

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return LwFPlugin(self.coefficient, self.temperature)


class LwFPlugin(Plugin):
    """Distils the stage's start into the policy."""

    def __init__(self, coefficient: float, temperature: float) -> None:
        self.coefficient, self.temperature = coefficient, temperature
        self.last = 0.0

    def before_stage(self, stage: Stage) -> None:
        """Keep the stage's start."""
        self.previous = stage.reference("stage_start")

    def term(self, model: nn.Module, batch: Batch) -> torch.Tensor | None:
        """See `LwF`."""
        import torch

        logits, _, rows = completion_logits(model, batch)
        with torch.no_grad():
            before, _, _ = completion_logits(self.previous, batch)
        kl = token_kl(before.float() / self.temperature, logits.float() / self.temperature)
        mean = row_means(kl, rows, len(batch.labels)).mean()
        self.last = float(mean.detach())
        return self.coefficient * self.temperature**2 * mean

    def metrics(self) -> dict[str, float]:
        """KL at `temperature` in nats per token, over the last micro-batch."""
        return {"kl": self.last}
