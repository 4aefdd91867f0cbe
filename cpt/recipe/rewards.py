"""`reward:` in recipes: what GRPO is paid for, where it is not the task's own reward.

    reward: [{type: accuracy, weight: 0.9, requires: format}, {type: format, weight: 0.1}]
    reward: {components: [...], clip: [0, 1]}                  # the same, with bounds

It may stand in the recipe, in a task of `tasks`, and in an arm; an arm's goes before a task's, a task's before the
recipe's. The rules of a composite are those of `rewards.compose`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cpt.methods.plugin import Strict
from cpt.recipe.source import RecipeError
from cpt.recipe.yaml_text import COMMAND_LINE
from rewards import score
from rewards.compose import MAX_WEIGHT, PYTHON, Composite, filled, label_of, parameters_of, problems
from rewards.golds import check_golds, checks_golds
from rewards.python_file import load, read_source, try_out

if TYPE_CHECKING:
    from cpt.recipe.arms import ArmSpec
    from cpt.recipe.schema import Recipe, StageTask
    from cpt.recipe.source import KeyPath, Source
    from cpt.types import PromptStyle

COMPONENTS = "components"
MOST_GOLDS = 10_000  # gold answers of a task that are tried when a recipe is read
_REWARDS = {"reward", "reward_sets"}  # below which components stand in a recipe
_OF_A_RUN = ("manifest.json", "plan.json")  # either makes a folder a run's, also where the other was taken out


class Component(BaseModel):
    """One weighted reward; keys beside these are its parameters. `label`: its part's name; `requires`: its gate."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    type: str
    weight: Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]
    label: str | None = None
    requires: str | None = None


class RewardSpec(Strict):
    """A composite: the weighted sum of its components, within `clip` (null: [0, 1])."""

    components: Annotated[list[Component], Field(min_length=1, max_length=100)]
    clip: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None

    def data(self) -> list[dict[str, Any]]:
        """The components as `rewards.compose` takes them."""
        return [component.model_dump(exclude_none=True) for component in self.components]

    def code(self) -> frozenset[str]:
        """The texts of the functions among the components."""
        return frozenset(str(one.get("source")) for one in self.data() if one["type"] == PYTHON)

    def build(self) -> Composite:
        """The reward. ValueError if there is something wrong with it, which loading the recipe has ruled out."""
        return Composite(self.data(), self.clip)

    def describe(self) -> str:
        """In one line: `0.9 accuracy (if format) + 0.1 format`."""
        terms = []
        for component in self.data():
            gate = f" (if {component['requires']})" if "requires" in component else ""
            terms.append(f"{component['weight']:g} {label_of(component)}{gate}")
        bounds = "" if self.clip is None else f", clipped to {self.clip[0]:g} to {self.clip[1]:g}"
        return " + ".join(terms).replace("+ -", "− ") + bounds


def _written_out(value: Any) -> Any:
    """A bare list stands for its components; parameters that are left out get their defaults, for the record."""
    spec = {COMPONENTS: value} if isinstance(value, list) else value
    if isinstance(spec, Mapping) and isinstance(spec.get(COMPONENTS), list):
        written = [filled(one) if isinstance(one, Mapping) else one for one in spec[COMPONENTS]]
        return {**spec, COMPONENTS: written}
    return spec


Reward = Annotated[RewardSpec, BeforeValidator(_written_out)]


def reward_of(recipe: Recipe, arm: ArmSpec, task: StageTask) -> RewardSpec | None:
    """What an arm is paid for on a task; None for the task's own reward, and for methods without rollouts."""
    return filter_reward_of(recipe, arm, task) if arm.method.needs_rollouts else None


def filter_reward_of(recipe: Recipe, arm: ArmSpec, task: StageTask) -> RewardSpec | None:
    """What a filter's rollouts are paid for, also in an arm whose method has no reward; None for the task's own."""
    return arm.reward or task.reward or recipe.reward


def include_sources(source: Source) -> None:
    """Put the text of every user's function beside its `file`, which is relative to the recipe file that names it.

    The resolved recipe then says all there is to a reward: its hash changes with the text, and a stage's process needs
    no file. A file that can't be read is left to the checks.
    """
    for path, component in _python_components(source.data, ()):
        file = component.get("file")
        if isinstance(file, str) and "source" not in component:
            found = _folder(source, path) / file
            if not os.path.isfile(found):
                continue
            try:
                component["source"] = read_source(found)
            except ValueError as error:
                raise RecipeError([source.problem(path, str(error))]) from None


def carried_code(source: Source) -> Iterator[tuple[KeyPath, str]]:
    """Functions that came with the recipe, and the file each is said to be of.

    Their text stands in the recipe, as in a run folder's, or in a file that a run folder's recipe names. Whoever has
    been given such a folder has not chosen that code, as one has that names a file in a recipe of one's own.
    """
    for path, component in _python_components(source.data, ()):
        named_by_user = source.place((*path, "file")) == COMMAND_LINE
        folders = set() if named_by_user else {_folder(source, ()), _folder(source, path)}
        if "source" in component or any((folder / name).exists() for folder in folders for name in _OF_A_RUN):
            yield path, str(component.get("file"))


def code_of(recipe: Recipe) -> frozenset[str]:
    """The texts of all functions of type python that the recipe pays by."""
    of_tasks, of_arms = [task.reward for task in recipe.tasks], [arm.reward for arm in recipe.arms.values()]
    specs = [recipe.reward, *of_tasks, *of_arms, *recipe.reward_sets.values()]
    return frozenset[str]().union(*(spec.code() for spec in specs if spec is not None))


def as_written(path: KeyPath, data: Any) -> KeyPath:
    """A path in the recipe as its writer knows it: without `components` where a bare list stands for them."""
    written: KeyPath = ()
    for step in path:
        if isinstance(data, list) and step == COMPONENTS:
            continue
        written = (*written, step)
        if isinstance(data, Mapping):
            data = data.get(step)
        else:
            data = data[step] if isinstance(data, list) and isinstance(step, int) and step < len(data) else None
    return written


def check_rewards(recipe: Recipe, arms: Iterable[ArmSpec]) -> Iterator[tuple[KeyPath, str]]:
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
                unusable = list(_on_golds(path, spec, task, task.samples or recipe.data.samples))
                yield from unusable
                for prompt in () if unusable else prompts:
                    yield from _on_a_sample(path, spec, task, prompt)


def _places(
    recipe: Recipe, arms: list[ArmSpec]
) -> Iterator[tuple[KeyPath, RewardSpec, list[StageTask], list[PromptStyle]]]:
    """Every `reward:` with the tasks and prompt styles that it is used on; none of these if nothing uses it."""
    paid = [arm for arm in arms if arm.method.needs_rollouts or arm.filter]
    plain = list(dict.fromkeys(arm.prompt for arm in paid if arm.reward is None))
    if recipe.reward is not None:
        yield ("reward",), recipe.reward, [task for task in recipe.tasks if task.reward is None], plain
    for i, task in enumerate(recipe.tasks):
        if task.reward is not None:
            yield ("tasks", i, "reward"), task.reward, [task], plain
    for family, arm in recipe.arms.items():
        if arm.reward is not None:
            prompts = list(dict.fromkeys(one.prompt for one in paid if one.family == family))
            yield ("arms", family, "reward"), arm.reward, list(recipe.tasks), prompts
    for name, spec in recipe.reward_sets.items():
        yield ("reward_sets", name), spec, list(recipe.tasks), list(dict.fromkeys(arm.prompt for arm in paid))


def _folder(source: Source, path: KeyPath) -> Path:
    """Where the recipe file lies that a component stands in; for one of the command line, where the recipe lies."""
    return Path(source.place(path).rpartition(":")[0] or source.place(()).rpartition(":")[0]).parent


def _inside(where: tuple[str | int, ...]) -> KeyPath:
    return (COMPONENTS, *where) if where and isinstance(where[0], int) else where


def _on_a_sample(
    path: KeyPath, spec: RewardSpec, task: StageTask, prompt: PromptStyle
) -> Iterator[tuple[KeyPath, str]]:
    from cpt.tasks import get_task, read_samples, task_names
    from cpt.tasks.prompts import MAX_COMPLETION_TOKENS
    from cpt.tasks.row import reward_row

    if task.name not in task_names():
        return  # told elsewhere
    known = get_task(task.name)
    sample = read_samples(known, "train", 1)[0]
    limit = MAX_COMPLETION_TOKENS[prompt]
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


def _on_golds(path: KeyPath, spec: RewardSpec, task: StageTask, samples: int) -> Iterator[tuple[KeyPath, str]]:
    """The first training sample whose gold answer the reward can't use. A reward that uses any costs nothing here.

    Of very many samples the first `MOST_GOLDS` are looked at; the others are when their stage starts.
    """
    from cpt.tasks import get_task, read_samples, task_names
    from cpt.tasks.row import reward_row

    composite = spec.build()
    if task.name not in task_names() or not checks_golds(composite):
        return
    found = read_samples(get_task(task.name), "train", min(samples, MOST_GOLDS))
    try:
        check_golds(composite, ((f"sample {one.id}", reward_row(one, "direct")) for one in found), spec.describe())
    except ValueError as error:
        yield path, str(error)


def _python_components(data: Any, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Every component of type python below a `reward:`, and where it stands."""
    if isinstance(data, dict) and data.get("type") == PYTHON and _REWARDS & set(path):
        yield path, data
    inner = data.items() if isinstance(data, dict) else enumerate(data if isinstance(data, list) else ())
    for key, value in inner:
        yield from _python_components(value, (*path, key))
