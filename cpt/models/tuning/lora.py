"""Low-rank adapters (LoRA, arXiv 2106.09685), with an explicit way from stage to stage.

`merge` adds the adapter to the weights at a stage's end, and the next stage starts a new one on them; `continue` keeps
one adapter, always on the base model's weights, and trains it through all stages. Either way the stage leaves a plain
merged folder, which is what gets evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from cpt.common.keys import nearest
from cpt.methods.setting import Count
from cpt.models.export import replace_folder
from cpt.models.tuning.kind import Attached, Tuning
from cpt.models.tuning.parts import in_part, modules_in

if TYPE_CHECKING:
    import torch

    from cpt.models.locate import Tensor

_USUAL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_NO_ADAPTER = ("lm_head", "embed_tokens")


class LoRA(Tuning):
    """Low-rank adapters (arXiv 2106.09685). `between_stages` says what the next stage starts from.

    `merge`: the adapter is merged into the weights and a new one starts. `continue`: one adapter is trained through
    all stages. Frozen weights stay in the model's own precision; the adapter is float32.
    """

    low_rank: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("peft",)
    to_merge: ClassVar[str] = "set tuning.between_stages: merge"

    type: Literal["lora"]
    r: Annotated[int, Field(gt=0, le=8192)] = 16
    alpha: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Annotated[list[str], Field(min_length=1, max_length=1000)] = Field(default=_USUAL)
    between_stages: Literal["merge", "continue"] = "merge"

    @property
    def merged_between_stages(self) -> bool:
        """See `Tuning.merged_between_stages`."""
        return self.between_stages == "merge"

    @property
    def has_dropout(self) -> bool:
        """See `Tuning.has_dropout`."""
        return self.dropout > 0

    def trained_numbers(self, tensors: Mapping[str, Tensor]) -> int:
        """r · (in + out) for each matrix that `target_modules` names."""
        matrices = ((name, tensor.shape) for name, tensor in tensors.items() if len(tensor.shape) == 2)
        return sum(self.r * sum(shape) for name, shape in matrices if _layer(name) in self.target_modules)

    def model_problems(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Adapters go on linear layers, which are the matrices of a checkpoint but for embeddings and the head."""
        matrices = (name for name, tensor in tensors.items() if len(tensor.shape) == 2)
        modules = {_layer(name) for name in matrices} - set(_NO_ADAPTER)
        for i, name in enumerate(self.target_modules):
            if name in _NO_ADAPTER:
                told = f"{name} can't have an adapter: the loss reads its weights directly; leave it out"
                yield ("target_modules", i), told
            elif name not in modules and self.target_modules != _USUAL:
                yield ("target_modules", i), f"the model has no linear layer {name!r}{nearest(name, sorted(modules))}"
        if not modules & set(self.target_modules):
            has = ", ".join(sorted(modules)) or "none"
            yield ("target_modules",), f"the model has none of these linear layers; it has {has}"

    def attach(self, model: Any, freeze: Sequence[str], kept: Path | None) -> Attached:
        """See `Tuning.attach`. No adapter goes into a frozen part."""
        if kept is None:
            return Attached(model, self.peft_config(model, freeze))
        from peft import PeftModel

        config = json.loads((kept / "adapter_config.json").read_text(encoding="utf-8"))
        for key, asked in (("r", self.r), ("lora_alpha", self.alpha)):
            if config[key] != asked:
                raise ValueError(f"{kept}: the adapter has {key} {config[key]}, the recipe asks for {asked}")
        return Attached(PeftModel.from_pretrained(model, kept, is_trainable=True))

    def peft_config(self, model: Any, freeze: Sequence[str]) -> Any:
        """PEFT's config of a new adapter.

        Raises:
            ValueError: no module of the model that may be trained is named by `target_modules`.
        """
        from peft import LoraConfig

        linear = [name for name, module in model.named_modules() if type(module).__name__ == "Linear"]
        allowed = [name for name in linear if not any(in_part(f"{name}.", part) for part in freeze)]
        if not any(name.rpartition(".")[2] in self.target_modules for name in allowed):
            offered = sorted({name.rpartition(".")[2] for name in allowed} - {"lm_head"})
            raise ValueError(f"tuning.target_modules: {type(model).__name__} offers {', '.join(offered)}")
        return LoraConfig(
            r=self.r,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=list(self.target_modules),
            exclude_modules=modules_in(freeze),
            bias="none",
            init_lora_weights=True,
        )

    def tensors(self, model: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Name in the plain model and merged value of every weight, one at a time; nothing is changed.

        PEFT's way there and back (`merge_adapter`, `unmerge_adapter`) leaves the base weights changed by rounding, a
        bit more with every push: a drift that is not the optimizer's, that no checkpoint holds, and that counts in
        bfloat16.
        """
        import torch

        plain = model.get_base_model()
        layers = {f"{name}.base_layer": layer for name, layer in plain.named_modules() if hasattr(layer, "base_layer")}
        for name, parameter in plain.named_parameters():
            module, _, kind = name.rpartition(".")
            layer = layers.get(module)
            if layer is None:
                if model.prefix not in name:
                    yield name, parameter.detach()
            else:
                value = parameter.detach()
                if kind == "weight":
                    with torch.no_grad():
                        value = value + layer.get_delta_weight("default").to(value.dtype)
                yield f"{module.removesuffix('.base_layer')}.{kind}", value

    def keep(self, model: Any, folder: Path) -> None:
        """The adapter as a folder that PEFT loads."""
        replace_folder(folder, lambda path: model.save_pretrained(path, selected_adapters=["default"]))

    def plain(self, model: Any) -> Any:
        """The model without adapters, these added to its weights."""
        return model.merge_and_unload()


def _layer(tensor: str) -> str:
    return tensor.removesuffix(".weight").rpartition(".")[2]
