"""L2 to a reference: every parameter is held where it was, all alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from cpt.common.keys import Problem
from cpt.methods.plugin import Penalty, Plugin, Stage
from cpt.methods.setting import ArmView, Factor, Setting

if TYPE_CHECKING:
    import torch


class L2(Setting):
    """λ/2 · Σ_i (θ_i − θ^ref_i)² (L2-SP, arXiv 1802.01483, equation 1); λ is `coefficient`.

    The reference is where the stage started, or the `base` model. Zero at the start of the first stage either way.
    """

    type: Literal["l2"]
    coefficient: Factor = 1.0
    reference: Literal["stage_start", "base"] = "stage_start"

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """See `Part.clashes`."""
        if self.reference == "base" and not arm.tuning.trains_weights:
            yield (
                ("reference",),
                "the base model has no adapter to compare with; use stage_start, or tuning: full",
            )

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return L2Plugin(self.coefficient, self.reference)


class L2Plugin(Penalty):
    """Adds the squared distance; under LoRA that of the adapter's own factors to where the stage started."""

    def __init__(self, coefficient: float, reference: str) -> None:
        self.coefficient, self.reference = coefficient, reference

    def before_stage(self, stage: Stage) -> None:
        """Keep a copy of what will be trained."""
        self.parameters = dict(stage.parameters)
        if self.reference == "base":
            there = dict(stage.reference("base").named_parameters())
            self.anchor = {name: there[name].detach() for name in self.parameters}
        else:
            self.anchor = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def value(self) -> torch.Tensor | None:
        """See `L2`."""
        import torch

        squares = [(p - self.anchor[name]).square().sum() for name, p in self.parameters.items()]
        return self.coefficient / 2 * torch.stack(squares).sum()
