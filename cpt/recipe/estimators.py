"""GRPO's relatives: other advantages and other losses on the same rollouts, each under the literature's name.

All of them run on TRL's GRPOTrainer, also RLOO: arms then differ in the estimator and in nothing else. (TRL's
RLOOTrainer has its KL in the reward, no correction for the engine's log-probabilities, and one clipped ratio per
completion.) What a definition fixes is a setting with one possible value, so that the resolved plan says it. As long as
every batch of rollouts serves one optimizer step, all probability ratios are 1 and no clip range acts;
`steps_per_generation` and `num_iterations` change that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from cpt.methods.advantages import Baseline
from cpt.methods.plugin import Factor, Rows
from cpt.recipe.methods import PolicyGradient

Loss = Literal["grpo", "bnpo", "dr_grpo", "dapo"]


class DrGRPO(PolicyGradient):
    """Dr. GRPO (arXiv 2503.20783): GRPO without its two divisions.

    A = r − mean of the group; the loss is a sum over tokens over the constant `max_completion_length`, not over each
    completion's own length.
    """

    type: Literal["dr_grpo"]
    loss_type: Literal["dr_grpo"] = "dr_grpo"
    scale_rewards: Literal["none"] = "none"

    @property
    def title(self) -> str:
        """Its name."""
        return "dr. grpo"


class DAPO(PolicyGradient):
    """The loss of DAPO (arXiv 2503.14476): clip-higher (ε_low 0.2, ε_high 0.28) and a mean over the batch's tokens.

    GRPO's advantages, and no KL unless `beta` asks for one. Not included: dynamic sampling (groups of one reward stay
    in the batch and count in its tokens; `frac_zero_std` tells their share) and overlong reward shaping
    (`mask_truncated_completions: true` is the paper's overlong filtering).
    """

    type: Literal["dapo"]
    loss_type: Literal["dapo"] = "dapo"
    epsilon_high: Factor | None = 0.28


class GSPO(PolicyGradient):
    """Group sequence policy optimisation (arXiv 2507.18071).

    One ratio per completion, s = (π(y|x) / π_old(y|x))^(1/|y|), clipped to [1 − 3e-4, 1 + 4e-4] (the paper's ranges);
    GRPO's advantages. With one optimizer step per batch of rollouts its gradient is GRPO's.
    """

    type: Literal["gspo"]
    loss_type: Literal["grpo"] = "grpo"
    importance_sampling_level: Literal["sequence"] = "sequence"
    epsilon: Factor = 3e-4
    epsilon_high: Factor | None = 4e-4


class RLOO(PolicyGradient):
    """REINFORCE leave-one-out (arXiv 2402.14740): A_i = r_i − mean of the prompt's other rewards.

    A completion is one action in the paper, so its log-probability is a sum over tokens: `loss_type` dr_grpo, which is
    that sum over the constant `max_completion_length`. `loss_type: grpo` is for comparisons with GRPO in which only the
    advantage differs. A KL term (`beta`) is in the loss; the paper has it in the reward. Where a batch of rollouts
    serves several steps, tokens are clipped as in PPO.
    """

    baseline: ClassVar[Baseline] = "others_mean"

    type: Literal["rloo"]
    num_generations: Rows = 8
    loss_type: Loss = "dr_grpo"
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


class Reinforce(PolicyGradient):
    """REINFORCE (Williams 1992) with the group's mean as its baseline: A = r − mean of the group, no std, no clipping.

    The mean contains the reward itself, which shrinks the expected gradient by (G − 1)/G against RLOO's; it is Dr.
    GRPO's advantage, and with the default loss (see `RLOO`) the same update. A batch of rollouts serves one optimizer
    step, so that the gradient is the policy's own and there is no ratio to clip.
    """

    type: Literal["reinforce"]
    num_generations: Rows = 8
    loss_type: Loss = "dr_grpo"
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


class ReMax(PolicyGradient):
    """ReMax (arXiv 2310.10505): A = r − r(greedy), the reward of the greedy completion of the same prompt.

    One sampled completion per prompt, and one greedy completion by the same weights and for the same reward, which is
    not trained on; its mean reward is logged as `baseline/greedy`. `num_generations` counts the sampled ones alone, so
    a batch of as many trained completions as GRPO's has more prompts and costs up to twice the generation. The loss is
    that of `RLOO`. `frac_zero_std` is the share of completions that earn just what the greedy one does.
    """

    own: ClassVar[frozenset[str]] = PolicyGradient.own | {"greedy_baseline"}
    baseline: ClassVar[Baseline] = "greedy"

    type: Literal["remax"]
    num_generations: Rows = 1
    greedy_baseline: bool = True
    loss_type: Loss = "dr_grpo"
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
