"""A third kind of tuning for tests: what a new kind takes, in one class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from cpt.models.export import replace_folder
from cpt.models.tuning.kind import Attached, Tuning

FILE = "scales.safetensors"


class Scales(Tuning):
    """A factor for each output of every linear layer of one name; one set of factors is trained through all stages."""

    to_merge: ClassVar[str] = "use tuning: lora"

    type: Literal["scales"] = "scales"
    layer: str = "down_proj"

    @property
    def merged_between_stages(self) -> bool:
        return False

    def trained_numbers(self, tensors: Mapping[str, Any]) -> int:
        return sum(tensor.shape[0] for name, tensor in tensors.items() if name.endswith(f"{self.layer}.weight"))

    def attach(self, model: Any, freeze: Sequence[str], kept: Path | None) -> Attached:
        import torch
        from safetensors.torch import load_file

        model.requires_grad_(False)
        saved = {} if kept is None else load_file(kept / FILE)
        for name, linear in self._layers(model):
            ones = torch.ones(linear.weight.shape[0], dtype=linear.weight.dtype)
            linear.scale = torch.nn.Parameter(saved.get(name, ones))
            linear.register_forward_hook(lambda layer, _, output: output * layer.scale)
        return Attached(model)

    def tensors(self, model: Any) -> Iterator[tuple[str, Any]]:
        for name, parameter in model.named_parameters():
            module, _, kind = name.rpartition(".")
            if kind != "scale":
                yield name, self._scaled(parameter.detach(), model.get_submodule(module))

    def keep(self, model: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        scales = {name: layer.scale.detach() for name, layer in self._layers(model)}
        replace_folder(folder, lambda path: save_file(scales, path / FILE))

    def plain(self, model: Any) -> Any:
        for _, linear in self._layers(model):
            for parameter in (linear.weight, linear.bias):
                if parameter is not None:
                    parameter.copy_(self._scaled(parameter, linear))
            del linear.scale
            linear._forward_hooks.clear()
        return model

    def _layers(self, model: Any) -> list[tuple[str, Any]]:
        return [(name, module) for name, module in model.named_modules() if name.endswith(f".{self.layer}")]

    def _scaled(self, value: Any, module: Any) -> Any:
        """A layer's weight [outputs, inputs] or bias [outputs]; what belongs to any other module as it is."""
        if not hasattr(module, "scale"):
            return value
        scale = module.scale.detach()
        return value * (scale[:, None] if value.dim() == 2 else scale)
