"""Memory aware synapses: parameters that the policy's outputs are sensitive to are held where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from cpt.methods.anchored import Anchored, mean_over_samples
from cpt.methods.likelihood import completion_logits, row_means
from cpt.methods.plugin import Batch, Plugin, Stage
from cpt.methods.setting import Count, Factor, Setting

if TYPE_CHECKING:
    import torch
    from torch import nn


class MAS(Setting):
    """MAS: λ/2 · Σ_i Ω_i (θ_i − θ*_i)² (arXiv 1711.09601, which writes λ without the half); λ is `coefficient`.

    Ω = mean over `samples` training samples of each finished task of |∂‖f(x)‖²/∂θ|, where f are the logits at the
    completion's tokens. The squared norm is a sum over the vocabulary and a mean over the tokens, so that a long target
    does not weigh more than a short one. Which tokens the target holds decides only where the logits are taken.

    One Ω is kept, decay·Ω + Ω_new, with the last θ*. The default is the paper's plain sum over tasks.
    """

    needs_full_tuning: ClassVar[bool] = True

    type: Literal["mas"]
    coefficient: Factor = 1.0
    samples: Count = 64
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return MASPlugin(self.coefficient, self.decay, self.samples)


class MASPlugin(Anchored):
    """Importance of a parameter: how fast the squared norm of the logits changes with it, over samples one by one."""

    def __init__(self, coefficient: float, decay: float, samples: int) -> None:
        super().__init__(coefficient, decay)
        self.samples = samples

    def importance(self, stage: Stage) -> dict[str, torch.Tensor]:
        """Mean sensitivity of the outputs, by parameter."""
        return mean_over_samples(stage, self.samples, lambda gradient: gradient.abs(), squared_norm)


def squared_norm(model: nn.Module, batch: Batch) -> torch.Tensor:
    """‖f‖²: sum of squared logits over the vocabulary; mean over the tokens of each row, and of that over the rows."""
    logits, _, rows = completion_logits(model, batch)
    return row_means(logits.float().square().sum(-1), rows, len(batch.labels)).mean()
