"""CPO's shift penalty: the parameters that earlier tasks moved most are held where the stage started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from cpt.methods.masks import largest
from cpt.methods.plugin import Penalty, Plugin, Stage
from cpt.methods.setting import Factor, Setting

if TYPE_CHECKING:
    import torch

FILE = "masks.safetensors"


class CPO(Setting):
    """λ · Σ_tensors mean_{i∈M} |θ_i − θ^ref_i| (CPO, arXiv 2607.04364); λ is `coefficient`.

    The defaults, λ = 100 and a `share` of a tenth, are the paper's. θ^ref is where the stage started. M is the union
    over finished tasks of the `share` of each tensor's entries with the largest |Δθ| in that task's stage, rounded up
    to a whole number; an entry that did not move is never in it.
    Nothing is penalised in the first stage, and a tensor without such entries never is.

    The paper adds the penalty to a policy-gradient loss; here it goes with every method. The gradient of an absolute
    value has one size, λ/|M|, however small the shift: in plain SGD entries of M swing around θ^ref by the learning
    rate times that. Memory: one copy of what is trained, and one byte per number for the masks.
    """

    needs_full_tuning: ClassVar[bool] = True

    type: Literal["cpo"]
    coefficient: Factor = 100.0
    share: Annotated[float, Field(gt=0, le=1)] = 0.1

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return CPOPlugin(self.coefficient, self.share)


class CPOPlugin(Penalty):
    """Keeps a copy of the stage's start, and the masks of all stages before."""

    def __init__(self, coefficient: float, share: float) -> None:
        self.coefficient, self.share = coefficient, share
        self.masks: dict[str, torch.Tensor] = {}  # bool, of the parameter's shape; only those with an entry

    def before_stage(self, stage: Stage) -> None:
        """Read the masks of the stages before, and remember where this one starts."""
        self.parameters = dict(stage.parameters)
        self.start = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        self.masks = stage.left(FILE)

    def value(self) -> torch.Tensor | None:
        """See `CPO`."""
        import torch

        shifts = [
            ((self.parameters[name] - self.start[name]).abs() * mask).sum() / mask.sum()
            for name, mask in self.masks.items()
            if name in self.parameters
        ]
        if not shifts:
            return None
        return self.coefficient * torch.stack(shifts).sum()

    def after_stage(self, stage: Stage) -> None:
        """Add what this stage moved most to the masks, and leave them to the next one."""
        for name, start in self.start.items():
            moved = largest((self.parameters[name].detach() - start).abs(), self.share)
            self.masks[name] = self.masks[name] | moved if name in self.masks else moved
        stage.leave(FILE, {name: mask for name, mask in self.masks.items() if mask.any()})
