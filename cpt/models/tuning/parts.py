"""The parts of a model that a recipe can freeze, by the names of their modules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The Qwen-VL families keep the projector (merger) inside the vision tower.
_PARTS = {
    "vision_tower": r"visual(?!\.merger)|vision_tower|vision_model",
    "projector": r"visual\.merger|multi_modal_projector|connector",
}


def in_part(name: str, part: str) -> bool:
    """Whether a parameter belongs to `vision_tower` or `projector`."""
    return re.search(rf"(^|\.)({_PARTS[part]})\.", name) is not None


def modules_in(parts: Sequence[str]) -> str | None:
    """A regular expression that matches the whole name of every module in these parts; None without parts."""
    names = "|".join(_PARTS[part] for part in parts)
    return rf"(.*\.)?({names})\..*" if names else None


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
