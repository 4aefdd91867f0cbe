"""ReMax: the greedy completion of the same prompt is the baseline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from cpt.methods.advantages import Baseline
from cpt.methods.policy_gradient import LossType, PolicyGradient
from cpt.methods.setting import Rows

if TYPE_CHECKING:
    import torch


def against_greedy(rewards_PG: torch.Tensor, greedy_P: torch.Tensor) -> torch.Tensor:
    """A = r − r(greedy completion of the same prompt) (ReMax: arXiv 2310.10505)."""
    return (rewards_PG - greedy_P.unsqueeze(1)).nan_to_num(nan=0.0)


class ReMax(PolicyGradient):
    """ReMax (arXiv 2310.10505): A = r − r(greedy), the reward of the greedy completion of the same prompt.

    One sampled completion per prompt, and one greedy completion by the same weights and for the same reward, which is
    not trained on; its mean reward is logged as `baseline/greedy`. `num_generations` counts the sampled ones alone, so
    a batch of as many trained completions as GRPO's has more prompts and costs up to twice the generation. The loss is
    that of `RLOO`. `frac_zero_std` is the share of completions that earn just what the greedy one does.
    """

    own: ClassVar[frozenset[str]] = PolicyGradient.own | {"greedy_baseline"}
    baseline: ClassVar[Baseline] = Baseline(against_greedy, needs_greedy=True)

    type: Literal["remax"]
    num_generations: Rows = 1
    greedy_baseline: bool = True
    loss_type: LossType = "dr_grpo"
    scale_rewards: Literal["none"] = "none"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Also: no ReMax without its baseline."""
        yield from super().problems()
        if not self.greedy_baseline:
            yield (
                "greedy_baseline",
                "ReMax has no other baseline than the greedy completion; set true, or use type: rloo with "
                "num_generations of 2 or more, whose baseline is the mean of the others",
            )
        if self.per_device_train_batch_size * self.forward_passes == 1:
            yield "per_device_train_batch_size", "a batch of rollouts needs two completions or more; set 2"
