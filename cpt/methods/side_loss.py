"""A supervised side loss on replayed samples, beside whatever else a stage trains on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from cpt.methods.likelihood import completion_logits, row_nlls
from cpt.methods.memory import Row
from cpt.methods.plugin import Plugin, Stage

if TYPE_CHECKING:
    import torch


class SideLoss(Plugin):
    """γ · mean over a step's rows of λ_source · −log π(target), in nats per token; γ is `coefficient`.

    The hybrid of arXiv 2510.21978, where reinforcement learning replays other data by supervision. `cpt.methods.replay`
    says what a recipe says of it. Costs a forward and a backward pass of the policy on these rows.

    Args:
        draw: rows of an optimizer step, by its number from 0 on; the same ones on every process.
        weight: λ of a source, asked for at every step.
        observe: told of every step before its rows are weighed: mean negative log-likelihood by source, and the number
            of steps done before.
    """

    def __init__(
        self,
        coefficient: float,
        draw: Callable[[int], Sequence[Row]],
        weight: Callable[[str], float] = lambda source: 1.0,
        observe: Callable[[Mapping[str, float], int], None] = lambda values, step: None,
    ) -> None:
        self.coefficient, self.draw, self.weight, self.observe = coefficient, draw, weight, observe
        self.last = 0.0

    def before_stage(self, stage: Stage) -> None:
        """Go on with the stage's next step."""
        self.stage, self.step = stage, stage.step

    def penalty(self) -> torch.Tensor | None:
        """See the class."""
        import torch

        rows = self.draw(self.step)
        nlls = row_nlls(*completion_logits(self.stage.model, self.stage.batch_of(rows)), len(rows))
        found: dict[str, list[float]] = {}
        for (source, _), value in zip(rows, nlls.tolist(), strict=True):
            found.setdefault(source, []).append(value)
        self.last = float(nlls.detach().mean())
        self.observe({source: sum(values) / len(values) for source, values in found.items()}, self.step)
        self.step += 1
        weights = torch.tensor([self.weight(source) for source, _ in rows], device=nlls.device)
        return self.coefficient * (weights * nlls).mean()

    def metrics(self) -> dict[str, float]:
        """Mean negative log-likelihood of the last step's rows in nats per token, without weights."""
        return {"nll": self.last}
