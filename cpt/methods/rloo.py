"""REINFORCE leave-one-out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from cpt.methods.advantages import Baseline
from cpt.methods.policy_gradient import LossType, PolicyGradient
from cpt.methods.setting import Rows

if TYPE_CHECKING:
    import torch


def against_others(rewards_PG: torch.Tensor) -> torch.Tensor:
    """A_i = r_i − mean of the group's other rewards (RLOO: arXiv 2402.14740); G/(G − 1) times r_i − mean of all.

    As a mean of differences, so that equal rewards give exactly 0. The only reward of a group has no others: 0.
    """
    differences_PGG = rewards_PG.unsqueeze(2) - rewards_PG.unsqueeze(1)
    others_P1 = (~rewards_PG.isnan()).sum(dim=1, keepdim=True) - 1
    return (differences_PGG.nansum(dim=2) / others_P1).nan_to_num(nan=0.0)


class RLOO(PolicyGradient):
    """REINFORCE leave-one-out (arXiv 2402.14740): A_i = r_i − mean of the prompt's other rewards.

    A completion is one action in the paper, so its log-probability is a sum over tokens: `loss_type` dr_grpo, which is
    that sum over the constant `max_completion_length`. `loss_type: grpo` is for comparisons with GRPO in which only the
    advantage differs. A KL term (`beta`) is in the loss; the paper has it in the reward. Where a batch of rollouts
    serves several steps, tokens are clipped as in PPO.
    """

    baseline: ClassVar[Baseline] = Baseline(against_others)

    type: Literal["rloo"]
    num_generations: Rows = 8
    loss_type: LossType = "dr_grpo"
    scale_rewards: Literal["none"] = "none"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Also: there must be others."""
        yield from super().problems()
        if self.num_generations == 1:
            yield (
                "num_generations",
                "1 leaves RLOO no other completions to compare with; set 2 or more, or use type: remax, whose baseline "
                "is a greedy completion",
            )
