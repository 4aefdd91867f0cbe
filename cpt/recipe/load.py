"""A recipe from a file: read, overridden, validated, and checked for what types can't say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from cpt.recipe.arms import ArmSpec, Problem, expand_arm
from cpt.recipe.errors import explain, nearest, shown
from cpt.recipe.replay import check_replay
from cpt.recipe.rewards import as_written, check_rewards, include_sources
from cpt.recipe.schema import VERSION, LoRA, Recipe
from cpt.recipe.shipped_recipes import find
from cpt.recipe.source import KeyPath, RecipeError, Source, override, read
from cpt.recipe.targets import check_targets
from cpt.recipe.trl_fields import config_fields, refusal


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `key=value` overrides applied, every check of its contents passed.

    Raises:
        RecipeError: with one line per problem, `file:line: key: message`.
    """
    source = read(find(Path(path)))
    for assignment in overrides:
        override(source, assignment)
    _check_version(source)
    include_sources(source)
    try:
        recipe = Recipe.model_validate(source.data)
    except ValidationError as error:
        problems = list(explain(error, source.data))
    else:
        problems = list(check(recipe))
    if problems:
        told = (source.problem(as_written(where, source.data), message) for where, message in problems)
        raise RecipeError(list(dict.fromkeys(told)))
    return recipe


def _check_version(source: Source) -> None:
    version = source.data.get("version")
    if "version" not in source.data:
        raise RecipeError([source.problem((), f"has no version; add `version: {VERSION}` as the first line")])
    if version != VERSION or isinstance(version, bool):
        raise RecipeError([source.problem(("version",), f"is {shown(version)}, but this cpt reads version {VERSION}")])


def check(recipe: Recipe) -> Iterator[Problem]:
    """What is wrong with a recipe that its types allow: (path, message)."""
    yield from _check_seeds(recipe)
    yield from _check_tasks(recipe)
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
    for i, seed in enumerate(recipe.seeds):
        if seed in recipe.seeds[:i]:
            yield ("seeds", i), f"{seed} stands here twice"


def _check_tasks(recipe: Recipe) -> Iterator[Problem]:
    from cpt.tasks import task_names

    known, trainable = task_names(), task_names("stage")
    for section, names in (("tasks", recipe.task_names), ("general", recipe.general_names)):
        for i, name in enumerate(names):
            path: KeyPath = (section, i)
            if name not in known:
                yield path, f"unknown task {name!r}{nearest(name, trainable if section == 'tasks' else known)}"
            elif name in names[:i]:
                yield path, f"{name!r} stands here twice"
            elif section == "tasks" and name not in trainable:
                yield path, f"{name!r} is a general task, which no stage trains on; stage tasks: {', '.join(trainable)}"
            elif section == "general" and name in recipe.task_names:
                yield path, f"{name!r} is also a stage; a general task is never trained on"


def _check_arm(recipe: Recipe, spec: ArmSpec) -> Iterator[Problem]:
    at: KeyPath = ("arms", spec.family)
    for key, message in spec.method.problems():
        yield (*at, "method", key), message
    if spec.method.needs_rollouts and isinstance(spec.tuning, LoRA) and spec.tuning.dropout:
        where: KeyPath = (*at, "tuning") if recipe.arms[spec.family].tuning else ("model", "tuning")
        yield (*where, "dropout"), f"must be 0 with {spec.method.type.upper()}: engines sample without dropout"
    for path, message in check_replay(recipe, spec):
        yield (*at, *path), message
    known = config_fields(*spec.method.trl_config) if spec.trainer_args else frozenset()
    for key in spec.trainer_args:
        where = (*at, "trainer_args", key)
        if key not in recipe.arms[spec.family].trainer_args and key in recipe.trainer_args:
            where = ("trainer_args", key)
        if reason := refusal(key, type(spec.method), known):
            yield where, reason
    batch = spec.method.batch().samples
    for i, task in enumerate(recipe.tasks):
        samples = task.samples or recipe.data.samples
        if samples < batch:
            where = ("tasks", i, "samples") if task.samples else ("data", "samples")
            yield (
                where,
                f"{samples} training samples of {task.name} are fewer than one batch of arm {spec.name} ({batch})",
            )
