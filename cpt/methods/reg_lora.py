"""RegLoRA: a task's adapter leaves alone the weights that the adapters of earlier tasks changed most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from cpt.methods.lora_factors import lora_factors
from cpt.methods.masks import largest
from cpt.methods.plugin import Penalty, Plugin, Stage
from cpt.methods.setting import Factor, Setting

if TYPE_CHECKING:
    import torch

FILE = "masks.safetensors"


class RegLoRA(Setting):
    """λ · mean_modules mean_{ij∈M} |BA|_ij (RegLoRA in SEFE, arXiv 2505.02486); λ is `coefficient`.

    M of a module is the union over finished tasks of the `share` of entries with the largest |BA|, rounded up to a
    whole number. BA is taken without LoRA's factor α/r, and the outer mean is over the modules, as in the released code
    (github.com/jinpeng0528/SEFE). There an entry that several tasks chose counts several times, here once. Zero in the
    first stage and, because a new B is zero, at the start of every later one.

    Memory: one byte per adapted weight for the masks; the products BA are made again in the backward pass, so that one
    at a time is held. Needs LoRA with `between_stages: merge`, where BA is the change of one stage alone.
    """

    needs_lora: ClassVar[bool] = True
    needs_new_adapters: ClassVar[bool] = True

    type: Literal["reg-lora"]
    coefficient: Factor = 2.5e3
    share: Annotated[float, Field(gt=0, le=1)] = 0.02

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return RegLoRAPlugin(self.coefficient, self.share)


class RegLoRAPlugin(Penalty):
    """Keeps a mask per adapted module."""

    def __init__(self, coefficient: float, share: float) -> None:
        self.coefficient, self.share = coefficient, share
        self.masks: dict[str, torch.Tensor] = {}  # bool, [outputs, inputs]; only those with an entry

    def before_stage(self, stage: Stage) -> None:
        """Read the masks of the stages before."""
        self.factors = lora_factors(stage.parameters)
        self.masks = {module: mask for module, mask in stage.left(FILE).items() if module in self.factors}

    def value(self) -> torch.Tensor | None:
        """See `RegLoRA`."""
        import torch
        from torch.utils.checkpoint import checkpoint

        if not self.masks:
            return None
        means = [
            checkpoint(mean_size, *self.factors[module], mask, use_reentrant=False, preserve_rng_state=False)
            for module, mask in self.masks.items()
        ]
        return self.coefficient * torch.stack(means).mean()

    def after_stage(self, stage: Stage) -> None:
        """Add what this stage's adapters changed most to the masks, and leave them to the next one."""
        for module, (a, b) in self.factors.items():
            changed = largest((b.detach() @ a.detach()).abs(), self.share)
            self.masks[module] = self.masks[module] | changed if module in self.masks else changed
        stage.leave(FILE, {module: mask for module, mask in self.masks.items() if mask.any()})


def mean_size(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of |BA| over the entries of `mask`, which has at least one."""
    return (b @ a)[mask].abs().mean()
