"""GRPO, and those of its relatives that have its advantages and another setting of the loss."""

from __future__ import annotations

from typing import Literal

from cpt.methods.policy_gradient import PolicyGradient
from cpt.methods.setting import Factor


class GRPO(PolicyGradient):
    """Group relative policy optimisation (arXiv 2402.03300, equation 3).

    A = (r − mean of the group) / (std of the group + 1e-4), unbiased std; `scale_rewards: none` leaves the division
    out, `batch` takes the std of the batch. The loss is a mean over each completion's tokens.
    """

    type: Literal["grpo"]

    @property
    def title(self) -> str:
        """Its name, and how rewards are scaled where that is not GRPO's own way."""
        return {"group": "grpo", "batch": "grpo (batch std)", "none": "grpo (no std)"}[self.scale_rewards]


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
