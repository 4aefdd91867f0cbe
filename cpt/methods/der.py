"""Dark experience replay: what the policy said of finished tasks' samples is to stay as it was, logit by logit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from safetensors import safe_open

from cpt.methods.likelihood import completion_logits, row_means, row_nlls
from cpt.methods.memory import Row, drawn, remembered, without_dropout
from cpt.methods.plugin import Plugin, Stage
from cpt.methods.setting import Count, Factor, Rows, Setting, Weight

if TYPE_CHECKING:
    from pathlib import Path

    import torch

FILE = "logits.safetensors"


class DER(Setting):
    """α · mean (z − h_θ(x))² + β · −log π(y | x) over remembered samples (DER and DER++, arXiv 2004.07211).

    α is `coefficient`, β is `plus`: 0 for DER, above for DER++. x, y are a sample and its target, z the logits of the
    policy that finished the sample's stage, h_θ(x) the present ones, both over the vocabulary at every token of the
    target. The square is a mean over the vocabulary, as in the authors' code (the paper's equation has the sum), over a
    target's tokens, and over `rows` rows, drawn anew for every step from a memory of `samples` samples, as many of each
    finished task; the whole memory where it is smaller. Nothing is added in the first stage.

    The paper keeps the logits of the moment when a sample is trained on; here they are those of its stage's end. DER++
    draws other rows for its second term; here both terms have one forward pass on the same rows. Where the method
    learns from rewards, targets are those of its samples in the prompt's format, which the policy need not follow.

    Logits are stored in float16, 2 · tokens · vocabulary bytes a sample: with Qwen2.5-VL's vocabulary 3 MB for a target
    of ten tokens and 30 MB for one of a hundred. They stay on disk until a step needs them.
    """

    needs_finished_tasks: ClassVar[bool] = True

    type: Literal["der"]
    coefficient: Factor = 0.5
    samples: Count = 256
    rows: Rows = 16
    plus: Weight = 0.0

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return DERPlugin(self)


class DERPlugin(Plugin):
    """Reads the logits that earlier stages have left, and leaves them with this one's to the next."""

    def __init__(self, setting: DER) -> None:
        self.setting = setting
        self.memory: list[Row] = []
        self.last: dict[str, float] = {"mse": 0.0}

    def before_stage(self, stage: Stage) -> None:
        """Remember the finished tasks."""
        self.stage, self.step = stage, stage.step
        self.memory = remembered(stage.finished, self.setting.samples)
        assert not self.memory or stage.earlier is not None, "the stage before has left no logits"

    def penalty(self) -> torch.Tensor | None:
        """See `DER`."""
        if not self.memory:
            return None
        rows = drawn(self.memory, self.setting.rows, f"{self.stage.seed}/der/{self.step}")
        self.step += 1
        batch = self.stage.batch_of(rows)
        with without_dropout(self.stage.model):
            logits, ids, places = completion_logits(self.stage.model, batch)
        before = self._stored(rows, logits.device)
        assert before.shape == logits.shape, "a remembered target has changed"
        squares = (logits.float() - before).square().mean(dim=1)
        mse = row_means(squares, places, len(rows)).mean()
        self.last = {"mse": float(mse.detach())}
        loss = self.setting.coefficient * mse
        if self.setting.plus:
            nll = row_nlls(logits, ids, places, len(rows)).mean()
            self.last["nll"] = float(nll.detach())
            loss = loss + self.setting.plus * nll
        return loss

    def _stored(self, rows: list[Row], device: torch.device) -> torch.Tensor:
        """Logits of these rows' target tokens, one after another, in float32. [N, V]"""
        import torch

        with _opened(self.stage.earlier) as file:
            return torch.cat([file.get_tensor(_key(row)) for row in rows]).to(device).float()

    def after_stage(self, stage: Stage) -> None:
        """Leave the logits of what is remembered from now on, this stage's task included."""
        memory = remembered([*stage.finished, (stage.task, stage.samples)], self.setting.samples)
        own = [row for row in memory if row[0] == stage.task]
        logits = {}
        if self.memory:
            with _opened(stage.earlier) as file:
                logits = {_key(row): file.get_tensor(_key(row)) for row in memory if row[0] != stage.task}
        for start in range(0, len(own), self.setting.rows):
            logits |= self._said(stage, own[start : start + self.setting.rows])
        stage.leave(FILE, logits)

    def _said(self, stage: Stage, rows: list[Row]) -> dict[str, torch.Tensor]:
        import torch

        with torch.no_grad(), without_dropout(stage.model):
            logits, _, places = completion_logits(stage.model, stage.batch_of(rows))
        return {_key(row): logits[places == i].to("cpu", torch.float16) for i, row in enumerate(rows)}

    def metrics(self) -> dict[str, float]:
        """Mean squared error of the last step's rows; with `plus`, their negative log-likelihood in nats per token."""
        return dict(self.last)


def _key(row: Row) -> str:
    task, number = row
    return f"{task}/{number}"


def _opened(folder: Path | None) -> Any:
    assert folder is not None
    return safe_open(folder / FILE, framework="pt")
