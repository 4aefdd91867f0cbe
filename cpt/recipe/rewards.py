"""`reward:` in recipes: what GRPO is rewarded for, where it is not the task's own reward.

    reward: [{type: accuracy, weight: 0.9, requires: format}, {type: format, weight: 0.1}]
    reward: {components: [...], clip: [0, 1]}                  # the same, with bounds

It may stand in the recipe, in a task of `tasks`, and in an arm; an arm's goes before a task's, a task's before the
recipe's. The rules of a composite are those of `rewards.compose`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cpt.common.keys import KeyPath
from cpt.common.strict import Strict
from cpt.recipe.source import RawRecipe, RecipeError
from cpt.recipe.yaml_text import COMMAND_LINE
from rewards.compose import MAX_WEIGHT, PYTHON, Composite, filled, label_of
from rewards.python_file import read_source

COMPONENTS = "components"
_REWARDS = {"reward", "reward_sets"}  # below which components stand in a recipe
_OF_A_RUN = ("manifest.json", "plan.json")  # either makes a folder a run's, also where the other was taken out


class ComponentSpec(BaseModel):
    """One weighted reward; keys beside these are its parameters. `label`: its part's name; `requires`: its gate."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    type: str
    weight: Annotated[float, Field(ge=-MAX_WEIGHT, le=MAX_WEIGHT)]
    label: str | None = None
    requires: str | None = None


class RewardSpec(Strict):
    """A composite: the weighted sum of its components, within `clip` (null: [0, 1])."""

    components: Annotated[list[ComponentSpec], Field(min_length=1, max_length=100)]
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


def include_sources(source: RawRecipe) -> None:
    """Put the text of every user's function beside its `file`, which is relative to the recipe file that names it.

    The resolved recipe then says all there is to a reward: its hash changes with the text, and a stage's process needs
    no file. A file that can't be read is left to the checks.
    """
    for path, component in _python_components(source.data, ()):
        file = component.get("file")
        if isinstance(file, str) and "source" not in component:
            found = source.folder(path) / file
            if not os.path.isfile(found):
                continue
            try:
                component["source"] = read_source(found)
            except ValueError as error:
                raise RecipeError([source.problem(path, str(error))]) from None


def carried_code(source: RawRecipe) -> Iterator[tuple[KeyPath, str]]:
    """Functions that came with the recipe, and the file each is said to be of.

    Their text stands in the recipe, as in a run folder's, or in a file that a run folder's recipe names. Whoever has
    been given such a folder has not chosen that code, as one has that names a file in a recipe of one's own.
    """
    for path, component in _python_components(source.data, ()):
        named_by_user = source.place((*path, "file")) == COMMAND_LINE
        folders = set() if named_by_user else {source.folder(()), source.folder(path)}
        if "source" in component or any((folder / name).exists() for folder in folders for name in _OF_A_RUN):
            yield path, str(component.get("file"))


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


def _python_components(data: Any, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Every component of type python below a `reward:`, and where it stands."""
    if isinstance(data, dict) and data.get("type") == PYTHON and _REWARDS & set(path):
        yield path, data
    inner = data.items() if isinstance(data, dict) else enumerate(data if isinstance(data, list) else ())
    for key, value in inner:
        yield from _python_components(value, (*path, key))
