"""What a recipe may say. Loading, overrides and checks are in `cpt.recipe.load`, sweeps in `cpt.recipe.arms`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeInt,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from cpt.common.keys import Key, KeyPath, dotted
from cpt.common.strict import Strict
from cpt.methods.filtering import Filter
from cpt.methods.kl import KL
from cpt.methods.registry import Merge, Method, Regulariser, Replay
from cpt.methods.setting import MAX_TEMPERATURE, Count, Factor, Rows, Schedule, Seed
from cpt.models.tuning.full import Full
from cpt.models.tuning.registry import AnyTuning
from cpt.recipe.during import During
from cpt.recipe.rewards import Reward
from cpt.recipe.source import RecipeError, Written
from cpt.tasks import task_names
from cpt.tasks.definition import TaskDefinition, without_places
from cpt.tasks.registry import at_most
from cpt.types import PromptStyle, Split

VERSION = 1
Scalar = bool | int | float | str
Frozen = Literal["vision_tower", "projector"]
Attention = Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"]
MAX_SEEDS = 1000
Asked = Annotated[int, Field(gt=0, le=1_000_000)]
"""Test samples of one task: at a million, an interval is ± 0.1 points."""
ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]

# What may change between two invocations of one run, because it leaves the policies as they are: how many engines share
# the requests, what hardware is asked for, how often a stage is saved, when a run is stopped, and what is measured on
# finished policies. A task's `evaluation_samples` belongs here, too (`without_neutral`).
NEUTRAL = frozenset(
    {
        ("rollout", "engines"),
        ("rollout", "max_logprob_gap"),
        ("rollout", "gpu_memory_utilization"),
        ("resources",),
        ("reward_sets",),
        ("evaluation",),
        ("general",),
        ("drift",),
        ("method", "save_steps"),
        ("method", "save_total_limit"),
    }
)


def _named(key: str) -> BeforeValidator:
    """Lets a bare string stand for a mapping with that one key."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


Tuning = Annotated[AnyTuning, Field(discriminator="type"), _named("type")]


class Model(Strict):
    """The policy every arm starts from: `builtin/…`, a local Hugging Face folder, or `org/name` on the Hub.

    `dtype: auto` is the one in the model's own config.json. `attention` names one of transformers' implementations, for
    training and the engine `hf`; `auto` is the one that transformers chooses, and the built-in model's own for that.
    """

    name_or_path: Annotated[str, Field(min_length=1)]
    tuning: Tuning = Full(type="full")
    freeze: list[Frozen] = Field(default_factory=list)
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Attention = "auto"
    trust_remote_code: bool = False


class AnyTask(TaskDefinition):
    """A task by its name, or its definition."""

    @property
    def definition(self) -> TaskDefinition:
        """The definition alone, without what a recipe adds."""
        said = {name: getattr(self, name) for name in self.model_fields_set & TaskDefinition.model_fields.keys()}
        return TaskDefinition.model_validate(said)

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Of one that is only named, nothing that belongs to a definition."""
        content: dict[str, Any] = handler(self)
        left_out = () if self.is_definition else set(TaskDefinition.model_fields) - {"name"}
        return {key: value for key, value in content.items() if key not in left_out}


class StageTask(AnyTask):
    """A task to train on.

    `samples`, `evaluation_samples` and `reward` override `data.samples`, `evaluation.samples` and the recipe's reward.
    """

    samples: Count | None = None
    evaluation_samples: Asked | None = None
    reward: Reward | None = None


class GeneralTask(AnyTask):
    """A task that is evaluated after every stage and never trained on."""

    evaluation_samples: Asked | None = None


class Data(Strict):
    """`samples`: unique training samples of each stage, the same ones in the same order for every arm; all of a task
    that has fewer."""

    samples: Count = 2048


class Evaluation(Strict):
    """Free generation on `samples` test samples of every task (all of one that has fewer), greedy by default.

    No part of what a policy is: if it changes, the policies of a run are evaluated again and none is trained again.

    `max_tokens: null` is each task's own limit for the most talkative style that any arm uses, one limit for all arms.
    `during: null` evaluates finished policies alone.
    """

    samples: Asked = 256
    max_tokens: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=MAX_TEMPERATURE)] = 0.0
    during: During | None = None


class Drift(Strict):
    """How far each stage's policy has moved from the base model in what it says, measured after every stage.

    `samples`: prompts per task, the first of those that are evaluated; 0 measures nothing. It is no part of what a
    policy is: if it is set or changed, it is measured on the policies that are there.
    """

    samples: Annotated[int, Field(ge=0, le=1_000_000)] = 64


def default_logprob_gap(dtype: str) -> float:
    """Bound on |engine − trainer| log-probability where a recipe sets none, in nats per token."""
    return 1e-4 if dtype == "float32" else 0.5


class Rollout(Strict):
    """The pool of inference engines that serves training rollouts and evaluation.

    `max_logprob_gap` stops the run when engine and trainer disagree by more, in nats per token; null is 1e-4 for
    float32; otherwise 0.5, and no more than rounding explains. `max_model_len: null` is the model's own limit.
    """

    engine: Literal["auto", "vllm", "hf"] = "auto"
    engines: Annotated[int, Field(gt=0, le=4096)] = 1
    max_logprob_gap: Factor | None = None
    max_model_len: Count | None = None
    max_num_seqs: Rows = 256
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.4


class Resources(Strict):
    """GPUs that the training process and each engine ask Ray for; `auto` is what the machine has to give."""

    trainer_gpus: NonNegativeInt | Literal["auto"] = "auto"
    engine_gpus: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = "auto"


def _dotted(value: Any) -> Any:
    """Nested sweep keys as dotted paths: {method: {beta: [...]}} is {method.beta: [...]}."""
    if not isinstance(value, Mapping):
        return value
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        nested = _dotted(inner)
        flat |= {f"{key}.{k}": v for k, v in nested.items()} if isinstance(nested, dict) else {key: nested}
    return flat


class Arm(Strict):
    """One way of training. What it leaves out is the recipe's; `sweep` makes one arm per value (`cpt.recipe.arms`).

    `schedule: sequential` is one task after another. `joint` is the upper bound: one stage over the samples of all
    tasks, shuffled, with as many steps as the stages would have together. `single` gives references: every task is
    trained from the base model alone.
    `merge: null` leaves every stage's policy as it was trained.
    """

    method: Method
    prompt: PromptStyle | None = None
    tuning: Tuning | None = None
    freeze: list[Frozen] | None = None
    reward: Reward | None = None
    schedule: Schedule = "sequential"
    replay: Replay | None = None
    filter: Filter | None = None
    regularisers: Annotated[list[Regulariser], Field(max_length=100)] = Field(default_factory=list)
    kl: KL | None = None
    merge: Annotated[Merge | None, _named("type")] = None
    trainer_args: dict[str, Any] = Field(default_factory=dict)
    sweep: Annotated[
        dict[str, Annotated[list[Scalar], Field(min_length=1, max_length=1000)]], BeforeValidator(_dotted)
    ] = Field(default_factory=dict)


class Recipe(Strict):
    """One comparison: every arm, on the same tasks, in the same order, with the same data, prompts and evaluation.

    `reward: null` is each task's own reward. Evaluation scores by the task's rules whatever the reward was.
    `reward_sets` is for `cpt rewards study` alone, which makes an arm of each (`cpt.recipe.study`).
    """

    version: Literal[1]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=64)]
    seeds: Annotated[list[Seed], Field(min_length=1, max_length=MAX_SEEDS, default_factory=lambda: [0])]
    model: Annotated[Model, _named("name_or_path")]
    tasks: Annotated[list[Annotated[StageTask, _named("name")]], Field(min_length=1, max_length=1000)]
    general: Annotated[list[Annotated[GeneralTask, _named("name")]], Field(max_length=1000)] = Field(
        default_factory=list
    )
    prompt: PromptStyle = "direct"
    data: Data = Data()
    evaluation: Evaluation = Evaluation()
    drift: Drift = Drift()
    rollout: Rollout = Rollout()
    reward: Reward | None = None
    reward_sets: Annotated[dict[ArmName, Reward], Field(max_length=1000)] = Field(default_factory=dict)
    trainer_args: dict[str, Any] = Field(default_factory=dict)
    resources: Resources = Resources()
    arms: Annotated[dict[ArmName, Arm], Field(min_length=1, max_length=1000)]

    _written: Written = PrivateAttr(default_factory=Written)

    def problem(self, path: KeyPath, message: str) -> str:
        """One line that says where a key was written, which one, and what is wrong: `file:line: key: message`."""
        source = self._written.source
        return f"{dotted(path)}: {message}" if source is None else source.problem(path, message)

    @contextmanager
    def told_at(self, *path: Key) -> Iterator[None]:
        """What turns out to be wrong within the block is said of this key. RecipeError."""
        try:
            yield
        except RecipeError:
            raise
        except (ValueError, RuntimeError) as error:  # the latter: no such user, in ~user
            raise RecipeError([self.problem(path, str(error))]) from error
        except OSError as error:  # a name too long, a folder that may not be read
            raise RecipeError([self.problem(path, f"{error.filename}: {error.strerror}")]) from error

    @property
    def task_names(self) -> list[str]:
        """Names of the stages' tasks, in order."""
        return [task.name for task in self.tasks]

    @property
    def general_names(self) -> list[str]:
        """Names of the tasks that are only evaluated."""
        return [task.name for task in self.general]

    @property
    def definitions(self) -> list[TaskDefinition]:
        """Of the tasks that the recipe itself defines."""
        return [task.definition for task in (*self.tasks, *self.general) if task.is_definition]

    def training_samples(self, task: StageTask) -> int:
        """Unique training samples of a task's stage. What the recipe says for all tasks is at most what there is."""
        return task.samples or _at_most(self.data.samples, task.name, "train")

    def test_samples(self, task: StageTask | GeneralTask) -> int:
        """Test samples that are evaluated of a task."""
        return task.evaluation_samples or _at_most(self.evaluation.samples, task.name, "test")

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default filled in, as plain data."""
        return self.model_dump(mode="json")

    def resolved_hash(self) -> str:
        """Identity of everything in the recipe that can change a policy (all but `NEUTRAL`); 32 hexadecimal digits."""
        content = without_places(without_neutral(self.resolved()))
        if self.model.attention == "auto":  # left out where it is auto
            del content["model"]["attention"]
        return content_hash(content)

    @property
    def may_change(self) -> frozenset[str]:
        """Sections of the recipe that may be others when a run goes on: those that are wholly `NEUTRAL`."""
        return frozenset(path[0] for path in NEUTRAL if len(path) == 1)

    def dump_yaml(self) -> str:
        """The resolved recipe as YAML that `load_recipe` reads back to an equal recipe."""
        text: str = yaml.safe_dump(self.resolved(), sort_keys=False, width=120)
        return text


def _at_most(asked: int, name: str, split: Split) -> int:
    return at_most(asked, name, split) if name in task_names() else asked  # no such task: told elsewhere


def without_neutral(content: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved recipe, or of one stage of a plan, that can change a policy: all but `NEUTRAL`."""
    kept = {key: value for key, value in content.items() if (key,) not in NEUTRAL}
    for section in {path[0] for path in NEUTRAL}:
        if isinstance(kept.get(section), Mapping):
            kept[section] = {k: v for k, v in kept[section].items() if (section, k) not in NEUTRAL}
    if "tasks" in kept:
        kept["tasks"] = [{k: v for k, v in task.items() if k != "evaluation_samples"} for task in kept["tasks"]]
    if "arms" in kept:
        kept["arms"] = {name: without_neutral(arm) for name, arm in kept["arms"].items()}
    return kept


def content_hash(content: Any) -> str:
    """BLAKE2b over canonical JSON (sorted keys, shortest float form); 32 hexadecimal digits."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
