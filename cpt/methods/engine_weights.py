"""What sampled a completion is not quite the policy: an engine rounds otherwise. Weights that correct for it."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def engine_weights(
    old_logps_BT: Tensor, engine_logps_BT: Tensor, mask_BT: Tensor, mode: str, low: float | None, high: float | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """w = π_old(y) / π_engine(y) of each token [B, T] or completion [B, 1], bounded, and what is logged of it.

    A completion's is the product of its tokens'. A token whose log-probability the engine does not know (NaN) has
    w = 1. Bit for bit what TRL's GRPOTrainer computes.

    Args:
        old_logps_BT: under the trainer's weights when the completions came, in nats, without gradients.
        engine_logps_BT: under the engine's.
        mask_BT: 1 at a completion's tokens, 0 elsewhere.
        mode: `token_truncate` and `sequence_truncate` bring w into [low, high] (truncated importance sampling);
            `token_mask` and `sequence_mask` set it to 0 outside.
        low, high: None for no bound.
    """
    level, how = mode.split("_")
    log_weights = torch.nan_to_num((old_logps_BT - engine_logps_BT) * mask_BT, nan=0.0)
    if level == "sequence":
        log_weights = log_weights.sum(dim=-1, keepdim=True)
    weights = torch.exp(log_weights)
    if how == "truncate":
        weights = torch.clamp(weights, min=low, max=high)
    else:
        outside = (weights < (-math.inf if low is None else low)) | (weights > (math.inf if high is None else high))
        weights = weights.masked_fill(outside, 0.0)
    found = _or_zero(weights.flatten() if level == "sequence" else weights[mask_BT.bool()])
    name = "sampling/importance_sampling_ratio"
    ratios = {f"{name}/min": found.min(), f"{name}/mean": found.mean(), f"{name}/max": found.max()}
    return weights, {**engine_gap(old_logps_BT, engine_logps_BT, mask_BT), **ratios}


def engine_gap(logps_BT: Tensor, engine_logps_BT: Tensor, mask_BT: Tensor) -> dict[str, Tensor]:
    """Mean and maximum over tokens of |log π − log π_engine|, in nats; 0 without tokens."""
    gap = torch.abs(logps_BT.detach() - engine_logps_BT)
    gap = _or_zero(gap[mask_BT.bool() & ~torch.isnan(gap)])
    name = "sampling/sampling_logp_difference"
    return {f"{name}/mean": gap.mean(), f"{name}/max": gap.max()}


def _or_zero(values: Tensor) -> Tensor:
    return values if values.numel() else values.new_zeros(1)
