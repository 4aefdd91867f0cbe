"""SDFT: on-policy like the policy gradients, but taught by demonstrations and not by rewards.

Without a demonstration the policy learns to say what it would say with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from cpt.methods.divergence import interpolated_kl
from cpt.methods.ema import WithAverage
from cpt.methods.likelihood import completion_logits, row_means
from cpt.methods.plugin import Batch, Plugin, Stage
from cpt.methods.running import Means
from cpt.methods.setting import BaseMethod, BatchSize, Count, Decay, LearningRate, Proportion, Rows, SamplingTemperature
from cpt.methods.snapshot import Snapshot
from cpt.types import PromptStyle, TargetStyle

if TYPE_CHECKING:
    import torch
    from torch import nn

Teacher = Literal["ema", "stage_start", "live"]

PLACE = "{demonstration}"
_DECAY = 0.99


class SDFT(BaseMethod):
    """Self-distillation fine-tuning (arXiv 2601.19897).

    The policy answers the plain prompt. Its teacher is the policy itself, asked the same with a demonstration, which is
    a gold answer to this very question. The loss is the divergence between what the two predict at every token of the
    completion, over the whole vocabulary and at temperature 1, a mean over a completion's tokens and then over
    completions; the teacher gets no gradient. Rewards have no part in it. They are computed and logged as for any other
    rollouts.

    `distillation_alpha`, as in TRL and GKD: 0 is KL(teacher ‖ policy), 1 is KL(policy ‖ teacher), between them see
    `cpt.methods.divergence.interpolated_kl`. The paper derives 1; by its second version and the note in its repository
    its results were made with 0, which is the default here. TRL's is 0.5 over the student's 100 likeliest tokens.

    `teacher`: `ema`, the average of the policy over its steps, θ̄ ← decay · θ̄ + (1 − decay) · θ after each of them, from
    the stage's start (the paper; 0.99 is the released code's, under LoRA it averages the adapter's factors);
    `stage_start`, the policy that the stage starts from (TRL's default, `base`); `live`, the policy as it is.

    `demonstration` follows the question, in the same turn, with the gold answer in `target_style` at {demonstration}.
    The default is the paper's text without its end, which asks for a thinking process: here the prompt style says
    whether to think. `policy` is the format that the prompt asks for: another one would teach another format.
    `num_loss_tokens_to_skip` leaves a completion's first tokens out of the loss; the released code skips 3, against
    phrases such as "Based on the example". Here it is 0: three tokens are most of a short answer.

    One completion per prompt and one optimizer step per batch of them, as in the paper, whose grids hold the learning
    rate and the batch. The released code also weighs tokens by the ratio of trainer's and engine's probabilities; here
    none are weighed, because which token was sampled at a place does not change the divergence there.

    It runs on the policy gradients' trainer. TRL's SDFTTrainer (1.16) takes no pictures.

    Costs a forward pass of the teacher, and a copy of what is trained unless it is `live`.
    """

    own: ClassVar[frozenset[str]] = BaseMethod.own | {
        "max_completion_length", "distillation_alpha", "num_loss_tokens_to_skip", "teacher", "decay", "target_style",
        "demonstration",
    }  # fmt: skip
    trl_config: ClassVar[tuple[str, str]] = ("base_config", "_BaseConfig")  # GRPOConfig's own fields are its loss's
    needs_rollouts: ClassVar[bool] = True

    type: Literal["sdft"]
    learning_rate: LearningRate = 1e-5
    per_device_train_batch_size: Rows = 32
    num_generations: Rows = 1
    max_completion_length: Count | None = None  # null: the prompt style's
    temperature: SamplingTemperature = 1.0  # of the completions
    distillation_alpha: Proportion = 0.0
    num_loss_tokens_to_skip: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    teacher: Teacher = "ema"
    decay: Decay | None = None  # of `ema` alone; null: 0.99
    target_style: TargetStyle = "policy"
    demonstration: str = (
        f"This is an example for a response to the question:\n{PLACE}\n\nNow answer with a response of your own."
    )

    @property
    def title(self) -> str:
        """Its name, and the teacher where that is not the average."""
        return "sdft" if self.teacher == "ema" else f"sdft ({self.teacher})"

    def completion_limit(self, prompt: PromptStyle, limits: Mapping[PromptStyle, int]) -> int | None:
        """`max_completion_length`, or the style's usual limit."""
        return self.max_completion_length or limits[prompt]

    def styles(self, prompt: PromptStyle) -> set[PromptStyle]:
        """A policy whose teacher is shown how to reason may come to do so."""
        return {prompt, "think"} if self.target_style == "think" else {prompt}

    def batch(self) -> BatchSize:
        """A batch holds `num_generations` rows per prompt."""
        rows = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return BatchSize(samples=rows // self.num_generations, completions=rows, steps=1)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Also: groups must be whole, and there must be a demonstration."""
        yield from super().problems()
        rows = self.per_device_train_batch_size * self.gradient_accumulation_steps
        if rows % self.num_generations:
            yield (
                "per_device_train_batch_size",
                f"{rows} completions of an optimizer step are not divisible by num_generations {self.num_generations}; "
                "batch size × gradient_accumulation_steps must hold whole groups",
            )
        elif rows == 1:
            yield "per_device_train_batch_size", "a batch of rollouts needs two completions or more; set 2"
        if self.demonstration.count(PLACE) != 1:
            yield "demonstration", f"is the text that shows the gold answer to the teacher; write {PLACE} in it once"
        if self.teacher != "ema" and self.decay is not None:
            yield "decay", f"belongs to teacher: ema, not to {self.teacher}; set that, or remove it"

    def shown(self, answer: str) -> str:
        """What the teacher reads after the question."""
        return self.demonstration.replace(PLACE, answer)

    def plugin(self) -> Plugin:
        """The loss and its teacher, fresh for one stage."""
        decay = _DECAY if self.decay is None else self.decay
        return Distillation(self.distillation_alpha, self.num_loss_tokens_to_skip, self.teacher, decay)

    def trl_arguments(self) -> dict[str, Any]:
        """Also fills in what reaches further than the loss of GRPOTrainer, which is not used."""
        return super().trl_arguments() | {
            "steps_per_generation": self.gradient_accumulation_steps,
            "num_iterations": 1,
            "beta": 0.0,
            "scale_rewards": "none",
            "mask_truncated_completions": False,
            "vllm_importance_sampling_correction": False,
        }


class Distillation(WithAverage):
    """The loss of `SDFT` as a term, and its teacher.

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
