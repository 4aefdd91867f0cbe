"""From a recipe to everything a run will do, as plain data: stages with their keys, evaluations, disk. Starts nothing.

A stage's key is the hash of its resolved content and of its parent's key; the first parent is the base model. Two
stages with one key are the same work. Arms' names are not part of it, nor is anything in `cpt.recipe.schema.NEUTRAL`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from cpt.methods.filtering import RIF
from cpt.methods.kl import KL
from cpt.methods.registry import AnyRegulariser
from cpt.methods.replay import AnyReplay, buffer, own_share
from cpt.models import locate
from cpt.recipe import AnyMethod, ArmSpec, Full, LoRA, Recipe, Rollout, content_hash, expand_arms, without_neutral
from cpt.recipe.errors import nearest
from cpt.recipe.merge import AnyMerge, WarpMerge
from cpt.recipe.rewards import RewardSpec, filter_reward_of, reward_of
from cpt.recipe.schema import GeneralTask, Model, Schedule, StageTask
from cpt.types import PromptStyle

JOINT = "joint"
"""What the one stage of a joint schedule is called."""
_LOGPROB_GAP = {"float32": 1e-4}  # nats per token
_LOGPROB_GAP_LOW_PRECISION = 0.5


@dataclass(frozen=True)
class ModelPlan:
    """The base model.

    Attributes:
        name: as the recipe has it.
        path: its folder, or the id on the Hub.
        fingerprint: of the folder's weights; the id itself for a model on the Hub.
        dtype: resolved; `auto` only where a Hub model's config is not at hand yet.
        nbytes: size of one copy on disk; None for a Hub model.
    """

    name: str
    path: str
    fingerprint: str
    dtype: str
    trust_remote_code: bool
    nbytes: int | None = None

    def content(self) -> dict[str, Any]:
        """What identifies the model wherever it lies."""
        return {"fingerprint": self.fingerprint, "dtype": self.dtype, "trust_remote_code": self.trust_remote_code}


@dataclass(frozen=True)
class EvaluationPlan:
    """What every evaluation of a run generates: test samples per task (stage tasks first), tokens at most."""

    samples: Mapping[str, int]
    max_tokens: int
    temperature: float


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
class BasePlan:
    """Evaluation of the base model in one prompt style: row 0 of the matrix. Greedy ones share a key over the seeds."""

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
        reward: what rollouts from its prompts are paid for; None for the task's own.
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
        max_logprob_gap: bound on |engine − trainer| log-probability, in nats per token.
        parent_key: key of the stage before, or the base model's.
        reward: what rollouts are paid for; None for the task's own reward, and for methods without rollouts.
        schedule: see `cpt.recipe.schema.Arm`. A joint stage's task is called `joint`, its index that of the last task.
        finished: the tasks of the stages before, in order; without their rewards.
        sources: where replayed samples come from, and for a joint stage all samples.
        drift: what is measured on the finished policy; no part of the key.
        filter: which of the `data_samples` are trained on; None for all. `steps` are the same either way.
        filter_reward: what the filter's rollouts are paid for; None for the task's own reward.
        kl: nearness to a reference policy, its folder absolute; None for no such term.
        merge: what becomes of the policy at the stage's end; None leaves it as it was trained.
        run: 0-based number of the training among those that `merge: warp` makes of a stage; see `trainings`.
        rollouts_key: key of the stage whose rollouts are imitated (`cpt.methods.targets.SavedRollouts`).
        leaves_rollouts: whether to write rollouts.jsonl, because another arm of the recipe imitates them.
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
    tuning: Full | LoRA
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
    filter: RIF | None = None
    filter_reward: RewardSpec | None = None
    kl: KL | None = None
    merge: AnyMerge | None = None
    run: int = 0
    rollouts_key: str | None = None
    leaves_rollouts: bool = False

    @property
    def from_base(self) -> bool:
        """Whether it starts from the base model, whatever its position."""
        return self.index == 1 or self.schedule != "sequential"

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
        content: dict[str, Any] = _plain(self)
        return content


@dataclass(frozen=True)
class RunPlan:
    """All work of one run.

    Attributes:
        arms: (arm, seed) → its stages, in the order they run.
        bases: evaluations of the base model, one per seed and prompt style in use.
    """

    recipe: Recipe
    model: ModelPlan
    arms: Mapping[tuple[str, int], list[StagePlan]]
    bases: list[BasePlan] = field(default_factory=list)

    @property
    def stages(self) -> list[StagePlan]:
        """Every stage, in the order they run."""
        return [stage for stages in self.arms.values() for stage in stages]

    def global_batch(self) -> dict[str, int]:
        """Completions per optimizer step of every arm."""
        return {stage.arm: stage.global_batch for stage in self.stages}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for plan.json."""
        return {
            "recipe_hash": self.recipe.resolved_hash(),
            "model": _plain(self.model),
            "tasks": self.recipe.task_names,
            "general": self.recipe.general_names,
            "bases": [_plain(base) for base in self.bases],
            "stages": [stage.as_dict() for stage in self.stages],
        }

    def evaluated_samples(self) -> int:
        """Completions that all evaluations generate."""
        evaluations = [*(base.evaluation for base in self.bases), *(stage.evaluation for stage in self.stages)]
        return sum(sum(evaluation.samples.values()) for evaluation in evaluations)

    def disk_estimate_bytes(self) -> int | None:
        """See `cpt.disk.estimate_bytes`."""
        from cpt.disk import estimate_bytes

        return estimate_bytes(self)


def make_plan(recipe: Recipe, arms: Sequence[str] | None = None) -> RunPlan:
    """The plan of a recipe, or of some of its arms (`sft` also names every point of the arm sft's sweep).

    Raises:
        ValueError: if there is no such arm, or the model's folder is missing or damaged.
    """
    model = plan_model(recipe.model)
    everything = expand_arms(recipe)
    chosen = _choose(everything, arms)
    # One limit for the whole run, chosen or not, so that a run of one arm can be continued with the others.
    evaluation = _plan_evaluation(recipe, list(everything.values()))
    stages = {
        (spec.name, seed): _plan_arm(recipe, spec, seed, model, evaluation, everything)
        for spec in chosen
        for seed in recipe.seeds
    }
    prompts = dict.fromkeys(spec.prompt for spec in chosen)
    bases = [_plan_base(recipe, seed, prompt, model, evaluation) for prompt in prompts for seed in recipe.seeds]
    return RunPlan(recipe, model, stages, bases)


def plan_model(settings: Model) -> ModelPlan:
    """Where the base model is and what identifies it. ValueError if its folder is missing or damaged."""
    found = locate.locate_model(settings.name_or_path)
    if isinstance(found, str):
        return ModelPlan(settings.name_or_path, found, found, settings.dtype, settings.trust_remote_code)
    locate.check_model_folder(found)
    dtype = (locate.config_dtype(found) or "float32") if settings.dtype == "auto" else settings.dtype
    return ModelPlan(
        name=settings.name_or_path,
        path=str(found.resolve()),
        fingerprint=locate.fingerprint(found),
        dtype=dtype,
        trust_remote_code=settings.trust_remote_code,
        nbytes=locate.model_bytes(found),
    )


def _choose(specs: Mapping[str, ArmSpec], arms: Sequence[str] | None) -> list[ArmSpec]:
    if not arms:
        return list(specs.values())
    known = dict.fromkeys([*specs, *(spec.family for spec in specs.values())])
    for arm in arms:
        if arm not in known:
            raise ValueError(f"there is no arm {arm!r}{nearest(arm, list(known))}")
    return [spec for spec in specs.values() if spec.name in arms or spec.family in arms]


def _plan_evaluation(recipe: Recipe, specs: Sequence[ArmSpec]) -> EvaluationPlan:
    from cpt.tasks.prompts import MAX_COMPLETION_TOKENS

    settings = recipe.evaluation
    styles = {style for spec in specs for style in spec.method.styles(spec.prompt)}
    tasks: list[StageTask | GeneralTask] = [*recipe.tasks, *recipe.general]
    samples = {task.name: task.evaluation_samples or settings.samples for task in tasks}
    return EvaluationPlan(
        samples=samples,
        max_tokens=settings.max_tokens or max(MAX_COMPLETION_TOKENS[style] for style in styles),
        temperature=settings.temperature,
    )


def _plan_base(
    recipe: Recipe, seed: int, prompt: PromptStyle, model: ModelPlan, evaluation: EvaluationPlan
) -> BasePlan:
    content = {
        "model": model.content(),
        "prompt": prompt,
        "evaluation": _plain(evaluation),
        "rollout": recipe.rollout.model_dump(mode="json"),
        "seed": seed if evaluation.temperature else None,
    }
    return BasePlan(seed, prompt, model, evaluation, recipe.rollout, content_hash(without_neutral(content)))


def _plan_arm(
    recipe: Recipe,
    spec: ArmSpec,
    seed: int,
    model: ModelPlan,
    evaluation: EvaluationPlan,
    everything: Mapping[str, ArmSpec],
) -> list[StagePlan]:
    from cpt.tasks.prompts import MAX_COMPLETION_TOKENS

    imitated: dict[int, str] = {}
    if spec.imitates is not None:
        theirs = _plan_arm(recipe, everything[spec.imitates], seed, model, evaluation, everything)
        imitated = {stage.index: stage.key for stage in theirs}
    gap = recipe.rollout.max_logprob_gap or _LOGPROB_GAP.get(model.dtype, _LOGPROB_GAP_LOW_PRECISION)
    batch = spec.method.batch()
    base = parent = content_hash(model.content())
    stages: list[StagePlan] = []
    for work in _work(recipe, spec):
        stage = StagePlan(
            arm=spec.name,
            family=spec.family,
            sweep=dict(spec.sweep),
            seed=seed,
            index=work.index,
            task=work.task,
            model=model,
            method=spec.method,
            prompt=spec.prompt,
            tuning=spec.tuning,
            freeze=spec.freeze,
            trainer_args=dict(spec.trainer_args),
            data_samples=work.samples,
            steps=work.steps * (spec.merge.runs if isinstance(spec.merge, WarpMerge) else 1),
            batch_samples=batch.samples,
            global_batch=spec.method.per_device_train_batch_size * spec.method.gradient_accumulation_steps,
            max_completion_length=spec.method.completion_limit(spec.prompt, MAX_COMPLETION_TOKENS),
            evaluation=evaluation,
            rollout=recipe.rollout,
            max_logprob_gap=gap,
            parent_key=base if spec.schedule == "single" else parent,
            regularisers=spec.regularisers,
            reward=work.reward,
            schedule=spec.schedule,
            finished=work.finished,
            replay=spec.replay,
            sources=work.sources,
            drift=_plan_drift(recipe, work, evaluation),
            filter=spec.filter,
            filter_reward=work.filter_reward if spec.filter else None,
            kl=_plan_kl(spec.kl),
            merge=spec.merge,
            rollouts_key=imitated.get(work.index),
            leaves_rollouts=any(other.imitates == spec.name for other in everything.values()),
        )
        stages.append(replace(stage, key=_stage_key(stage)))
        parent = stages[-1].key
    return stages


@dataclass(frozen=True)
class _Work:
    """What one stage of an arm trains on, and how long."""

    index: int
    task: str
    samples: int
    steps: int
    reward: RewardSpec | None
    filter_reward: RewardSpec | None
    finished: tuple[Source, ...] = ()
    sources: tuple[Source, ...] = ()


def _work(recipe: Recipe, spec: ArmSpec) -> Iterator[_Work]:
    """The stages of an arm's schedule."""
    # A joint stage has no reward of its own: its filter looks at those of its tasks.
    paid = filter_reward_of if spec.schedule == "joint" and spec.filter else reward_of
    tasks = [
        Source(task.name, task.samples or recipe.data.samples, paid(recipe, spec, task), finished=True)
        for task in recipe.tasks
    ]
    if spec.schedule == "joint":
        steps = sum(spec.method.steps(task.samples) for task in tasks)
        yield _Work(len(tasks), JOINT, sum(task.samples for task in tasks), steps, None, None, sources=tuple(tasks))
        return
    for index, own in enumerate(tasks, start=1):
        finished = tuple(tasks[: index - 1]) if spec.schedule == "sequential" else ()
        sources: tuple[Source, ...] = ()
        share = Fraction(1)
        if spec.replay is not None:
            extra = tuple(Source(name, spec.replay.samples) for name in spec.replay.tasks)
            sources = (finished if spec.replay.finished else ()) + extra
            share = own_share(spec.replay, own.samples, replayed(sources, spec.replay))
        # An epoch counts the stage's own samples, however many others stand between them.
        steps = spec.method.steps(math.ceil(own.samples / share))
        plain = tuple(replace(one, reward=None) for one in finished)
        filtered = filter_reward_of(recipe, spec, recipe.tasks[index - 1])
        yield _Work(index, own.task, own.samples, steps, own.reward, filtered, plain, sources)


def replayed(sources: Sequence[Source], replay: AnyReplay) -> list[int]:
    """Samples of every source that are replayed."""
    kept = iter(buffer([one.samples for one in sources if one.finished], replay.budget, replay.selection, ""))
    return [len(next(kept)) if one.finished else one.samples for one in sources]


def _plan_drift(recipe: Recipe, work: _Work, evaluation: EvaluationPlan) -> DriftPlan:
    if not recipe.drift.samples:
        return DriftPlan()
    groups = {
        "new": tuple(recipe.task_names) if work.task == JOINT else (work.task,),
        "prior": tuple(source.task for source in work.finished),
        "general": tuple(recipe.general_names),
    }
    asked = [name for names in groups.values() for name in names]
    return DriftPlan(groups, {name: min(recipe.drift.samples, evaluation.samples[name]) for name in asked})


def _plan_kl(setting: KL | None) -> KL | None:
    """The setting with its reference's folder absolute. ValueError if that is missing or damaged."""
    if setting is None or setting.path is None:
        return setting
    found = locate.locate_model(setting.path)
    if isinstance(found, str):
        return setting
    locate.check_model_folder(found)
    return setting.model_copy(update={"path": str(found.resolve())})


# What plans once did not have, and what it is where it plays no part: work done before is the same work.
_ADDED: dict[str, Any] = {
    "reward": None, "schedule": "sequential", "replay": None, "sources": [], "filter": None, "kl": None, "merge": None,
    "rollouts_key": None,
}  # fmt: skip


def _stage_key(stage: StagePlan) -> str:
    content = stage.as_dict()
    for name in ("arm", "family", "sweep", "key", "drift", "run", "leaves_rollouts"):
        del content[name]
    content["model"] = stage.model.content()
    content["method"].get("data", {}).pop("arm", None)  # `rollouts_key` says which stage it is
    del content["finished"]  # the parent's key says it
    if stage.filter is None:
        del content["filter_reward"]
    for name, default in _ADDED.items():
        if content[name] == default:
            del content[name]
    path = None if stage.kl is None else stage.kl.path
    if path is not None and isinstance(found := locate.locate_model(path), Path):
        content["kl"]["path"] = locate.fingerprint(found)
    if content["method"].get("data") == {"type": "gold"}:
        del content["method"]["data"]
    return content_hash(without_neutral(content))


def _plain(thing: Any) -> Any:
    """Dataclasses and recipe models as JSON data."""
    if hasattr(thing, "model_dump"):
        return thing.model_dump(mode="json")
    if hasattr(thing, "__dataclass_fields__"):
        return {name: _plain(getattr(thing, name)) for name in thing.__dataclass_fields__}
    if isinstance(thing, Mapping):
        return {key: _plain(value) for key, value in thing.items()}
    return [_plain(item) for item in thing] if isinstance(thing, list | tuple) else thing
