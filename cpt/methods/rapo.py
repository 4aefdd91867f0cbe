"""RaPO's retention reward: a bonus for completions that the policy before the stage would have given as readily."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat

from cpt.methods.likelihood import completion_logits, row_means, token_logps
from cpt.methods.plugin import Batch, Plugin, Setting, Stage
from cpt.methods.running import Means

if TYPE_CHECKING:
    import torch


class RaPO(Setting):
    """R = R_task + λ · exp(−sharpness · d), d = max(0, mean_t(log π − log π_prev)) (RaPO, arXiv 2605.09640).

    π_prev is where the stage started, λ is `coefficient`, the mean is over a completion's tokens. A completion that has
    become less likely has d = 0 and earns the whole bonus, as every one does before the first step. One without tokens
    to compare, which `mask_truncated_completions` makes of a truncated one, earns none. The metric `reward` stays the
    task's; the bonus is logged as `plugin/rapo/reward`.
    """

    extra_passes: ClassVar[str] = "a forward pass of the stage's start over the rollouts"

    type: Literal["rapo"]
    coefficient: PositiveFloat = 0.5
    sharpness: PositiveFloat = 20.0

    @property
    def needs_rollouts(self) -> bool:
        """See `Setting.needs_rollouts`."""
        return True

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return RaPOPlugin(self.coefficient, self.sharpness)


class RaPOPlugin(Plugin):
    """Pays the bonus."""

    def __init__(self, coefficient: float, sharpness: float) -> None:
        self.coefficient, self.sharpness = coefficient, sharpness
        self.means = Means("distance", "reward")

    def before_stage(self, stage: Stage) -> None:
        """Keep the stage's start."""
        self.previous = stage.reference("stage_start")

    def reward(self, batch: Batch, logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
        """See `RaPO`."""
        import torch

        with torch.no_grad():
            theirs, ids, rows = completion_logits(self.previous, batch)
            gained = logps[mask.bool()] - token_logps(theirs, ids)
        distance = row_means(gained, rows, len(mask)).clamp(min=0)
        bonus = self.coefficient * (-self.sharpness * distance).exp() * mask.any(dim=1)
        self.means.note(distance=distance.mean(), reward=bonus.mean())
        return bonus

    def metrics(self) -> dict[str, float]:
        """Mean d in nats per token and mean bonus, of the last rollouts."""
        return self.means.read()
