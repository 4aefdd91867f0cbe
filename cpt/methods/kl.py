"""KL divergence from a reference policy, in the loss of any method or in the reward of one with rollouts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from cpt.common.keys import Problem
from cpt.methods.divergence import token_kl
from cpt.methods.ema import WithAverage
from cpt.methods.likelihood import completion_logits, row_means, row_sums, token_logps
from cpt.methods.plugin import Batch, Plugin, Stage
from cpt.methods.running import Means
from cpt.methods.setting import ArmView, Decay, Setting, Weight

if TYPE_CHECKING:
    import torch
    from torch import nn

Estimator = Literal["k1", "k2", "k3"]

_DECAY = 0.99


class KL(Setting):
    """Keep near a reference: `coefficient` × KL(π ‖ π_ref) at a completion's tokens, in nats.

    With r = log π − log π_ref of the token that is there: k1 = r, k2 = r²/2, k3 = exp(−r) + r − 1 (Schulman,
    "Approximating KL divergence"; k3 is equation 4 of GRPO, arXiv 2402.03300). `exact` is Σ_v π(v) (log π(v) −
    log π_ref(v)) over the vocabulary. All at temperature 1.

    `in: loss` adds the mean over rows of the mean over a completion's tokens. Over tokens that the policy has sampled
    itself k1 and k3 have the divergence as their mean, but their gradients do not have its gradient (arXiv
    2506.09477). Given what stands before a token, the expected gradient is: of k1 zero, which is why it is refused
    here; of k2 that of KL(π ‖ π_ref); of k3 that of KL(π_ref ‖ π), the other direction; `exact` has that of KL(π ‖
    π_ref) itself, without the noise of sampling. None of them counts that a token changes what comes after it. Under
    SFT the tokens are the targets': there k2 and k3 hold the probabilities of these tokens alone and estimate no
    divergence, while `exact` is still one, after every beginning of a target.

    `in: reward` makes the reward r − coefficient · Σ_t k(t), which is a constant to the gradient and is there before
    advantages are taken. The policy gradient of k1 is that of KL(π ‖ π_ref) between whole completions. At a token, that
    of k3 is the difference between the two directions' gradients, which is next to nothing near the reference, and that
    of k2 belongs to no divergence. `exact` is refused: it is the same whatever token is sampled, and so steers none.
    Under GRPO's division by the group's own deviation the coefficient would cancel in a group of equal task rewards,
    whose only deviation is this term's: whatever it is, |A| would be about 1. So `scale_rewards: group` is refused. The
    metric `reward` stays the one without this part, which is logged as `plugin/kl/reward`.

    `reference`: `stage_start`, the `base` model, the model in the folder `path`, or `ema`, the average of the policy
    over its steps: θ_ref ← decay · θ_ref + (1 − decay) · θ after every optimizer step, from the stage's start. Under
    LoRA it averages the adapter's factors.

    Defaults: `stage_start`, because what a stage forgets is what the stage changed (of the scripts of arXiv 2507.05386
    some take this, some the base); the coefficient of that paper; the loss, which every method has; and `exact`,
    because it alone means the same in SFT and in reinforcement learning. GRPO's own term is `estimator: k3`, which is
    also what `method.beta` is. A coefficient of 0 measures and changes nothing.

    Memory: logits of a micro-batch's completions; for `stage_start` and `ema` a copy of what is trained, otherwise a
    second model.
    """

    model_config = ConfigDict(serialize_by_alias=True)
    beside_group_scale: ClassVar[str] = "in: loss"

    type: Literal["kl"] = "kl"
    coefficient: Weight = 0.01
    estimator: Literal["k1", "k2", "k3", "exact"] = "exact"
    into: Literal["loss", "reward"] = Field(default="loss", alias="in")
    reference: Literal["stage_start", "base", "ema", "path"] = "stage_start"
    path: str | None = None
    decay: Decay | None = None  # of `ema` alone; null: 0.99

    @property
    def changes_reward(self) -> bool:
        """See `Setting.changes_reward`."""
        return self.into == "reward"

    def starts_at_zero(self, stage: int) -> bool:
        """Whether the reference is the policy itself at the start of the stage of that 1-based index."""
        return self.reference in ("stage_start", "ema") or (self.reference == "base" and stage == 1)

    def problems(self) -> Iterator[tuple[str, str]]:
        """See `Part.problems`."""
        if self.estimator == "k1" and self.into == "loss":
            yield (
                "estimator",
                "k1 in the loss has no gradient but noise on the policy's own samples; use exact, k2 or k3, or in: "
                "reward",
            )
        if self.estimator == "exact" and self.into == "reward":
            yield (
                "estimator",
                "exact is the same whatever token was sampled, so as a reward it steers none; set estimator: k1",
            )
        if self.reference == "path" and self.path is None:
            yield "path", "reference: path needs one; set path: to a model's folder"
        if self.reference != "path" and self.path is not None:
            yield "path", f"belongs to reference: path, not to {self.reference}; set that, or remove it"
        if self.reference != "ema" and self.decay is not None:
            yield "decay", f"belongs to reference: ema, not to {self.reference}; set that, or remove it"

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """See `Part.clashes`."""
        if getattr(arm.method, "beta", 0.0):
            yield (), "is a second KL term beside method.beta; set method.beta: 0, or leave kl out"

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return KLPlugin(self)


class KLPlugin(WithAverage):
    """Adds the divergence where its setting says."""

    def __init__(self, setting: KL) -> None:
        super().__init__(_DECAY if setting.decay is None else setting.decay)
        self.setting = setting
        self.means = Means("kl", *(["reward"] if setting.into == "reward" else []))

    def before_stage(self, stage: Stage) -> None:
        """Get hold of the reference."""
        if self.setting.reference == "ema":
            self.reference: Any = self.start_average(stage)
        else:
            self.reference = stage.reference(self.setting.path or self.setting.reference)

    def term(self, model: nn.Module, batch: Batch) -> torch.Tensor | None:
        """See `KL`."""
        import torch

        if self.setting.into != "loss":
            return None
        logits, ids, rows = completion_logits(model, batch)
        with torch.no_grad():
            theirs, _, _ = completion_logits(self.reference, batch)
        with torch.set_grad_enabled(self.setting.coefficient > 0):
            if self.setting.estimator == "exact":
                kl = token_kl(logits, theirs)
            else:
                kl = estimate(self.setting.estimator, token_logps(logits, ids), token_logps(theirs, ids))
            mean = row_means(kl, rows, len(batch.labels)).mean()
        self.means.note(kl=mean.detach())
        return self.setting.coefficient * mean if self.setting.coefficient else None

    def reward(self, batch: Batch, logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
        """See `KL`."""
        import torch

        if self.setting.into != "reward":
            return None
        assert self.setting.estimator != "exact", "refused by the setting"
        with torch.no_grad():
            theirs, ids, rows = completion_logits(self.reference, batch)
            kl = estimate(self.setting.estimator, logps[mask.bool()], token_logps(theirs, ids))
            added = -self.setting.coefficient * row_sums(kl, rows, len(mask))
        self.means.note(kl=row_means(kl, rows, len(mask)).mean(), reward=added.mean())
        return added

    def metrics(self) -> dict[str, float]:
        """KL by its estimator in nats per token; in the reward also what it added, in points per completion."""
        return self.means.read()


def estimate(estimator: Estimator, logps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """k1, k2 or k3 at every token from log-probabilities, of any one shape. See `KL`."""
    ratio = logps - reference
    if estimator == "k1":
        return ratio
    return ratio.square() / 2 if estimator == "k2" else (-ratio).expm1() + ratio
