"""The parts of a model that a recipe can freeze, by the names of their modules."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The Qwen-VL families keep the projector (merger) inside the vision tower.
_PARTS = {
    "vision_tower": r"visual(?!\.merger)|vision_tower|vision_model|vit",
    "projector": r"visual\.merger|multi_modal_projector|connector",
}


def in_part(name: str, part: str) -> bool:
    """Whether a parameter belongs to `vision_tower` or `projector`."""
    return re.search(rf"(^|\.)({_PARTS[part]})\.", name) is not None


def modules_in(parts: Sequence[str]) -> str | None:
    """A regular expression that matches the whole name of every module in these parts; None without parts."""
    names = "|".join(_PARTS[part] for part in parts)
    return rf"(.*\.)?({names})\..*" if names else None


def lacking(names: Collection[str], parts: Sequence[str]) -> list[str]:
    """Those of the parts that none of these parameters belongs to."""
    return [part for part in parts if not any(in_part(name, part) for name in names)]


def check_parts(model: PreTrainedModel, parts: Sequence[str]) -> None:
    """ValueError if the model lacks one of the parts. Of one in a local folder `cpt.plan.preflight` has told it."""
    if missing := lacking([name for name, _ in model.named_parameters()], parts):
        raise ValueError(f"freeze: {type(model).__name__} has no {missing[0]}; leave it out")


def freeze_parts(model: PreTrainedModel, parts: Sequence[str]) -> None:
    """Stop training the named parts. ValueError if nothing is left to train."""
    for name, parameter in model.named_parameters():
        if any(in_part(name, part) for part in parts):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("freeze leaves nothing to train")
