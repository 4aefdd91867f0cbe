"""Advantages of rollouts from their rewards: one pure function per baseline, beside the method that has it.

Shapes: P prompts, G completions of each. A reward of NaN is one that could not be given: it counts in no mean or
deviation and its advantage is 0, which is TRL's rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Scale = Literal["group", "batch", "none"]

EPSILON = 1e-4
"""Beside the standard deviation, as in TRL and in RECAP's released code; arXiv 2507.05386 has 1e-6.

A group of 8 with one right answer has a deviation of 0.354, so the two differ by 0.03 % there.
"""


@dataclass(frozen=True)
class Baseline:
    """What a reward is compared with.

    Attributes:
        against: rewards [P, G] → advantages [P, G], by this baseline alone. `group_mean` also takes a scale, and one
            that needs greedy completions their rewards [P].
        needs_greedy: whether each prompt's greedy completion is sampled and rewarded, too.
    """

    against: Callable[..., torch.Tensor]
    needs_greedy: bool = False


def against_group_mean(rewards_PG: torch.Tensor, scale: Scale = "group", epsilon: float = EPSILON) -> torch.Tensor:
    """A = r − mean of the group, over (std + ε) of the group or of the batch, or not at all.

    Unbiased standard deviation (G − 1). `group`: GRPO (arXiv 2402.03300, 2507.05386); `none`: Dr. GRPO (arXiv
    2503.20783), and REINFORCE with a group-mean baseline. Bit for bit what TRL's GRPOTrainer computes.
    """
    centred_PG = rewards_PG - rewards_PG.nanmean(dim=1, keepdim=True)
    if scale == "group":
        centred_PG = centred_PG / (_std(rewards_PG, dim=1) + epsilon)
    elif scale == "batch":
        centred_PG = centred_PG / (_std(rewards_PG.reshape(-1), dim=None) + epsilon)
    return centred_PG.nan_to_num(nan=0.0)


GROUP_MEAN = Baseline(against_group_mean)


def advantages(
    baseline: Baseline,
    rewards_PG: torch.Tensor,
    *,
    scale: Scale = "none",
    greedy_P: torch.Tensor | None = None,
    deviation: float | None = None,
) -> torch.Tensor:
    """Advantages [P, G] with that baseline.

    Args:
        scale: what they are divided by; of `GROUP_MEAN` alone.
        greedy_P: rewards of the greedy completions, for a baseline that needs them.
        deviation: what is divided by in place of `scale`, ε added; of `GROUP_MEAN` alone.
    """
    if baseline is GROUP_MEAN:
        if deviation is None:
            return against_group_mean(rewards_PG, scale)
        return against_group_mean(rewards_PG, "none") / (deviation + EPSILON)
    assert scale == "none" and deviation is None, f"{baseline.against.__name__} has no scale"
    return baseline.against(rewards_PG, greedy_P) if baseline.needs_greedy else baseline.against(rewards_PG)


def one_reward(rewards_PG: torch.Tensor) -> torch.Tensor:
    """For each group, whether its rewards are all the same (or fewer than two are there). [P], bool."""
    largest_P = rewards_PG.nan_to_num(nan=-math.inf).max(dim=1).values
    smallest_P = rewards_PG.nan_to_num(nan=math.inf).min(dim=1).values
    return largest_P <= smallest_P


def batch_deviation(rewards_N: torch.Tensor) -> float:
    """Unbiased standard deviation of a batch's rewards, NaN left out; 0 for fewer than two."""
    return float(_std(rewards_N, dim=None).nan_to_num(nan=0.0))


def _std(rewards: torch.Tensor, dim: int | None) -> torch.Tensor:
    """Unbiased, over the rewards that are there, dimensions kept; NaN for fewer than two."""
    count = (~rewards.isnan()).sum(dim=dim, keepdim=True)
    squares = (rewards - rewards.nanmean(dim=dim, keepdim=True)) ** 2
    return (squares.nanmean(dim=dim, keepdim=True) * (count / (count - 1))).sqrt()
