"""Elastic weight consolidation: parameters that earlier tasks depend on are held where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from cpt.methods.anchored import Anchored, mean_over_samples
from cpt.methods.plugin import Plugin, Stage
from cpt.methods.setting import Count, Factor, Setting

if TYPE_CHECKING:
    import torch


class EWC(Setting):
    """EWC: λ/2 · Σ_i F_i (θ_i − θ*_i)² (arXiv 1612.00796, equation 3), λ is `coefficient`.

    F is the mean over `samples` training samples of each finished task of the squared gradient of one sample's mean
    negative log-likelihood per token, with the supervised targets in the prompt's format, for every method alike. The
    Fisher information of whole targets, whose likelihood is a sum over tokens, would be larger by the square of their
    length: coefficients of works that take the sum are larger here by about as much. Offline, every finished task keeps
    its own F and θ*; `online` keeps one F, the decayed sum γ·F + F_new, and the last θ* (arXiv 1805.06370, section 4).
    """

    needs_full_tuning: ClassVar[bool] = True

    type: Literal["ewc"]
    coefficient: Factor = 1.0
    samples: Count = 64
    online: bool = False
    decay: Annotated[float, Field(gt=0, le=1)] = 0.9

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return EWCPlugin(self.coefficient, self.decay if self.online else None, self.samples)


class EWCPlugin(Anchored):
    """Importance of a parameter: the mean square of its gradient, over samples one by one."""

    def __init__(self, coefficient: float, decay: float | None, samples: int) -> None:
        super().__init__(coefficient, decay)
        self.samples = samples

    def importance(self, stage: Stage) -> dict[str, torch.Tensor]:
        """Diagonal of the empirical Fisher information, by parameter."""
        return mean_over_samples(stage, self.samples, lambda gradient: gradient.square())
