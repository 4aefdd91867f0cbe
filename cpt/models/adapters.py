"""What of a policy is trained: frozen parts, and low-rank adapters with an explicit way from stage to stage.

LoRA (arXiv 2106.09685) between stages: `merge` adds the adapter to the weights at a stage's end, and the next stage
starts a new one on them; `continue` keeps one adapter, always on the base model's weights, and trains it through all
stages. Either way the stage leaves a plain merged folder, which is what gets evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Where the parts are in module names. The Qwen-VL families keep the projector (merger) inside the vision tower.
_PARTS = {
    "vision_tower": r"visual(?!\.merger)|vision_tower|vision_model",
    "projector": r"visual\.merger|multi_modal_projector|connector",
}
ADAPTER = "adapter"
"""Folder beside a stage's policy that keeps the adapter itself under `between_stages: continue`."""


def in_part(name: str, part: str) -> bool:
    """Whether a parameter belongs to `vision_tower` or `projector`."""
    return re.search(rf"(^|\.)({_PARTS[part]})\.", name) is not None


def freeze_parts(model: PreTrainedModel, parts: Sequence[str]) -> int:
    """Stop training the named parts. Returns how many numbers that freezes.

    Raises:
        ValueError: the model has no such part, or nothing is left to train.
    """
    frozen = 0
    for part in parts:
        hit = [parameter for name, parameter in model.named_parameters() if in_part(name, part)]
        if not hit:
            raise ValueError(f"freeze: {type(model).__name__} has no {part}; leave it out")
        for parameter in hit:
            parameter.requires_grad_(False)
        frozen += sum(parameter.numel() for parameter in hit)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("freeze leaves nothing to train")
    return frozen


def lora_config(model: PreTrainedModel, tuning: Any, freeze: Sequence[str]) -> Any:
    """PEFT's config for a recipe's `tuning: {type: lora}`; no adapter goes into a frozen part.

    Raises:
        ValueError: no module of the model that may be trained is named by `target_modules`.
    """
    from peft import LoraConfig

    linear = [name for name, module in model.named_modules() if type(module).__name__ == "Linear"]
    allowed = [name for name in linear if not any(in_part(f"{name}.", part) for part in freeze)]
    wanted = [name for name in allowed if name.rsplit(".", 1)[-1] in tuning.target_modules]
    if not wanted:
        offered = sorted({name.rsplit(".", 1)[-1] for name in allowed} - {"lm_head"})
        raise ValueError(f"tuning.target_modules: {type(model).__name__} offers {', '.join(offered)}")
    frozen = "|".join(_PARTS[part] for part in freeze)
    return LoraConfig(
        r=tuning.r,
        lora_alpha=tuning.alpha,
        lora_dropout=tuning.dropout,
        target_modules=list(tuning.target_modules),
        exclude_modules=rf"(.*\.)?({frozen})\..*" if frozen else None,
        bias="none",
        init_lora_weights=True,
    )


def attach_adapter(model: PreTrainedModel, folder: Path, tuning: Any) -> Any:
    """`model` with the adapter of an earlier stage, trainable.

    Raises:
        ValueError: the adapter was trained with another rank or on other modules than `tuning` asks for.
    """
    from peft import PeftModel

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    for key, asked in (("r", tuning.r), ("lora_alpha", tuning.alpha)):
        if config[key] != asked:
            raise ValueError(f"{folder}: the adapter has {key} {config[key]}, the recipe asks for {asked}")
    return PeftModel.from_pretrained(model, folder, is_trainable=True)


def adapter_beside(policy: Path) -> Path | None:
    """The adapter that a stage with `between_stages: continue` left beside its policy folder, if any."""
    folder = policy.parent / ADAPTER
    return folder if (folder / "adapter_config.json").is_file() else None


def merged_parameters(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name in the plain model and merged value of every weight of a PEFT model, one at a time; nothing is changed.

    PEFT's way there and back (`merge_adapter`, `unmerge_adapter`) leaves the base weights changed by rounding, a bit
    more with every push: a drift that is not the optimizer's, that no checkpoint holds, and that counts in bfloat16.
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


def plain_parameters(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and value of every weight of the model without adapters, these added to its weights; nothing is changed."""
    if hasattr(model, "peft_config"):
        yield from merged_parameters(model)
    else:
        for name, parameter in model.named_parameters():
            yield name, parameter.detach()


def merged(model: Any) -> PreTrainedModel:
    """The plain model, its adapters added to its weights in place; a model without adapters as it is."""
    return model.merge_and_unload() if hasattr(model, "peft_config") else model
