"""REINFORCE with the group's mean as its baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from cpt.methods.policy_gradient import LossType, PolicyGradient
from cpt.methods.setting import Rows


class Reinforce(PolicyGradient):
    """REINFORCE (Williams 1992) with the group's mean as its baseline: A = r − mean of the group, no std, no clipping.

    The mean contains the reward itself, which shrinks the expected gradient by (G − 1)/G against RLOO's; it is Dr.
    GRPO's advantage, and with the default loss (see `RLOO`) the same update. A batch of rollouts serves one optimizer
    step, so that the gradient is the policy's own and there is no ratio to clip.
    """

    type: Literal["reinforce"]
    num_generations: Rows = 8
    loss_type: LossType = "dr_grpo"
    scale_rewards: Literal["none"] = "none"

    @property
    def title(self) -> str:
        """Names the baseline: there are many REINFORCEs."""
        return "reinforce (group mean)"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Also: one reward is its own mean, and rollouts are used once."""
        yield from super().problems()
        if self.num_generations == 1:
            yield (
                "num_generations",
                "with 1 every reward is its group's mean and nothing is learned; set 2 or more, or use type: remax",
            )
        if self.batch().steps > 1:
            key = "num_iterations" if self.num_iterations > 1 else "steps_per_generation"
            yield (
                key,
                "REINFORCE takes one optimizer step per batch of rollouts and clips nothing; leave it out, or use "
                "type: dr_grpo, which has the same advantages and clips",
            )
