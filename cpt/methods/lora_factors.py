"""The two factors of every low-rank adapter, found by the names that PEFT gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

_A = re.compile(r"(.+)\.lora_A\.default\.weight")


def lora_factors(parameters: Mapping[str, nn.Parameter]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A [r, inputs] and B [outputs, r] by the adapted module's name; the update of its weight is (α/r)·BA."""
    found = {
        match[1]: (a, parameters[f"{match[1]}.lora_B.default.weight"])
        for name, a in parameters.items()
        if (match := _A.fullmatch(name))
    }
    assert found, "recipes refuse these regularisers without LoRA"
    return dict(found)
