"""A policy as it was, without a second model: other values of what is trained, put in for one forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

FILE = "average.safetensors"


class Snapshot:
    """`model` with its trained parameters as they are now; called like the model, without gradients or dropout.

    Costs a copy of what is trained: under LoRA that of an adapter's factors. What is frozen is shared, so nothing else
    may change it.

    Attributes:
        values: the parameters by name, detached; in the precision of the policy's own.
    """

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        self.model, self.parameters = model, dict(parameters)
        self.values: dict[str, torch.Tensor] = {name: p.detach().clone() for name, p in self.parameters.items()}

    def __call__(self, **inputs: Any) -> Any:
        """What the model says of these inputs with the kept values."""
        import torch
        from torch.func import functional_call

        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            output = functional_call(self.model, self.values, kwargs=inputs)
        self.model.train(training)
        return output

    def follow(self, decay: float) -> None:
        """Exponential moving average: values ← decay · values + (1 − decay) · the model's parameters as they are."""
        for name, parameter in self.parameters.items():
            self.values[name].lerp_(parameter.detach(), 1 - decay)


def save_average(values: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write a moving average of the policy into a checkpoint's folder."""
    from safetensors.torch import save_file

    save_file({name: value.contiguous() for name, value in values.items()}, folder / FILE)


def load_average(values: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Let a moving average go on with the numbers that `save_average` has written: in place, on its own device."""
    from safetensors.torch import load_file

    saved = load_file(folder / FILE)
    for name, value in values.items():
        value.copy_(saved[name])
