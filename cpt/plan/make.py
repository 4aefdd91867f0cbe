"""From a recipe to everything a run will do, as plain data: stages with their keys, evaluations, disk. Starts nothing.

A stage's key is the hash of its resolved content, a fingerprint of its data included, and of its parent's key; the
first parent is the base model. Two stages with one key are the same work. Arms' names are not part of it, nor is
anything in `cpt.recipe.schema.NEUTRAL`: what evaluators measure on the policy has identities of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from cpt.common.keys import nearest
from cpt.methods.kl import KL
from cpt.methods.merge import WarpMerge
from cpt.methods.replay import own_share, replayed
from cpt.models import locate
from cpt.models.image_text import check_image_text
from cpt.plan.during import plan_during
from cpt.plan.run_plan import RunPlan
from cpt.plan.stages import JOINT, BasePlan, DriftPlan, EvaluationPlan, ModelPlan, Source, StagePlan
from cpt.recipe import ArmSpec, Recipe, RecipeError, content_hash, expand_arms, without_neutral
from cpt.recipe.arms import filter_reward_of, reward_of
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.schema import GeneralTask, Model, Rollout, StageTask, default_logprob_gap
from cpt.tasks.limits import completion_limits
from cpt.tasks.registry import data_fingerprint
from cpt.types import PromptStyle

__all__ = [
    "JOINT", "BasePlan", "DriftPlan", "EvaluationPlan", "ModelPlan", "RunPlan", "Source", "StagePlan", "make_plan",
    "plan_model",
]  # fmt: skip


def logprob_bound(rollout: Rollout, dtype: str) -> float:
    """Largest difference of log-probabilities between engine and trainer, in nats per token."""
    return rollout.max_logprob_gap or default_logprob_gap(dtype)


def make_plan(recipe: Recipe, arms: Sequence[str] | None = None) -> RunPlan:
    """The plan of a recipe, or of some of its arms (`sft` also names every point of the arm sft's sweep).

    Raises:
        ValueError: if there is no such arm, or the model's folder is missing or damaged.
    """
    with recipe.told_at("model", "name_or_path"):
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
    """Where the base model is and what identifies it. ValueError if its folder is missing or damaged.

    Reads files of this machine only: see `cpt.plan.preflight.available_model` for a model on the Hub.
    """
    found = locate.locate_model(settings.name_or_path)
    if isinstance(found, str):
        cached = locate.hub_folder(found)
        if cached is not None:
            check_image_text(locate.read_config(cached), found)
        dtype = _dtype(settings, cached)
        trust = settings.trust_remote_code
        return ModelPlan(settings.name_or_path, found, found, dtype, trust, attention=settings.attention)
    locate.check_model_folder(found)
    return ModelPlan(
        name=settings.name_or_path,
        path=str(found.resolve()),
        fingerprint=locate.fingerprint(found),
        dtype=_dtype(settings, found),
        trust_remote_code=settings.trust_remote_code,
        nbytes=locate.model_bytes(found),
        attention=settings.attention,
    )


def _dtype(settings: Model, folder: Path | None) -> str:
    """What `auto` is by the config.json in this folder, or `auto` where there is none yet."""
    if settings.dtype != "auto" or folder is None:
        return settings.dtype
    dtype = locate.config_dtype(folder) or "float32"
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"{folder / 'config.json'} says {dtype}; set model.dtype to float32 or bfloat16")
    return dtype


def _choose(specs: Mapping[str, ArmSpec], arms: Sequence[str] | None) -> list[ArmSpec]:
    if not arms:
        return list(specs.values())
    known = dict.fromkeys([*specs, *(spec.family for spec in specs.values())])
    for arm in arms:
        if arm not in known:
            raise ValueError(f"--arm: there is no arm {arm!r}{nearest(arm, list(known))}")
    return [spec for spec in specs.values() if spec.name in arms or spec.family in arms]


def _plan_evaluation(recipe: Recipe, specs: Sequence[ArmSpec]) -> EvaluationPlan:
    settings = recipe.evaluation
    styles = {style for spec in specs for style in spec.method.styles(spec.prompt)}
    tasks: list[StageTask | GeneralTask] = [*recipe.tasks, *recipe.general]
    samples = {task.name: recipe.test_samples(task) for task in tasks}
    own = {name: completion_limits([name]) for name in samples}
    return EvaluationPlan(
        samples=samples,
        limits={name: settings.max_tokens or max(limits[style] for style in styles) for name, limits in own.items()},
        temperature=settings.temperature,
        data={name: data_fingerprint(name, "test", number) for name, number in samples.items()},
    )


def _plan_base(
    recipe: Recipe, seed: int, prompt: PromptStyle, model: ModelPlan, evaluation: EvaluationPlan
) -> BasePlan:
    content = {
        "model": model.content(),
        "prompt": prompt,
        "rollout": recipe.rollout.model_dump(mode="json"),
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
    with recipe.told_at("arms", spec.family, "kl", "path"):
        kl = _plan_kl(spec.kl)
    imitated: dict[int, str] = {}
    if spec.imitates is not None:
        theirs = _plan_arm(recipe, everything[spec.imitates], seed, model, evaluation, everything)
        imitated = {stage.index: stage.key for stage in theirs}
    gap = logprob_bound(recipe.rollout, model.dtype)
    batch = spec.method.batch()
    base = parent = content_hash(model.content())
    stages: list[StagePlan] = []
    for work in _work(recipe, spec, seed):
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
            max_completion_length=spec.method.completion_limit(spec.prompt, completion_limits(work.reads)),
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
            during=plan_during(recipe, spec, work.index, work.steps, evaluation),
            filter=spec.filter,
            filter_reward=work.filter_reward if spec.filter else None,
            kl=kl,
            merge=spec.merge,
            rollouts_key=imitated.get(work.index),
            leaves_rollouts=any(other.imitates == spec.name for other in everything.values()),
        )
        data = {task: data_fingerprint(task, "train", samples, seed) for task, samples in stage.reads.items()}
        stage = replace(stage, data=data)
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

    @property
    def reads(self) -> list[str]:
        """Whose prompts are sampled from."""
        return list(dict.fromkeys(([] if self.task == JOINT else [self.task]) + [one.task for one in self.sources]))


def _work(recipe: Recipe, spec: ArmSpec, seed: int) -> Iterator[_Work]:
    """The stages of an arm's schedule."""
    # A joint stage has no reward of its own: its filter looks at those of its tasks.
    rewarded = filter_reward_of if spec.schedule == "joint" and spec.filter else reward_of
    tasks = [
        Source(task.name, recipe.training_samples(task), rewarded(recipe, spec, task), finished=True)
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
            numbers = replayed(spec.replay, sources, seed)
            empty = [source.task for source, kept in zip(sources, numbers, strict=True) if not kept]
            if empty and spec.replay.sampler == "uniform" and spec.replay.loss == "own":
                told = (
                    f"seed {seed}, stage {index}: the buffer of {spec.replay.budget} keeps no sample "
                    f"of {empty[0]}, but sampler: uniform gives it a turn; raise replay.budget, or set sampler: ratio"
                )
                raise RecipeError([recipe.problem(("arms", spec.family, "replay", "budget"), told)])
            share = own_share(spec.replay, own.samples, list(map(len, numbers)))
        # An epoch counts the stage's own samples, however many others stand between them.
        steps = spec.method.steps(math.ceil(own.samples / share))
        plain = tuple(replace(one, reward=None) for one in finished)
        filtered = filter_reward_of(recipe, spec, recipe.tasks[index - 1])
        yield _Work(index, own.task, own.samples, steps, own.reward, filtered, plain, sources)


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
        if (cached := locate.hub_folder(found)) is not None:
            check_image_text(locate.read_config(cached), found)
        return setting
    locate.check_model_folder(found)
    return setting.model_copy(update={"path": str(found.resolve())})


# Names, and what leaves a policy as it is.
_NO_PART = (
    *("arm", "family", "sweep", "key", "run", "leaves_rollouts", "max_logprob_gap"),
    *("evaluation", "drift", "during"),
)
# Left out of a stage's key where they are at their defaults, and so play no part in its work.
_ADDED: dict[str, Any] = {
    "reward": None, "schedule": "sequential", "replay": None, "sources": [], "filter": None, "kl": None, "merge": None,
    "rollouts_key": None,
}  # fmt: skip


def _stage_key(stage: StagePlan) -> str:
    content = stage.as_dict()
    for name in _NO_PART:
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
