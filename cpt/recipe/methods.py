"""The ways of training an arm can name: one class each, every setting explicit, named as in TRL's configs.

GRPO's relatives are in `cpt.recipe.estimators`. A new method is one class and one name in `cpt.recipe.registry`. Our
own defaults are written below and end up in the resolved plan: nothing that influences a comparison is left to a
trainer's default.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from cpt.methods.advantages import Baseline, Scale
from cpt.methods.plugin import Count, Factor, Rows, Strict, Temperature, Weight
from cpt.methods.targets import Gold, SavedRollouts, SelfSampled, Targets
from cpt.types import PromptStyle, TargetStyle

Share = Annotated[float, Field(gt=0, lt=1)]
LearningRate = Annotated[float, Field(gt=0, le=100)]


@dataclass(frozen=True)
class Batch:
    """One batch of data and what is done with it.

    Attributes:
        samples: training samples (for GRPO: prompts) in it.
        completions: rows that go through the policy.
        steps: optimizer steps taken before the next batch is drawn.
    """

    samples: int
    completions: int
    steps: int


class BaseMethod(Strict):
    """What every trainer shares. Names, units and meaning are those of `transformers.TrainingArguments`.

    The schedule is constant without warm-up and there is no weight decay, for every method alike: SFT and RL recipes
    in the literature differ in these (cosine for SFT, constant for RL), which would mix two causes in one comparison.
    """

    # Settings of ours that are no argument of TRL's config.
    own: ClassVar[frozenset[str]] = frozenset({"type", "max_steps", "num_train_epochs"})
    trl_config: ClassVar[tuple[str, str]]  # module in trl.trainer and class name
    needs_rollouts: ClassVar[bool]

    max_steps: Count | None = None
    num_train_epochs: Annotated[float, Field(gt=0, le=100_000)] | None = None
    learning_rate: LearningRate
    per_device_train_batch_size: Rows
    gradient_accumulation_steps: Rows = 1
    lr_scheduler_type: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant"
    warmup_steps: Annotated[float, Field(ge=0, le=10_000_000)] = 0.0  # below 1: a share of all steps
    weight_decay: Weight = 0.0
    max_grad_norm: Factor = 1.0
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "sgd"] = "adamw_torch_fused"
    adam_beta1: Share = 0.9
    adam_beta2: Share = 0.999
    adam_epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-8
    save_steps: Count | None = None  # checkpoint inside a stage every n steps; null: only the stage's end
    save_total_limit: Count = 1  # checkpoints of the running stage that are kept
    logging_steps: Count = 1

    @property
    def needs_pool(self) -> bool:
        """Whether training samples completions, for whatever purpose."""
        return self.needs_rollouts

    @property
    @abstractmethod
    def title(self) -> str:
        """What a table calls the method."""

    @abstractmethod
    def batch(self) -> Batch:
        """One batch of data on one training process."""

    def completion_limit(self, prompt: PromptStyle, limits: Mapping[PromptStyle, int]) -> int | None:
        """Tokens per training rollout under `prompt`, given each style's usual limit; None without rollouts."""
        return None

    def styles(self, prompt: PromptStyle) -> set[PromptStyle]:
        """Styles in which the trained policy may answer `prompt`: evaluation must not cut the longest one off."""
        return {prompt}

    def steps(self, samples: int) -> int:
        """Optimizer steps of a stage with this many unique training samples; an incomplete last batch is filled up."""
        if self.max_steps is not None:
            return self.max_steps
        batch = self.batch()
        batches = math.ceil((self.num_train_epochs or 1.0) * math.ceil(samples / batch.samples))
        return batches * batch.steps

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that contradict each other: (key, what to change)."""
        if self.max_steps is not None and self.num_train_epochs is not None:
            yield "num_train_epochs", "excludes max_steps; keep one of the two"
        if self.lr_scheduler_type == "constant" and self.warmup_steps:
            yield "warmup_steps", "a constant schedule ignores it; use lr_scheduler_type: constant_with_warmup"
        if self.warmup_steps >= 1 and self.warmup_steps != int(self.warmup_steps):
            yield "warmup_steps", "a number of steps is whole; below 1 it is a share of all steps"

    def trl_arguments(self) -> dict[str, Any]:
        """The settings that go to TRL's config under the same names; steps and lengths are the plan's to add."""
        arguments = self.model_dump(exclude=set(self.own))
        arguments["save_strategy"] = "no" if self.save_steps is None else "steps"
        if self.save_steps is None:
            del arguments["save_steps"]
        return arguments


class SFT(BaseMethod):
    """Supervised fine-tuning; the loss covers the completion only.

    `data` says whose answers are imitated, gold ones unless it says otherwise (`cpt.methods.targets`). Of gold answers
    `target_style` is the style: `dataset` the bare answer, `policy` the format that the prompt asks for, `think` the
    worked solution. The default learning rate is that of arXiv 2507.05386.
    """

    own: ClassVar[frozenset[str]] = BaseMethod.own | {"target_style", "data"}
    trl_config: ClassVar[tuple[str, str]] = ("sft_config", "SFTConfig")
    needs_rollouts: ClassVar[bool] = False

    type: Literal["sft"]
    target_style: TargetStyle = "policy"
    data: Targets = Gold(type="gold")
    learning_rate: LearningRate = 1e-5
    per_device_train_batch_size: Rows = 64
    loss_type: Literal["nll", "dft"] = "nll"

    @property
    def title(self) -> str:
        """Names what is imitated: it decides as much as the method."""
        if isinstance(self.data, SavedRollouts):
            return f"sft (rollouts of {self.data.arm})"
        if isinstance(self.data, SelfSampled):
            return "sft (self)" if self.data.refresh == "stage" else "sft (self, each epoch)"
        return f"sft ({self.target_style})"

    @property
    def needs_pool(self) -> bool:
        """Only the policy's own answers have to be sampled."""
        return isinstance(self.data, SelfSampled)

    def completion_limit(self, prompt: PromptStyle, limits: Mapping[PromptStyle, int]) -> int | None:
        """Of the policy's own answers."""
        if not isinstance(self.data, SelfSampled):
            return None
        return self.data.max_completion_length or limits[prompt]

    def styles(self, prompt: PromptStyle) -> set[PromptStyle]:
        """A policy taught to reason does so whatever the prompt asks for."""
        return {prompt, "think"} if self.target_style == "think" else {prompt}

    def batch(self) -> Batch:
        """A batch holds one row per sample."""
        rows = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return Batch(samples=rows, completions=rows, steps=1)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Also: sampled completions are in whatever style they are."""
        yield from super().problems()
        if self.data.type != "gold" and self.target_style != "policy":
            yield "target_style", f"is the style of gold answers, and data.type is {self.data.type}; leave it out"


class PolicyGradient(BaseMethod):
    """What GRPO and its relatives share: all of them run on TRL's GRPOTrainer and differ in advantages and loss.

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
    baseline: ClassVar[Baseline] = "group_mean"  # what a reward is compared with (`cpt.methods.advantages`)

    type: str
    learning_rate: LearningRate = 1e-6
    per_device_train_batch_size: Rows = 128
    num_generations: Annotated[int, Field(ge=2, le=65_536)] = 8
    max_completion_length: Count | None = None  # null: the prompt style's
    temperature: Temperature = 1.0
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

    def batch(self) -> Batch:
        """A batch holds `num_generations` rows per prompt, and serves `num_iterations` passes of optimizer steps."""
        rows = self.per_device_train_batch_size * self.forward_passes
        steps = self.forward_passes // self.gradient_accumulation_steps * self.num_iterations
        return Batch(samples=rows // self.num_generations, completions=rows, steps=steps)

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


class GRPO(PolicyGradient):
    """Group relative policy optimisation (arXiv 2402.03300, equation 3).

    A = (r − mean of the group) / (std of the group + 1e-4), unbiased std; `scale_rewards: none` leaves the division
    out, `batch` takes the std of the batch. The loss is a mean over each completion's tokens.
    """

    type: Literal["grpo"]

    @property
    def title(self) -> str:
        """Its name, and how rewards are scaled where that is not GRPO's own way."""
        return {"group": "grpo", "batch": "grpo (batch std)", "none": "grpo (no std)"}[self.scale_rewards]
