"""What is wrong with a recipe's rewards that their types allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cpt.common.keys import KeyPath, Problem
from cpt.recipe.arms import ArmSpec
from cpt.recipe.rewards import COMPONENTS, RewardSpec
from cpt.recipe.schema import Recipe, StageTask
from cpt.tasks import get_task, read_samples, task_names
from cpt.tasks.limits import limits_of
from cpt.tasks.row import reward_row
from cpt.types import PromptStyle
from rewards import score
from rewards.compose import PYTHON, parameters_of, problems
from rewards.golds import check_golds, checks_golds
from rewards.python_file import load, try_out

MOST_GOLDS = 10_000  # gold answers of a task that are tried when a recipe is read


def code_of(recipe: Recipe) -> frozenset[str]:
    """The texts of all functions of type python that the recipe rewards by."""
    of_tasks, of_arms = [task.reward for task in recipe.tasks], [arm.reward for arm in recipe.arms.values()]
    specs = [recipe.reward, *of_tasks, *of_arms, *recipe.reward_sets.values()]
    return frozenset[str]().union(*(spec.code() for spec in specs if spec is not None))


def check_rewards(recipe: Recipe, arms: Iterable[ArmSpec]) -> Iterator[Problem]:
    """What is wrong with the recipe's rewards: the data of each, and each on the tasks that it is for.

    It is tried on one sample, and asked whether it can use the gold answers of all.
    """
    arms = list(arms)
    for family, arm in recipe.arms.items():
        if arm.reward is not None and not arm.method.needs_rollouts:
            yield ("arms", family, "reward"), f"{arm.method.type.upper()} has no reward; remove it"
    for path, spec, tasks, prompts in _places(recipe, arms):
        found = [((*path, *_inside(where)), message) for where, message in problems(spec.data(), spec.clip)]
        yield from found
        if not found:
            for task in tasks:
                unusable = list(_on_golds(path, spec, task, recipe.training_samples(task)))
                yield from unusable
                for prompt in () if unusable else prompts:
                    yield from _on_a_sample(path, spec, task, prompt)


def _places(
    recipe: Recipe, arms: list[ArmSpec]
) -> Iterator[tuple[KeyPath, RewardSpec, list[StageTask], list[PromptStyle]]]:
    """Every `reward:` with the tasks and prompt styles that it is used on; none of these if nothing uses it."""
    rewarded = [arm for arm in arms if arm.method.needs_rollouts or arm.filter]
    plain = list(dict.fromkeys(arm.prompt for arm in rewarded if arm.reward is None))
    if recipe.reward is not None:
        yield ("reward",), recipe.reward, [task for task in recipe.tasks if task.reward is None], plain
    for i, task in enumerate(recipe.tasks):
        if task.reward is not None:
            yield ("tasks", i, "reward"), task.reward, [task], plain
    for family, arm in recipe.arms.items():
        if arm.reward is not None:
            prompts = list(dict.fromkeys(one.prompt for one in rewarded if one.family == family))
            yield ("arms", family, "reward"), arm.reward, list(recipe.tasks), prompts
    for name, spec in recipe.reward_sets.items():
        yield ("reward_sets", name), spec, list(recipe.tasks), list(dict.fromkeys(arm.prompt for arm in rewarded))


def _inside(where: tuple[str | int, ...]) -> KeyPath:
    return (COMPONENTS, *where) if where and isinstance(where[0], int) else where


def _on_a_sample(path: KeyPath, spec: RewardSpec, task: StageTask, prompt: PromptStyle) -> Iterator[Problem]:
    if task.name not in task_names():
        return  # told elsewhere
    known = get_task(task.name)
    sample = read_samples(known, "train", 1)[0]
    limit = limits_of(known)[prompt]
    row = reward_row(sample, prompt, finish_reason="stop", n_tokens=limit // 2, max_tokens=limit)
    composite = spec.build()
    missing = sorted(composite.required - row.keys())
    if missing:
        yield path, f"needs the column {missing[0]!r}, which task {task.name} does not have"
        return
    completions = (known.target(sample, "policy", prompt), "")
    tried: list[tuple[KeyPath, score.Reward, str]] = []
    for i, component in enumerate(spec.data()):
        if component["type"] == PYTHON:
            single = load(parameters_of(component))
            tried.append(((*path, COMPONENTS, i), single, single.where))
    for where, reward, name in [*tried, (path, composite, f"on task {task.name}")]:
        try:
            for completion in completions:
                try_out(reward, completion, row, name)
        except ValueError as error:
            yield where, str(error)
            return


def _on_golds(path: KeyPath, spec: RewardSpec, task: StageTask, samples: int) -> Iterator[Problem]:
    """The first training sample whose gold answer the reward can't use. A reward that uses any costs nothing here.

    Of very many samples the first `MOST_GOLDS` are looked at; the others are when their stage starts.
    """
    composite = spec.build()
    if task.name not in task_names() or not checks_golds(composite):
        return
    found = read_samples(get_task(task.name), "train", min(samples, MOST_GOLDS))
    try:
        check_golds(composite, ((f"sample {one.id}", reward_row(one, "direct")) for one in found), spec.describe())
    except ValueError as error:
        yield path, str(error)
