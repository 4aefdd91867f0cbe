"""Self-distillation: without a demonstration the policy learns to say what it would say with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from cpt.methods.divergence import interpolated_kl
from cpt.methods.ema import WithAverage
from cpt.methods.likelihood import completion_logits, row_means
from cpt.methods.plugin import Batch, Stage
from cpt.methods.running import Means
from cpt.methods.snapshot import Snapshot

if TYPE_CHECKING:
    import torch
    from torch import nn

Teacher = Literal["ema", "stage_start", "live"]


class Distillation(WithAverage):
    """The loss of `cpt.recipe.distillation.SDFT` as a term, and its teacher.

    The mean over rows of the mean over a completion's tokens of the divergence between the policy after the plain
    prompt and the teacher after `Batch.teacher`'s, exact over the vocabulary. The teacher gets no gradient.

    Args:
        alpha: of `interpolated_kl`, the policy first.
        skip: tokens at a completion's start that are left out. A completion with no other token counts as 0.
        decay: of the teacher `ema`, in (0, 1).
    """

    teacher: Callable[..., Any]

    def __init__(self, alpha: float, skip: int, teacher: Teacher, decay: float) -> None:
        super().__init__(decay)
        self.alpha, self.skip, self.kind = alpha, skip, teacher
        self.means = Means("divergence")

    def before_stage(self, stage: Stage) -> None:
        """Let the teacher start where the stage starts; the `live` one keeps no values of its own."""
        if self.kind == "ema":
            self.teacher = self.start_average(stage)
        elif self.kind == "live":
            self.teacher = Snapshot(stage.model, {})
        else:
            self.teacher = stage.reference("stage_start")

    def term(self, model: nn.Module, batch: Batch) -> torch.Tensor | None:
        """See the class."""
        assert batch.teacher is not None, "there is nothing that the teacher is asked"
        logits, _, rows = completion_logits(model, batch)
        divergence = interpolated_kl(logits, self._taught(batch.teacher), self.alpha)
        place = batch.predicting.cumsum(1)[batch.predicting]  # in its completion, from 1
        counted = place > self.skip
        mean = row_means(divergence[counted], rows[counted], len(batch.labels)).mean()
        self.means.note(divergence=mean.detach())
        return mean

    def _taught(self, batch: Batch) -> torch.Tensor:
        """The teacher's logits [N, V] for the completions' tokens; none are formed for the longer prompts."""
        import torch

        columns = int(batch.predicting.any(0).long().argmax())  # before the first completion token
        with torch.no_grad():
            output = self.teacher(**batch.inputs, logits_to_keep=batch.labels.shape[1] - columns)
        logits: torch.Tensor = output.logits[:, :-1][batch.predicting[:, columns:]]
        return logits

    def metrics(self) -> dict[str, float]:
        """The divergence in nats per token."""
        return self.means.read()
