"""What a plan consists of: plain data that can be printed, hashed, pickled and sent to a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cpt.methods.filtering import RIF
from cpt.methods.kl import KL
from cpt.methods.merge import WarpMerge
from cpt.methods.registry import AnyMerge, AnyRegulariser, AnyReplay
from cpt.methods.setting import Schedule
from cpt.methods.targets import Sampled
from cpt.models.tuning.kind import Tuning
from cpt.recipe import AnyMethod, Rollout
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.schema import Attention
from cpt.tasks.limits import completion_limits
from cpt.types import PromptStyle

JOINT = "joint"
"""What the one stage of a joint schedule is called."""


def finished_version(key: str) -> str:
    """What engines call the weights of a finished policy, or of the base model: who pushes them again sends nothing."""
    return f"{key}:final"


@dataclass(frozen=True)
class ModelPlan:
    """The base model.

    Attributes:
        name: as the recipe has it.
        path: its folder, or the id on the Hub.
        fingerprint: of the folder's weights; the id itself for a model on the Hub.
        dtype: resolved; `auto` only where a Hub model's config.json is not in the Hub's cache yet.
        nbytes: size of one copy on disk; None for a Hub model.
        attention: see `cpt.recipe.schema.Model`.
    """

    name: str
    path: str
    fingerprint: str
    dtype: str
    trust_remote_code: bool
    nbytes: int | None = None
    attention: Attention = "auto"

    @property
    def loading(self) -> dict[str, Any]:
        """How this model and every policy made from it are loaded, beside their precision."""
        return {"attention": self.attention, "trust_remote_code": self.trust_remote_code}

    def content(self) -> dict[str, Any]:
        """What identifies the model wherever it lies, and how it computes."""
        named = {} if self.attention == "auto" else {"attention": self.attention}
        content = {"fingerprint": self.fingerprint, "dtype": self.dtype, "trust_remote_code": self.trust_remote_code}
        return content | named


@dataclass(frozen=True)
class EvaluationPlan:
    """What every evaluation of a run generates: test samples per task (stage tasks first), tokens at most of each.

    `data` has a fingerprint of every task's test samples (see `cpt.tasks.fingerprint`).
    """

    samples: Mapping[str, int]
    limits: Mapping[str, int]
    temperature: float
    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def max_tokens(self) -> int:
        """Of any completion."""
        return max(self.limits.values())


@dataclass(frozen=True)
class DriftPlan:
    """Whose prompts tell how far a stage's policy has moved from the base model.

    Attributes:
        groups: `new` (the stage's task), `prior` (the finished ones) and `general` → names of tasks.
        samples: test samples per task; none where nothing is measured.
    """

    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DuringPlan:
    """What a policy in training is asked.

    Attributes:
        steps: of optimization after which it is asked, in order; none where nothing is measured, and never the last.
        samples: test samples per task, the first of those that the finished policy is asked (stage tasks first).
    """

    steps: tuple[int, ...] = ()
    samples: Mapping[str, int] = field(default_factory=dict)

    @property
    def completions(self) -> int:
        """That the whole stage generates for it."""
        return len(self.steps) * sum(self.samples.values())


@dataclass(frozen=True)
class BasePlan:
    """Evaluation of the base model in one prompt style: row 0 of the matrix. The key is that of all seeds."""

    seed: int
    prompt: PromptStyle
    model: ModelPlan
    evaluation: EvaluationPlan
    rollout: Rollout
    key: str = ""


@dataclass(frozen=True)
class Source:
    """Training samples of another task than the stage's own, or of one task among those of a joint stage.

    Attributes:
        samples: unique training samples that its own stage has, or that the recipe grants it.
        reward: what rollouts from its prompts are rewarded for; None for the task's own.
        finished: its stage came before.
    """

    task: str
    samples: int
    reward: RewardSpec | None = None
    finished: bool = False


@dataclass(frozen=True)
class StagePlan:
    """Training on one task and the evaluation after it. Plain data: can be pickled and sent to a worker.

    Attributes:
        arm, family, sweep: see `cpt.recipe.ArmSpec`.
        index: 1-based position of the task in the sequence.
        data_samples: unique training samples; cycled where the steps need more.
        steps: optimizer steps, of all trainings together where there are several.
        batch_samples: training samples (for GRPO: prompts) of one batch.
        global_batch: completions that one optimizer step learns from.
        max_completion_length: tokens per training rollout; None where the method has none.
        max_logprob_gap: bound on |engine − trainer| log-probability, in nats per token; no part of the key.
        parent_key: key of the stage before, or the base model's.
        reward: what rollouts are rewarded for; None for the task's own reward, and for methods without rollouts.
        schedule: see `cpt.recipe.schema.Arm`. A joint stage's task is called `joint`, its index that of the last task.
        finished: the tasks of the stages before, in order; without their rewards.
        sources: where replayed samples come from, and for a joint stage all samples.
        evaluation, drift: what is measured on the finished policy; no part of the key.
        during: what is measured on the policy in training; no part of the key, because it leaves the policy as it is.
        filter: which of the `data_samples` are trained on; None for all. `steps` are the same either way.
        filter_reward: what the filter's rollouts are rewarded for; None for the task's own reward.
        kl: nearness to a reference policy, its folder absolute; None for no such term.
        merge: what becomes of the policy at the stage's end; None leaves it as it was trained.
        run: 0-based number of the training among those that `merge: warp` makes of a stage; see `trainings`.
        rollouts_key: key of the stage whose rollouts are imitated (`cpt.methods.targets.SavedRollouts`).
        leaves_rollouts: whether to write rollouts.jsonl, because another arm of the recipe imitates them.
        data: a fingerprint of the training samples of every task in `reads` (see `cpt.tasks.fingerprint`).
    """

    arm: str
    family: str
    sweep: Mapping[str, Any]
    seed: int
    index: int
    task: str
    model: ModelPlan
    method: AnyMethod
    prompt: PromptStyle
    tuning: Tuning
    freeze: tuple[str, ...]
    trainer_args: Mapping[str, Any]
    data_samples: int
    steps: int
    batch_samples: int
    global_batch: int
    max_completion_length: int | None
    evaluation: EvaluationPlan
    rollout: Rollout
    max_logprob_gap: float
    parent_key: str
    key: str = ""
    regularisers: tuple[AnyRegulariser, ...] = ()
    reward: RewardSpec | None = None
    schedule: Schedule = "sequential"
    finished: tuple[Source, ...] = ()
    replay: AnyReplay | None = None
    sources: tuple[Source, ...] = ()
    drift: DriftPlan = DriftPlan()
    during: DuringPlan = DuringPlan()
    filter: RIF | None = None
    filter_reward: RewardSpec | None = None
    kl: KL | None = None
    merge: AnyMerge | None = None
    run: int = 0
    rollouts_key: str | None = None
    leaves_rollouts: bool = False
    data: Mapping[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> dict[str, int]:
        """Whose training samples the stage reads, and how many; those of the stages before are in their own keys."""
        found: dict[str, int] = {} if self.schedule == "joint" else {self.task: self.data_samples}
        for source in self.sources:
            found[source.task] = max(source.samples, found.get(source.task, 0))
        return found

    @property
    def from_base(self) -> bool:
        """Whether it starts from the base model, whatever its position."""
        return self.index == 1 or self.schedule != "sequential"

    @property
    def weights_dtype(self) -> str:
        """Precision of the policy's weights, in memory and in its folder."""
        return self.tuning.weights_dtype(self.model.dtype)

    @property
    def filter_limit(self) -> int:
        """Tokens per rollout of a filter: training's, or what the styles of a method without rollouts take."""
        styles = self.method.styles(self.prompt)
        limits = completion_limits(self.reads)
        return self.max_completion_length or max(limits[style] for style in styles)

    @property
    def rollout_limits(self) -> tuple[int, ...]:
        """Tokens that are sampled at most after a prompt of the stage: in its training, and to choose its samples."""
        own = () if self.max_completion_length is None else (self.max_completion_length,)
        return own if self.filter is None else (*own, self.filter_limit)

    @property
    def sampled_before(self) -> int:
        """Completions that are sampled before the training, to choose its samples."""
        return 0 if self.filter is None else self.data_samples * self.filter.rollouts

    @property
    def may_leave_out(self) -> bool:
        """Whether only the stage itself finds out which of its samples it trains on."""
        data = getattr(self.method, "data", None)
        return self.filter is not None or (isinstance(data, Sampled) and data.fallback == "drop")

    @property
    def stream(self) -> str:
        """What everything random in a training is derived from; knows nothing of the arm."""
        return f"{self.seed}/{self.index}" + (f"/{self.run}" if self.run else "")

    @property
    def trainings(self) -> list[StagePlan]:
        """The stage itself; with `merge: warp` its trainings from one start, the last of which merges them all."""
        if not isinstance(self.merge, WarpMerge):
            return [self]
        runs = self.merge.runs
        one = replace(self, steps=self.steps // runs, merge=None)
        return [replace(one, run=run) for run in range(runs - 1)] + [replace(one, run=runs - 1, merge=self.merge)]

    @property
    def label(self) -> str:
        """How logs and errors name the stage."""
        return f"{self.arm}, seed {self.seed}, stage {self.index} ({self.task})"

    def as_dict(self) -> dict[str, Any]:
        """Plain data for stage.json and plan.json."""
        content: dict[str, Any] = plain(self)
        return content


def plain(thing: Any) -> Any:
    """Dataclasses and recipe models as JSON data."""
    if hasattr(thing, "model_dump"):
        return thing.model_dump(mode="json")
    if hasattr(thing, "__dataclass_fields__"):
        return {name: plain(getattr(thing, name)) for name in thing.__dataclass_fields__}
    if isinstance(thing, Mapping):
        return {key: plain(value) for key, value in thing.items()}
    return [plain(item) for item in thing] if isinstance(thing, list | tuple) else thing
