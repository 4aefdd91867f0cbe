"""RaPO: a bonus for completions that the policy before the stage would have given as readily, and steady advantages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from cpt.common.keys import Problem
from cpt.methods.advantages import batch_deviation
from cpt.methods.likelihood import completion_logits, row_means, token_logps
from cpt.methods.plugin import Batch, Plugin, Stage
from cpt.methods.policy_gradient import PolicyGradient
from cpt.methods.running import Means
from cpt.methods.setting import ArmView, Factor, Setting

if TYPE_CHECKING:
    import torch

FILE = "deviation.json"


class RaPO(Setting):
    """RaPO (arXiv 2605.09640, equations 2 to 6): a retention reward, and cross-task advantage normalisation.

    R = R_task + λ · exp(−sharpness · d), d = max(0, mean_t(log π − log π_prev)), from the second task on. π_prev is
    where the stage started, λ is `coefficient`, the mean is over a completion's tokens. A completion that has become
    less likely has d = 0 and earns the whole bonus, as every one does before the first step. One without tokens to
    compare, which `mask_truncated_completions` makes of a truncated one, earns none. The metric `reward` stays the
    task's; the bonus is logged as `plugin/rapo/reward`.

    `normalise: moving`: A = (R − mean of the group) / (σ̄ + ε) in place of `method.scale_rewards`, where σ̄ is a moving
    average over generations of the batch's deviation of R, σ̄ ← decay · σ̄ + (1 − decay) · σ. It starts as the first
    batch's and goes on from task to task. What the paper leaves open and is chosen here: σ is unbiased, over the
    generation's rewards of all processes, and the first task moves it, too. `normalise: method` leaves advantages to
    the method; under GRPO's division by the group's own deviation λ would cancel in a group of equal task rewards,
    which is refused.
    """

    needs_second_task: ClassVar[bool] = True
    beside_group_scale: ClassVar[str] = "normalise: moving"

    type: Literal["rapo"]
    coefficient: Factor = 0.5
    sharpness: Factor = 20.0
    normalise: Literal["moving", "method"] = "moving"
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999

    @property
    def changes_reward(self) -> bool:
        """See `Setting.changes_reward`."""
        return True

    @property
    def own_deviation(self) -> bool:
        """See `Setting.own_deviation`."""
        return self.normalise == "moving"

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """See `Part.clashes`."""
        method = arm.method
        if not self.own_deviation or not isinstance(method, PolicyGradient) or method.baseline.needs_greedy:
            return
        if method.scale_rewards == "none":
            told = f"moving divides advantages and {method.type} does not"
            yield ("normalise",), f"{told}; set normalise: method, or use type: grpo"

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return RaPOPlugin(self)


class RaPOPlugin(Plugin):
    """Gives the bonus, and keeps the moving average."""

    def __init__(self, setting: RaPO) -> None:
        self.setting, self.acts = setting, False
        self.average: float | None = None
        self.means = Means("distance", "reward")

    def before_stage(self, stage: Stage) -> None:
        """Keep the stage's start, and go on with the average of the stage before."""
        self.acts = stage.index > 1
        if self.acts:
            self.previous = stage.reference("stage_start")
        if stage.earlier is not None:
            self.load(stage.earlier)

    def reward(self, batch: Batch, logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
        """See `RaPO`."""
        import torch

        if not self.acts:
            return None
        with torch.no_grad():
            theirs, ids, rows = completion_logits(self.previous, batch)
            gained = logps[mask.bool()] - token_logps(theirs, ids)
        distance = row_means(gained, rows, len(mask)).clamp(min=0)
        bonus = self.setting.coefficient * (-self.setting.sharpness * distance).exp() * mask.any(dim=1)
        self.means.note(distance=distance.mean(), reward=bonus.mean())
        return bonus

    def deviation(self, rewards_N: torch.Tensor) -> float | None:
        """See `RaPO`."""
        if not self.setting.own_deviation:
            return None
        found = batch_deviation(rewards_N)
        before = found if self.average is None else self.average
        self.average = self.setting.decay * before + (1 - self.setting.decay) * found
        return self.average

    def after_stage(self, stage: Stage) -> None:
        """Leave the average to the next stage."""
        stage.memory.mkdir(parents=True, exist_ok=True)
        self.save(stage.memory)

    def save(self, folder: Path) -> None:
        """See `Plugin.save`."""
        (folder / FILE).write_text(json.dumps(self.average), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """See `Plugin.load`."""
        self.average = json.loads((folder / FILE).read_text(encoding="utf-8"))

    def metrics(self) -> dict[str, float]:
        """Mean d in nats per token and mean bonus of the last rollouts, and what their advantages were divided by."""
        return self.means.read() | ({} if self.average is None else {"deviation": self.average})
