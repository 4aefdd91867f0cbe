"""Policy-gradient losses of a micro-batch of rollouts: pure functions of log-probabilities and advantages.

With π the policy, π_old the weights that the completions were scored with when they came, π_engine what sampled them
and π_ref the reference, every loss is (`policy_loss`)

    L = aggregate over tokens of  m_t · w_t · ℓ(ρ_t, A) + β · k3_t,  minus entropy_coef · mean entropy
    ρ_t = π(y_t) / π_old(y_t)          the probability ratio (`probability_ratio`), of tokens or of completions
    w_t = π_old(y_t) / π_engine(y_t)   the correction for the engine's rounding, bounded (`cpt.methods.engine_weights`)
    k3_t                               an estimate of KL(π ‖ π_ref) (`k3`)
    m_t                                0 for tokens left out: far from the sampler (`near_sampler`), or of low entropy
                                       (`high_entropy`); 1 by default, as entropy_coef is 0

`LOSSES` names each one's ℓ and its aggregation. The names of losses, settings and metrics are those of TRL's
GRPOConfig and GRPOTrainer, and so are the values, bit for bit: a change in the order of operations is a change.

Shapes: B completions of T tokens, padded on the right. What is [B, T] per token is [B, 1] where it is per completion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """What a loss depends on beside its batch. Names and units are those of `cpt.methods.policy_gradient`.

    Attributes:
        max_completion_length: tokens that `dr_grpo` divides by.
        steps_per_generation: micro-batches that one batch of rollouts is cut into.
        top_entropy_quantile: share of tokens, those of highest entropy, that the policy gradient acts on.
        entropy_coef: of the mean entropy that is subtracted from the loss.
        off_policy_mask_threshold: nats per token from which on completions of negative advantage are left out.
    """

    loss_type: str
    max_completion_length: int
    steps_per_generation: int = 1
    importance_sampling_level: str = "token"
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    delta: float | None = None
    beta: float = 0.0
    use_bias_correction_kl: bool = False
    top_entropy_quantile: float = 1.0
    entropy_coef: float = 0.0
    off_policy_mask_threshold: float | None = None

    def __post_init__(self) -> None:
        assert self.loss_type in LOSSES, f"no loss {self.loss_type}"
        assert self.importance_sampling_level in ("token", "sequence")

    @classmethod
    def of(cls, arguments: Any) -> LossSettings:
        """From an object with attributes of the same names, such as GRPOConfig."""
        values = {field.name: getattr(arguments, field.name) for field in fields(cls)}
        if values["epsilon_high"] is None:
            values["epsilon_high"] = values["epsilon"]
        return cls(**values)


@dataclass(frozen=True)
class Loss:
    """A micro-batch's part of an optimizer step's loss.

    Attributes:
        loss: scalar to differentiate. The sum over the micro-batches of an optimizer step is the step's loss.
        metrics: scalars without gradients, in the order in which they are logged.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor]


def policy_loss(
    settings: LossSettings,
    logps_BT: Tensor,
    entropies_BT: Tensor,
    *,
    mask_BT: Tensor,
    advantages_B: Tensor,
    old_logps_BT: Tensor | None = None,
    reference_logps_BT: Tensor | None = None,
    engine_logps_BT: Tensor | None = None,
    weights: Tensor | None = None,
    batch_tokens: Tensor | None = None,
    micro_batches: int = 1,
) -> Loss:
    """The loss named `settings.loss_type` of B completions.

    Args:
        logps_BT: log-probability of each token under the policy, in nats.
        entropies_BT: entropy of the distribution that each token is from, in nats.
        mask_BT: 1 at a completion's tokens, 0 elsewhere.
        advantages_B: one per completion, without gradients (`cpt.methods.advantages`).
        old_logps_BT: under the weights that the completions were scored with; None where these are the policy's now.
        reference_logps_BT: under the reference; asked for if beta > 0.
        engine_logps_BT: as the engine sampled them; used by `off_policy_mask_threshold` alone.
        weights: [B, T] or [B, 1], of `cpt.methods.engine_weights`; None for no correction.
        batch_tokens: Σ mask over the whole batch of rollouts; asked for by `dapo` and `cispo`.
        micro_batches: in this optimizer step.
    """
    kind = LOSSES[settings.loss_type]
    advantages_B1 = advantages_B.unsqueeze(1)
    old_BT = logps_BT.detach() if old_logps_BT is None else old_logps_BT
    ratio = probability_ratio(logps_BT, old_BT, mask_BT, settings.importance_sampling_level)
    kl_BT = _kl(settings, logps_BT, reference_logps_BT, ratio)

    losses = kind.objective(ratio, advantages_B1, logps_BT, settings)
    if settings.off_policy_mask_threshold is not None:
        sampled_BT = old_BT if engine_logps_BT is None else engine_logps_BT
        losses = losses * near_sampler(settings.off_policy_mask_threshold, logps_BT, sampled_BT, mask_BT, advantages_B1)
    acting_BT = mask_BT
    if settings.top_entropy_quantile < 1.0:
        uncertain_BT = high_entropy(entropies_BT, mask_BT, settings.top_entropy_quantile)
        losses, acting_BT = losses * uncertain_BT, mask_BT * uncertain_BT
    if weights is not None:
        losses = losses * weights
    if kl_BT is not None:
        losses = losses + settings.beta * kl_BT

    loss = kind.aggregate(losses, mask_BT, settings, _step_tokens(settings, batch_tokens, micro_batches))
    metrics = {"policy_loss": loss.detach()} if settings.entropy_coef else {}
    if kind.aggregate is not mean_over_step:
        loss = loss / micro_batches
    if settings.entropy_coef:
        entropy = (entropies_BT * acting_BT).sum() / acting_BT.sum().clamp(min=1.0) / micro_batches
        loss = loss - settings.entropy_coef * entropy
    if kl_BT is not None:
        metrics["kl"] = masked_mean(kl_BT, mask_BT)
    metrics["entropy"] = masked_mean(entropies_BT, mask_BT)
    return Loss(loss, metrics | kind.clipped(ratio, advantages_B1, mask_BT, settings))


def probability_ratio(logps_BT: Tensor, old_logps_BT: Tensor, mask_BT: Tensor, level: str) -> Tensor:
    """ρ = π(y) / π_old(y): of each token [B, T]; at the level `sequence` of each completion [B, 1].

    A completion's is (π(y|x) / π_old(y|x))^(1/|y|), the geometric mean of its tokens' (GSPO, arXiv 2507.18071,
    equation 7).
    """
    log_ratio_BT = logps_BT - old_logps_BT
    if level == "token":
        return torch.exp(log_ratio_BT)
    log_ratio_B = (log_ratio_BT * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1.0)
    return torch.exp(log_ratio_B.unsqueeze(-1))


def k3(logps_BT: Tensor, reference_logps_BT: Tensor) -> Tensor:
    """exp(−r) + r − 1 with r = log π − log π_ref: KL(π ‖ π_ref) at each token in nats (GRPO, arXiv 2402.03300, eq. 4).

    `use_bias_correction_kl` multiplies it by ρ (DeepSeek-V3.2, arXiv 2512.02556, section 3.1).
    """
    return torch.exp(reference_logps_BT - logps_BT) - (reference_logps_BT - logps_BT) - 1


def _kl(settings: LossSettings, logps_BT: Tensor, reference_BT: Tensor | None, ratio: Tensor) -> Tensor | None:
    """The KL term before β; None without one."""
    if not settings.beta:
        return None
    assert reference_BT is not None, "the reference's log-probabilities are missing"
    kl_BT = k3(logps_BT, reference_BT)
    return kl_BT * ratio if settings.use_bias_correction_kl else kl_BT


# ℓ(ρ, A) of each token or completion


def clipped_objective(ratio: Tensor, advantages_B1: Tensor, logps_BT: Tensor, settings: LossSettings) -> Tensor:
    """−min(ρ A, clip(ρ, 1 − ε, 1 + ε_high) A) (PPO, arXiv 1707.06347, equation 7; ε_high: DAPO, arXiv 2503.14476).

    `delta` bounds ρ in the first part, too, which otherwise grows without bound where A < 0 (two-sided clipping,
    arXiv 2505.07291).
    """
    within = torch.clamp(ratio, 1 - settings.epsilon, 1 + settings.epsilon_high)
    return -torch.min(_bounded(ratio, settings) * advantages_B1, within * advantages_B1)


def clipped_weight(ratio: Tensor, advantages_B1: Tensor, logps_BT: Tensor, settings: LossSettings) -> Tensor:
    """−sg(min(ρ, ε_high)) A log π: every token keeps its gradient (CISPO, arXiv 2506.13585, equations 4 and 5).

    ε_high is the bound itself here, not its distance from 1; there is no lower one.
    """
    return -torch.clamp(ratio, max=settings.epsilon_high).detach() * advantages_B1 * logps_BT


def _bounded(ratio: Tensor, settings: LossSettings) -> Tensor:
    return ratio if settings.delta is None else torch.clamp(ratio, max=settings.delta)


# From [B, T] to a scalar


def mean_over_completions(
    losses: Tensor, mask_BT: Tensor, settings: LossSettings, step_tokens: Tensor | None
) -> Tensor:
    """The mean over completions of the mean over a completion's tokens (GRPO, arXiv 2402.03300, equation 3)."""
    return ((losses * mask_BT).sum(-1) / mask_BT.sum(-1).clamp(min=1.0)).mean()


def mean_over_tokens(losses: Tensor, mask_BT: Tensor, settings: LossSettings, step_tokens: Tensor | None) -> Tensor:
    """The mean over the tokens of the micro-batch (BNPO of TRL)."""
    return (losses * mask_BT).sum() / mask_BT.sum().clamp(min=1.0)


def mean_over_room(losses: Tensor, mask_BT: Tensor, settings: LossSettings, step_tokens: Tensor | None) -> Tensor:
    """The sum over tokens, over as many as there may be (Dr. GRPO, arXiv 2503.20783, section 3.2)."""
    return (losses * mask_BT).sum() / (losses.size(0) * settings.max_completion_length)


def mean_over_step(losses: Tensor, mask_BT: Tensor, settings: LossSettings, step_tokens: Tensor | None) -> Tensor:
    """The sum over tokens, over those of an optimizer step (DAPO, arXiv 2503.14476, equation 8; `_step_tokens`).

    Needs no division by the number of micro-batches.
    """
    assert step_tokens is not None, "the number of tokens in the batch of rollouts is missing"
    return (losses * mask_BT).sum() / step_tokens


def _step_tokens(settings: LossSettings, batch_tokens: Tensor | None, micro_batches: int) -> Tensor | None:
    """Tokens of an average optimizer step on this batch of rollouts."""
    return None if batch_tokens is None else batch_tokens.clamp(min=1.0) * micro_batches / settings.steps_per_generation


# Which tokens count, and for how much


def near_sampler(
    threshold: float, logps_BT: Tensor, sampled_logps_BT: Tensor, mask_BT: Tensor, advantages_B1: Tensor
) -> Tensor:
    """1 for completions that count, 0 for the others [B, 1] (DeepSeek-V3.2, arXiv 2512.02556, section 3.1).

    Left out is what has a negative advantage and on average lost more than `threshold` nats a token since it was
    sampled.
    """
    lost_BT = torch.nan_to_num(sampled_logps_BT - logps_BT.detach(), nan=0.0)
    lost_B1 = (lost_BT * mask_BT).sum(dim=1, keepdim=True) / mask_BT.sum(dim=1, keepdim=True).clamp(min=1.0)
    return ((advantages_B1 >= 0) | (lost_B1 <= threshold)).to(dtype=mask_BT.dtype)


def high_entropy(entropies_BT: Tensor, mask_BT: Tensor, share: float) -> Tensor:
    """Bool [B, T]: the `share` of the micro-batch's tokens with the highest entropies (arXiv 2506.01939)."""
    own = entropies_BT[mask_BT.bool()].float()
    if own.numel() == 0:
        return torch.zeros_like(entropies_BT, dtype=torch.bool)
    return (entropies_BT * mask_BT.float() >= torch.quantile(own, 1 - share)) & mask_BT.bool()


# Metrics


def masked_mean(values: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over tokens; where `values` are [B, 1], over completions. Without gradients; 0 if there are none."""
    values = values.detach()
    if values.shape[1] == 1:
        return values.sum() / torch.tensor(float(values.shape[0]), device=values.device).clamp(min=1.0)
    return (values * mask_BT).sum() / mask_BT.sum().float().clamp(min=1.0)


def _clip_ratios(ratio: Tensor, advantages_B1: Tensor, mask_BT: Tensor, settings: LossSettings) -> dict[str, Tensor]:
    """Shares of tokens (or completions) that the clip range takes the gradient from, and the extreme completions'."""
    ratio = _bounded(ratio.detach(), settings)
    low = (ratio < 1 - settings.epsilon) & (advantages_B1 < 0)
    high = (ratio > 1 + settings.epsilon_high) & (advantages_B1 > 0)
    low_B, high_B = _by_completion(low.float(), mask_BT), _by_completion(high.float(), mask_BT)
    return {
        "clip_ratio/low_mean": masked_mean(low.float(), mask_BT),
        "clip_ratio/high_mean": masked_mean(high.float(), mask_BT),
        "clip_ratio/region_mean": masked_mean((low | high).float(), mask_BT),
        "clip_ratio/low_min": low_B.min() if low_B.numel() else low_B.new_tensor(math.nan),
        "clip_ratio/high_max": high_B.max() if high_B.numel() else high_B.new_tensor(math.nan),
    }


def _clipped_weights(
    ratio: Tensor, advantages_B1: Tensor, mask_BT: Tensor, settings: LossSettings
) -> dict[str, Tensor]:
    """Share of tokens whose weight is at CISPO's bound."""
    clipped = (ratio.detach() > settings.epsilon_high) & (advantages_B1 > 0)
    return {"cispo_clip_ratio": masked_mean(clipped.float(), mask_BT)}


def _by_completion(values: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over each completion's tokens; completions without any are left out."""
    if values.shape[1] == 1:
        return values.squeeze(1)
    means_B = (values * mask_BT).sum(-1) / mask_BT.sum(-1)
    return means_B[~means_B.isnan()]


@dataclass(frozen=True)
class Kind:
    """What distinguishes one loss: ℓ, how it becomes a scalar, and what is logged of its clipping."""

    objective: Callable[[Tensor, Tensor, Tensor, LossSettings], Tensor]
    aggregate: Callable[[Tensor, Tensor, LossSettings, Tensor | None], Tensor]
    clipped: Callable[[Tensor, Tensor, Tensor, LossSettings], dict[str, Tensor]] = _clip_ratios


# GSPO is `grpo` with importance_sampling_level `sequence`; RLOO, REINFORCE and ReMax differ in their advantages.
LOSSES = {
    "grpo": Kind(clipped_objective, mean_over_completions),
    "bnpo": Kind(clipped_objective, mean_over_tokens),
    "dr_grpo": Kind(clipped_objective, mean_over_room),
    "dapo": Kind(clipped_objective, mean_over_step),
    "cispo": Kind(clipped_weight, mean_over_step, _clipped_weights),
}
