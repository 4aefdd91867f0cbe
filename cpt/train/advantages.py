"""Rollouts → rewards → advantages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from cpt.methods.advantages import Baseline, Scale, advantages, batch_deviation, one_reward
from cpt.train.batch import Parts, Rewards, Rollouts
from cpt.train.reward import values_of
from cpt.train.weighting import Objectives, means
from rewards.batch import TRLReward

if TYPE_CHECKING:
    from cpt.types import Completion, Sample


@dataclass(frozen=True)
class Estimator:
    """How advantages are estimated.

    Attributes:
        baseline: what a reward is compared with.
        scale: whose standard deviation it is divided by.
    """

    baseline: Baseline
    scale: Scale


def rewarded(reward: TRLReward, rollouts: Rollouts, objectives: Objectives | None, step: int, device: Any) -> Rewards:
    """What the rollouts earn, by the weights of the objectives, which it moves first.

    Args:
        reward: see `reward_function`.
        objectives: whose weights act on the components; None for the reward as it is.
        step: optimizer steps done before.
    """
    metrics: dict[str, float] = {}
    samples = rollouts.by_row(rollouts.samples)
    earned, parts = _values(reward, samples, rollouts.completions, objectives, metrics.__setitem__)
    if objectives is not None:
        objectives.observe(means(parts), step, supervised=False)
        if objectives.on_rewards:
            earned = [objectives.reward(one) for one in parts]
    # In float32, as TRL has what it averages over processes.
    rounded = torch.tensor(list(metrics.values()), dtype=torch.float32).tolist()
    metrics = dict(zip(metrics, rounded, strict=True))
    greedy_P = None
    if rollouts.greedy:
        found, theirs = _values(reward, rollouts.samples, rollouts.greedy, objectives)
        found = found if objectives is None else [objectives.reward(one) for one in theirs]
        greedy_P = torch.tensor(found, device=device)
        if not greedy_P.isnan().all():
            metrics["baseline/greedy"] = float(greedy_P.repeat_interleave(rollouts.group_size).nanmean())
    return Rewards(torch.tensor(earned, dtype=torch.float32, device=device), parts, greedy_P, metrics)


def _values(
    reward: TRLReward,
    samples: Sequence[Sample],
    completions: Sequence[Completion],
    objectives: Objectives | None,
    log_metric: Callable[[str, float], None] | None = None,
) -> tuple[list[float], list[Parts]]:
    """NaN for a reward that failed; components where they are weighed."""
    parts: list[Parts] = []
    noted = None if objectives is None else parts
    values = values_of(reward, samples, completions, log_metric=log_metric, noted=noted)
    return [math.nan if value is None else value for value in values], parts


def estimated(
    estimator: Estimator,
    rewards: Rewards,
    group: int,
    objectives: Objectives | None,
    added_B: torch.Tensor | None = None,
    deviation: Callable[[torch.Tensor], float | None] = lambda rewards_B: None,
) -> tuple[torch.Tensor, dict[str, float]]:
    """Advantages [B] of completions in groups of `group` neighbours, and what is logged of rewards and advantages.

    `frac_reward_zero_std` is the share of completions that nothing is learned from: those of groups with one reward, or
    those that earn what the greedy one does.

    Args:
        objectives: whose weights may act on the advantages of each component.
        added_B: to the rewards, by plug-ins.
        deviation: of all rewards, what advantages are divided by in place of the estimator's scale; None for that.
    """
    total_B = rewards.rewards_B if added_B is None else rewards.rewards_B + added_B
    rewards_PG, divisor = total_B.view(-1, group), deviation(total_B)
    if objectives is not None and not objectives.on_rewards:
        assert rewards.greedy_P is None, "recipes refuse it"
        found, alike = weighed_advantages(rewards.parts, objectives.weight, group, estimator)
        found = found.to(total_B.device)
    else:
        found = advantages(
            estimator.baseline,
            rewards_PG,
            scale=estimator.scale,
            greedy_P=rewards.greedy_P,
            deviation=divisor,
        ).reshape(-1)
        alike = one_reward(rewards_PG) if rewards.greedy_P is None else found == 0
    return found, {
        "reward": float(rewards.rewards_B.nanmean()),
        "reward_std": batch_deviation(rewards.rewards_B),
        "frac_reward_zero_std": float(alike.float().mean()),
    }


def weighed_advantages(
    parts: Sequence[Parts], weight: Callable[[str], float], group: int, estimator: Estimator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Σ_k λ_k · A_k: the advantages of every component by itself, weighed.

    Args:
        parts: of B completions, in groups of `group` neighbours.
        weight: λ of `task/component`.

    Returns:
        The advantages [B], and of each group whether no component tells its completions apart, bool [P].
    """
    total, alike = torch.zeros(len(parts)), torch.ones(len(parts) // group, dtype=torch.bool)
    for name in sorted({name for _, found in parts for name in found}):
        values_PG = torch.tensor([found.get(name, math.nan) for _, found in parts]).view(-1, group)
        weights = torch.tensor([weight(f"{task}/{name}") if name in found else 0.0 for task, found in parts])
        total += weights * advantages(estimator.baseline, values_PG, scale=estimator.scale).reshape(-1)
        alike &= one_reward(values_PG)
    return total, alike
