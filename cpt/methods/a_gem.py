"""A-GEM: no step may raise the loss on what is remembered of finished tasks, to first order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from cpt.common.keys import Problem
from cpt.methods.likelihood import nll
from cpt.methods.memory import Row, drawn, remembered, without_dropout
from cpt.methods.plugin import Plugin, Stage
from cpt.methods.setting import ArmView, Count, Rows, Setting

if TYPE_CHECKING:
    import torch


class AGEM(Setting):
    """g ← g − (g·g_ref / ‖g_ref‖²) g_ref if g·g_ref < 0 (A-GEM, arXiv 1812.00420, equation 11).

    g is the gradient of an optimizer step over all trained parameters together, penalties included, before clipping.
    g_ref is that of the mean negative log-likelihood of targets on `rows` rows, drawn anew for every step from a memory
    of `samples` samples of the finished tasks, as many of each; the whole memory where it is smaller. Where the method
    learns from rewards, targets are those of its samples in the prompt's format: the constraint is supervised whatever
    the method is. Nothing is done in the first stage.

    The step that the optimizer takes keeps the constraint if it is a multiple of −g, as in plain SGD. Adam scales every
    parameter by itself, so that the constraint then holds for the gradient that it is given and not for its step.
    """

    needs_finished_tasks: ClassVar[bool] = True

    type: Literal["a-gem"]
    samples: Count = 256
    rows: Rows = 32

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """See `Part.clashes`."""
        still = [one.type for one in arm.regularisers if one.needs_no_weight_decay]
        if still:
            yield (), f"a-gem projects the gradient of everything trained, and {still[0]} then zeroes a part; keep one"

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return AGEMPlugin(self.samples, self.rows)


class AGEMPlugin(Plugin):
    """Takes from the gradient what points against the memory's."""

    def __init__(self, samples: int, rows: int) -> None:
        self.samples, self.rows = samples, rows
        self.memory: list[Row] = []
        self.projected = False
        self.cosine: float | None = None

    def before_stage(self, stage: Stage) -> None:
        """Remember the finished tasks."""
        self.stage, self.step = stage, stage.step
        self.memory = remembered(stage.finished, self.samples)

    def after_backward(self) -> None:
        """See `AGEM`. A parameter without a gradient has one of zeros."""
        if not self.memory:
            return
        parameters = list(self.stage.parameters.values())
        found = zip(parameters, self._reference_gradient(), strict=True)
        pairs = [(parameter, ours) for parameter, ours in found if ours is not None]
        inner = sum(_dot(p.grad, ours) for p, ours in pairs if p.grad is not None)
        square = sum(_dot(ours, ours) for _, ours in pairs)
        own = sum(_dot(p.grad, p.grad) for p in parameters if p.grad is not None)
        self.cosine = inner / math.sqrt(own * square) if own * square > 0 else None
        self.projected = inner < 0
        if not self.projected:
            return
        for parameter, ours in pairs:
            if parameter.grad is None:
                parameter.grad = ours * (-inner / square)
            else:
                parameter.grad.sub_(ours, alpha=inner / square)

    def _reference_gradient(self) -> tuple[torch.Tensor | None, ...]:
        """g_ref, by parameter; None where the memory's loss does not depend on it. Leaves `grad` alone."""
        import torch

        batch = self.stage.batch_of(drawn(self.memory, self.rows, f"{self.stage.seed}/a-gem/{self.step}"))
        self.step += 1
        with without_dropout(self.stage.model):
            loss = nll(self.stage.model, batch)
            return torch.autograd.grad(loss, list(self.stage.parameters.values()), allow_unused=True)

    def metrics(self) -> dict[str, float]:
        """Whether the last step was projected, and the cosine between g and g_ref, where both have a direction."""
        cosine = {} if self.cosine is None else {"cosine": self.cosine}
        return {"projected": float(self.projected)} | cosine


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    import torch

    return float(torch.dot(a.flatten().float(), b.flatten().float()))
