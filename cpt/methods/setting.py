"""What a recipe may say of an arm: the base classes of its parts, and what they may know of each other.

Settings of methods have TRL's names. Their defaults are in these classes and end up in the resolved recipe, so that
nothing that influences a comparison is left to a trainer's default.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

from pydantic import Field

from cpt.common.keys import Problem
from cpt.common.strict import Strict
from cpt.methods.plugin import Plugin
from cpt.types import PromptStyle

# What a recipe may ask for at most: far beyond any run there has been, and still something that a machine can try.
Count = Annotated[int, Field(gt=0, le=10_000_000)]
"""Of samples, steps or tokens."""
Rows = Annotated[int, Field(gt=0, le=65_536)]
"""That go through the model together, or completions of one prompt."""
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Of a generator of random numbers."""
Factor = Annotated[float, Field(gt=0, le=1e9)]
"""What something is multiplied by or bounded to."""
Weight = Annotated[float, Field(ge=0, le=1e9)]
"""A factor that may be 0."""
Temperature = Annotated[float, Field(ge=0.01, le=100)]
"""Of a softmax. Below it logits overflow, above it all is alike."""
MAX_TEMPERATURE = 2.0
"""That completions are sampled at: vLLM's limit, and so everybody's."""
SamplingTemperature = Annotated[float, Field(ge=0.01, le=MAX_TEMPERATURE)]
Decay = Annotated[float, Field(gt=0, lt=1)]
"""Of an exponential moving average."""
Proportion = Annotated[float, Field(ge=0, le=1)]
"""Of a whole, both ends included."""
LearningRate = Annotated[float, Field(gt=0, le=100)]
Schedule = Literal["sequential", "joint", "single"]


class Part(Strict):
    """A part of an arm: its method, a regulariser, its replay, … A new one says itself what it does not go with."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Keys of this part that contradict each other: (key, what to change)."""
        yield from ()

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """What this part does not go with in its arm: (path below the part, what to change)."""
        yield from ()


class Tuning(Protocol):
    """Which parameters are trained.

    Attributes:
        trains_weights: whether they are weights of the plain model, which mean the same in every stage.
        low_rank: whether they are factors A and B, under the names that PEFT gives them.
        to_merge: what a recipe has to say so that the next stage starts from plain weights.
    """

    trains_weights: ClassVar[bool]
    low_rank: ClassVar[bool]
    to_merge: ClassVar[str]

    @property
    def merged_between_stages(self) -> bool:
        """Whether the next stage starts from plain weights that what was trained has been merged into."""
        ...


@dataclass(frozen=True)
class BatchSize:
    """One batch of data and what is done with it.

    Attributes:
        samples: training samples (for GRPO: prompts) in it.
        completions: rows that go through the policy.
        steps: optimizer steps taken before the next batch is drawn.
    """

    samples: int
    completions: int
    steps: int


class BaseMethod(Part):
    """What every trainer shares. Names, units and meaning are those of `transformers.TrainingArguments`.

    By default the schedule is constant without warm-up and there is no weight decay, for every method alike. SFT and RL
    recipes in the literature differ in these (cosine for SFT, constant for RL), which would mix two causes in one
    comparison.
    """

    # Settings of ours that are no argument of TRL's config.
    own: ClassVar[frozenset[str]] = frozenset({"type", "max_steps", "num_train_epochs"})
    trl_config: ClassVar[tuple[str, str]]  # module in trl.trainer and class name
    needs_rollouts: ClassVar[bool]

    type: str
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
    adam_beta1: Decay = 0.9
    adam_beta2: Decay = 0.999
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
    def batch(self) -> BatchSize:
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
        """See `Part.problems`."""
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


class Setting(Part):
    """What a recipe says of one plug-in. `type` names it."""

    needs_full_tuning: ClassVar[bool] = False
    needs_lora: ClassVar[bool] = False
    needs_new_adapters: ClassVar[bool] = False  # an adapter of its own in every stage
    needs_no_weight_decay: ClassVar[bool] = False  # which moves parameters that have no gradient
    needs_finished_tasks: ClassVar[bool] = False  # samples of the stages before
    needs_second_task: ClassVar[bool] = False  # a stage that starts from another stage's policy
    beside_group_scale: ClassVar[str] = ""  # where it changes the reward: what lets GRPO divide by a group's deviation

    type: str

    @property
    def changes_reward(self) -> bool:
        """Whether it changes the reward, which only methods with rollouts have."""
        return False

    @property
    def own_deviation(self) -> bool:
        """Whether it says what advantages are divided by (`Plugin.deviation`)."""
        return False

    @abstractmethod
    def plugin(self) -> Plugin:
        """A fresh one for one stage."""


@dataclass(frozen=True, kw_only=True)
class ArmView(ABC):
    """What the parts of an arm may know of it. `cpt.recipe.arms.ArmSpec` is the whole of it.

    Attributes:
        tasks: name and unique training samples of each stage, in order.
    """

    name: str
    family: str
    tasks: tuple[tuple[str, int], ...]
    method: BaseMethod
    prompt: PromptStyle
    tuning: Tuning
    regularisers: tuple[Setting, ...] = ()
    schedule: Schedule = "sequential"
    replay: Part | None = None
    filter: Part | None = None
    kl: Setting | None = None
    merge: Part | None = None

    @property
    def reward_changes(self) -> list[Setting]:
        """The plug-ins that change the reward."""
        return [one for one in (*self.regularisers, self.kl) if one is not None and one.changes_reward]

    @abstractmethod
    def known_tasks(self) -> Collection[str]:
        """All tasks that there are."""

    @abstractmethod
    def components(self, task: str) -> Mapping[str, float | None]:
        """What it is rewarded for on a task: weights by name, None where the task does not tell; none if unknown."""
