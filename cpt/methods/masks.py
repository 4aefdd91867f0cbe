"""Choosing entries of a tensor by their size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def largest(sizes: torch.Tensor, share: float) -> torch.Tensor:
    """The ⌈share · n⌉ largest of n entries as a bool tensor of the same shape; an entry that is 0 is never among them.

    Args:
        sizes: not negative. Of equal ones at the border, any may be taken.
        share: in (0, 1].
    """
    import torch

    flat = sizes.flatten()
    # A share such as 0.1 is a bit more than a tenth in floating point; 0.1 · 30 must not become 4.
    count = math.ceil(round(share * len(flat), 6))
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.topk(count).indices] = True
    return (mask & (flat > 0)).view_as(sizes)
