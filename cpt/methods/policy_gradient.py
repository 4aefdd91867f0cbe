"""What GRPO and its relatives share. Each is a class in a file of its own, or beside the one that it is a variant of.

Arms that differ in the estimator differ in nothing else: all of them, RLOO too, run on TRL's GRPOTrainer. (TRL's
RLOOTrainer has its KL in the reward, no correction for the engine's log-probabilities, and one clipped ratio per
completion.) What a definition fixes is a setting with one possible value, so that the resolved plan says it. As long as
every batch of rollouts serves one optimizer step, all probability ratios are 1 and no clip range acts;
`steps_per_generation` and `num_iterations` change that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cpt.methods.advantages import GROUP_MEAN, Baseline, Scale
from cpt.methods.setting import BaseMethod, BatchSize, Count, Factor, LearningRate, Rows, SamplingTemperature, Weight
from cpt.types import PromptStyle

LossType = Literal["grpo", "bnpo", "dr_grpo", "dapo"]
"""The losses of what takes REINFORCE's one step."""


class PolicyGradient(BaseMethod):
    """A method that learns from rewards of its own completions, by its advantages and its loss.

    Defaults that differ from TRL's: `loss_type` grpo is the mean over each completion's tokens (TRL: dapo, a mean over
    the batch's tokens); `use_bias_correction_kl` false is the k3 estimator of GRPO's paper; importance weights between
    engine and trainer are truncated per token, never masked, so no sample drops out unseen. `beta` is 0: a KL term is a
    factor to compare, not a default. The learning rate is that of arXiv 2507.05386.

    `per_device_train_batch_size` counts completions. Nothing truncates the sampling distribution (no top-p, top-k,
    min-p): log-probabilities of the trainer and the engine would no longer belong to the same distribution.
    """

    own: ClassVar[frozenset[str]] = BaseMethod.own | {"max_completion_length"}
    trl_config: ClassVar[tuple[str, str]] = ("grpo_config", "GRPOConfig")
    needs_rollouts: ClassVar[bool] = True
    baseline: ClassVar[Baseline] = GROUP_MEAN  # what a reward is compared with (`cpt.methods.advantages`)

    learning_rate: LearningRate = 1e-6
    per_device_train_batch_size: Rows = 128
    num_generations: Annotated[int, Field(ge=2, le=65_536)] = 8
    max_completion_length: Count | None = None  # null: the prompt style's
    temperature: SamplingTemperature = 1.0
    steps_per_generation: Rows | None = None  # forward passes served by one generation; null: one optimizer step
    num_iterations: Rows = 1
    beta: Weight = 0.0
    use_bias_correction_kl: bool = False
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo"] = "grpo"
    epsilon: Factor = 0.2
    epsilon_high: Factor | None = None  # null: the same as epsilon
    delta: Factor | None = None
    scale_rewards: Scale = "group"
    importance_sampling_level: Literal["token", "sequence"] = "token"
    mask_truncated_completions: bool = False
    vllm_importance_sampling_correction: bool = True
    vllm_importance_sampling_mode: Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"] = (
        "token_truncate"
    )
    vllm_importance_sampling_clip_max: Factor = 3.0
    vllm_importance_sampling_clip_min: Factor | None = None

    @property
    def title(self) -> str:
        """Its name."""
        return self.type

    @property
    def forward_passes(self) -> int:
        """Forward passes (`steps_per_generation`) that one generation serves, the default filled in."""
        return self.steps_per_generation or self.gradient_accumulation_steps

    def completion_limit(self, prompt: PromptStyle, limits: Mapping[PromptStyle, int]) -> int | None:
        """`max_completion_length`, or the style's usual limit."""
        return self.max_completion_length or limits[prompt]

    def batch(self) -> BatchSize:
        """A batch holds `num_generations` rows per prompt, and serves `num_iterations` epochs of optimizer steps."""
        rows = self.per_device_train_batch_size * self.forward_passes
        steps = self.forward_passes // self.gradient_accumulation_steps * self.num_iterations
        return BatchSize(samples=rows // self.num_generations, completions=rows, steps=steps)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Also: groups must be whole, and a generation must serve whole optimizer steps."""
        yield from super().problems()
        rows = self.per_device_train_batch_size * self.forward_passes
        if rows % self.num_generations:
            yield (
                "per_device_train_batch_size",
                f"{rows} completions per generation are not divisible by num_generations {self.num_generations}; "
                "batch size × steps_per_generation must hold whole groups",
            )
        if self.forward_passes % self.gradient_accumulation_steps:
            yield (
                "steps_per_generation",
                f"{self.forward_passes} must be a multiple of gradient_accumulation_steps "
                f"{self.gradient_accumulation_steps}",
            )
        low = self.vllm_importance_sampling_clip_min
        if low is not None and low >= self.vllm_importance_sampling_clip_max:
            yield "vllm_importance_sampling_clip_min", "must be below vllm_importance_sampling_clip_max"

    def trl_arguments(self) -> dict[str, Any]:
        """Also fills in `steps_per_generation` and `epsilon_high`, which TRL would derive in silence."""
        arguments = super().trl_arguments()
        arguments["steps_per_generation"] = self.forward_passes
        arguments["epsilon_high"] = self.epsilon if self.epsilon_high is None else self.epsilon_high
        return arguments
