"""A recipe from a file: read, overridden, validated, and checked for what types can't say."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from cpt.common.keys import KeyPath, Problem, nearest, shown
from cpt.methods.targets import check_targets
from cpt.methods.trl_fields import refusal
from cpt.recipe.arms import ArmSpec, expand_arm
from cpt.recipe.errors import explain
from cpt.recipe.overrides import override
from cpt.recipe.reward_checks import check_rewards
from cpt.recipe.rewards import as_written, carried_code, include_sources
from cpt.recipe.schema import VERSION, Recipe
from cpt.recipe.shipped_recipes import find
from cpt.recipe.source import RawRecipe, RecipeError, Written, read
from cpt.recipe.task_files import include_task_files
from cpt.tasks import declare, open_task, task_names
from cpt.tasks.registry import size_of
from cpt.types import Split

MAX_STEPS = 10_000_000
_TOLD = 50  # problems at once
MAX_STAGES = 10_000  # of all arms and seeds together: more than a year of one-hour stages


def load_recipe(
    path: str | Path, overrides: Sequence[str] = (), *, trust_rewards: bool = False, checked: bool = True
) -> Recipe:
    """The recipe in a YAML file, with `key=value` overrides applied, every check of its contents passed.

    Args:
        trust_rewards: execute rewards whose code came with the recipe: see `carried_code`.
        checked: False passes over what types can't say; then neither rewards nor tasks' data are looked at.

    Raises:
        RecipeError: with one line per problem, `file:line: key: message`.
    """
    source = read(find(Path(path)))
    for assignment in overrides:
        override(source, assignment)
    _check_version(source)
    if checked and not trust_rewards:
        refuse_carried_code(source)
    include_sources(source)
    include_task_files(source)
    try:
        recipe = Recipe.model_validate(source.data)
    except ValidationError as error:
        problems = list(explain(error, source.data))
    else:
        problems = list(check(recipe)) if checked else []
    if problems:
        told = list(
            dict.fromkeys(source.problem(as_written(where, source.data), message) for where, message in problems)
        )
        more = [f"{told[_TOLD]}; and {len(told) - _TOLD - 1} problems more"] if len(told) > _TOLD else []
        raise RecipeError(told[:_TOLD] + more)
    recipe._written = Written(source)
    return recipe


def refuse_carried_code(source: RawRecipe) -> None:
    """RecipeError if rewards are code that came with the recipe, as in a folder from elsewhere."""
    told = "is Python code that came with the recipe (of {}) and would be executed; read it, then add --trust-rewards"
    found = [source.problem(as_written(at, source.data), told.format(file)) for at, file in carried_code(source)]
    if found:
        raise RecipeError(found)


def _check_version(source: RawRecipe) -> None:
    version = source.data.get("version")
    if "version" not in source.data:
        raise RecipeError([source.problem((), f"has no version; add `version: {VERSION}` as the first line")])
    if version != VERSION or isinstance(version, bool):
        raise RecipeError([source.problem(("version",), f"is {shown(version)}, but this cpt reads version {VERSION}")])


def check(recipe: Recipe) -> Iterator[Problem]:
    """What is wrong with a recipe that its types allow: (path, message)."""
    yield from _check_seeds(recipe)
    unusable = list(_open_tasks(recipe))
    yield from unusable
    if unusable:
        return  # nothing is known of their data
    yield from _check_tasks(recipe)
    yield from _check_numbers(recipe)
    if recipe.evaluation.during is not None:
        names = [*recipe.task_names, *recipe.general_names]
        for below, message in recipe.evaluation.during.problems(names, recipe.evaluation.samples):
            yield ("evaluation", "during", *below), message
    too_many = list(_check_size(recipe))
    yield from too_many
    if too_many:
        return  # to expand the arms would take minutes
    arms: list[ArmSpec] = []
    for family in recipe.arms:
        specs, problems = expand_arm(recipe, family)
        yield from problems
        for spec in specs:
            yield from _check_arm(recipe, spec)
        arms += specs
    yield from check_rewards(recipe, arms)
    yield from check_targets(arms)


def _check_seeds(recipe: Recipe) -> Iterator[Problem]:
    seen: set[int] = set()
    for i, seed in enumerate(recipe.seeds):
        if seed in seen:
            yield ("seeds", i), f"{seed} stands here twice"
        seen.add(seed)


def _check_size(recipe: Recipe) -> Iterator[Problem]:
    points = {name: math.prod(map(len, arm.sweep.values())) for name, arm in recipe.arms.items()}
    stages = sum(points.values()) * len(recipe.seeds) * len(recipe.tasks)
    if stages <= MAX_STAGES:
        return
    most = max(points, key=lambda name: points[name])
    path: KeyPath = ("arms", most, "sweep") if points[most] > len(recipe.seeds) else ("seeds",)
    yield (
        path,
        f"{sum(points.values())} arms × {len(recipe.seeds)} seeds × {len(recipe.tasks)} tasks are {stages} stages; a "
        f"run has {MAX_STAGES} at most: make several recipes of it",
    )


def _check_numbers(recipe: Recipe) -> Iterator[Problem]:
    """What single values can't be, and why."""
    trainer, engine = recipe.resources.trainer_gpus, recipe.resources.engine_gpus
    if trainer != "auto" and trainer > 1:
        yield (
            ("resources", "trainer_gpus"),
            f"{trainer} GPUs are refused: a stage is trained by one process on one GPU, and with more it would split "
            "every batch over them by DataParallel and train on another number of samples; set 1, or auto",
        )
    if engine != "auto" and engine > 1 and engine != int(engine):
        yield ("resources", "engine_gpus"), f"{engine:g}: above 1 an engine takes whole GPUs; set {int(engine)}"
    if 0 < recipe.evaluation.temperature < 0.01:
        yield (
            ("evaluation", "temperature"),
            f"{recipe.evaluation.temperature:g} is next to greedy, and logits overflow; set 0, or 0.01 and more",
        )


def _check_tasks(recipe: Recipe) -> Iterator[Problem]:
    known, trainable = task_names(), task_names("stage")
    yield from _check_sizes(recipe)
    for section, names in (("tasks", recipe.task_names), ("general", recipe.general_names)):
        for i, name in enumerate(names):
            path: KeyPath = (section, i)
            if name not in known:
                yield path, f"unknown task {name!r}{nearest(name, trainable if section == 'tasks' else known)}"
            elif name in names[:i]:
                yield path, f"{name!r} stands here twice"
            elif section == "tasks" and name not in trainable:
                if recipe.tasks[i].is_definition:
                    yield path, f"{name!r} has test rows alone; name its training rows under data.train"
                    continue
                told = f"{name!r} is a general task, which no stage trains on; stage tasks: {', '.join(trainable)}"
                yield path, told
            elif section == "tasks" and recipe.tasks[i].answered_by == "likelihood":
                yield (
                    path,
                    f"{name!r} is answered by likelihood, and nothing can be imitated or rewarded: name it in general",
                )
            elif section == "general" and name in recipe.task_names:
                yield path, f"{name!r} is also a stage; a general task is never trained on"


def _open_tasks(recipe: Recipe) -> Iterator[Problem]:
    """Let the process know the recipe's own tasks, and look at their rows."""
    for section, tasks in (("tasks", recipe.tasks), ("general", recipe.general)):
        for i, task in enumerate(tasks):
            if task.is_definition:
                try:
                    declare([task.definition])
                    open_task(task.name)
                except ValueError as error:
                    yield (section, i, "data"), str(error)


def _check_sizes(recipe: Recipe) -> Iterator[Problem]:
    """More samples than a task has. A task without `size` tells only when it is asked for them."""
    for i, task in enumerate(recipe.tasks):
        yield from _too_many(task.name, "train", recipe.training_samples(task), ("tasks", i, "samples"))
        yield from _too_many(task.name, "test", recipe.test_samples(task), ("tasks", i, "evaluation_samples"))
    for i, other in enumerate(recipe.general):
        yield from _too_many(other.name, "test", recipe.test_samples(other), ("general", i, "evaluation_samples"))
    for name, arm in recipe.arms.items():
        for source in arm.replay.tasks if arm.replay else ():
            assert arm.replay is not None
            yield from _too_many(source, "train", arm.replay.samples, ("arms", name, "replay", "samples"))


def _too_many(name: str, split: Split, asked: int, path: KeyPath) -> Iterator[Problem]:
    if name not in task_names():
        return  # told elsewhere
    there = size_of(name, split)
    if there == 0 < asked:
        yield path, f"task {name} has no rows of split {split}; name them under its data.{split}"
    elif there is not None and asked > there:
        yield path, f"{asked} samples of split {split} are asked for, and task {name} has {there}; set {there} or fewer"


def _check_arm(recipe: Recipe, spec: ArmSpec) -> Iterator[Problem]:
    at: KeyPath = ("arms", spec.family)
    if any(spec.method.problems()):
        return  # told already, and its batch may be no batch
    if spec.method.needs_rollouts and spec.tuning.has_dropout:
        where: KeyPath = (*at, "tuning") if recipe.arms[spec.family].tuning else ("model", "tuning")
        yield (*where, "dropout"), f"must be 0 with {spec.method.type.upper()}: engines sample without dropout"
    for key in spec.trainer_args:
        where = (*at, "trainer_args", key)
        if key not in recipe.arms[spec.family].trainer_args and key in recipe.trainer_args:
            where = ("trainer_args", key)
        if reason := refusal(key, spec.trainer_args, spec.method):
            yield where, reason
    batch = spec.method.batch().samples
    for i, task in enumerate(recipe.tasks):
        samples = recipe.training_samples(task)
        if not samples:
            continue  # a task without training rows: told already
        if samples < batch:
            where = ("tasks", i, "samples") if task.samples else ("data", "samples")
            yield (
                where,
                f"{samples} training samples of {task.name} are fewer than one batch of arm {spec.name} ({batch})",
            )
            continue
        steps = spec.method.steps(samples)
        if steps > MAX_STEPS:
            # Only epochs can ask for so many: the type of max_steps has the same bound.
            yield (
                (*at, "method", "num_train_epochs"),
                f"is {steps} steps of a stage on {samples} samples; a stage has {MAX_STEPS} at most",
            )
