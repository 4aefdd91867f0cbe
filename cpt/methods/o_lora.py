"""O-LoRA: a task's adapter reads other directions of the input than the adapters of earlier tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from cpt.methods.lora_factors import lora_factors
from cpt.methods.plugin import Penalty, Plugin, Stage
from cpt.methods.setting import Factor, Setting

if TYPE_CHECKING:
    import torch

FILE = "a.safetensors"


class OLoRA(Setting):
    """λ · Σ_modules Σ_k Σ_ij |A A_kᵀ|_ij over the adapters k of finished tasks (arXiv 2310.14152); λ is `coefficient`.

    The absolute values are those of the released code (github.com/cmnfriend/O-LoRA); the paper squares them. Both are
    zero where the rows of A are orthogonal to those of every A_k. Zero in the first stage, but not at a later one's
    start: a new A is random. This is not PEFT's `init_lora_weights: olora`, an initialisation by QR decomposition.

    Memory: every finished task's A. Needs LoRA with `between_stages: merge`: an adapter of its own in every stage.
    """

    needs_lora: ClassVar[bool] = True
    needs_new_adapters: ClassVar[bool] = True

    type: Literal["o-lora"]
    coefficient: Factor = 0.05

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return OLoRAPlugin(self.coefficient)


class OLoRAPlugin(Penalty):
    """Keeps the factor A of every stage's adapters."""

    def __init__(self, coefficient: float) -> None:
        self.coefficient = coefficient
        self.kept: dict[str, torch.Tensor] = {}  # "<task>/<module>"
        self.taken: dict[str, torch.Tensor] = {}  # by module, all tasks' A as the rows of one matrix

    def before_stage(self, stage: Stage) -> None:
        """Read the adapters of the stages before."""
        import torch

        self.factors = lora_factors(stage.parameters)
        self.kept = stage.left(FILE)
        for module, (a, _) in self.factors.items():
            earlier = [kept.to(a.dtype) for key, kept in self.kept.items() if key.partition("/")[2] == module]
            if earlier:
                self.taken[module] = torch.cat(earlier)

    def value(self) -> torch.Tensor | None:
        """See `OLoRA`."""
        import torch

        if not self.taken:
            return None
        overlaps = [(self.factors[module][0] @ earlier.T).abs().sum() for module, earlier in self.taken.items()]
        return self.coefficient * torch.stack(overlaps).sum()

    def after_stage(self, stage: Stage) -> None:
        """Leave every A so far to the next stage."""
        new = {f"{stage.index}/{module}": a.detach() for module, (a, _) in self.factors.items()}
        stage.leave(FILE, self.kept | new)
