"""Tasks that a recipe takes from files: definitions that several recipes share, and the published streams.

    tasks:
      - {file: invoices.yaml}                                  # all tasks of a file, in its order
      - {file: streams/coin, root: /data/coin, only: [coin-gqa, coin-vqav2], samples: 4096}

A task file has `tasks:`, a list of definitions, and may have `defaults:`, what they have in common; or it is one
definition. Names such as `streams/coin` are of files that come with cpt, unless there is such a file beside the recipe.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cpt.common.files import expanded
from cpt.common.keys import KeyPath, dotted, nearest, shortened, shown
from cpt.recipe.errors import explain
from cpt.recipe.schema import StageTask
from cpt.recipe.source import SHIPPED, RawRecipe, RecipeError, read_one
from cpt.tasks.definition import TaskDefinition

_SECTIONS = ("tasks", "general")
_BESIDE = ("samples", "evaluation_samples", "reward")  # what a recipe says of a task, beside its definition
_OF_AN_ENTRY = ("file", "root", "only", *_BESIDE)
_OF_A_FILE = ("tasks", "defaults")


def include_task_files(source: RawRecipe) -> None:
    """Put definitions in the place of entries that name a file, and say of every definition where its files lie.

    The resolved recipe then says all there is to its tasks.

    Raises:
        RecipeError: there is no such file or task in it, or a shipped one is named without `root`.
    """
    for section in _SECTIONS:
        entries = source.data.get(section)
        if not isinstance(entries, list):
            continue
        expanded: list[Any] = []
        places: dict[KeyPath, str] = {}
        for number, entry in enumerate(entries):
            at: KeyPath = (section, number)
            if isinstance(entry, Mapping) and "file" in entry:
                found = _of_file(source, at, entry)
            else:
                own = {path[2:]: place for path, place in source.places.items() if path[:2] == at}
                try:
                    found = [(_rooted(entry, source.folder(at)), own)]
                except ValueError as error:
                    raise RecipeError([source.problem((*at, "data", "root"), str(error))]) from error
            for definition, written in found:
                places |= {(section, len(expanded), *path): place for path, place in written.items()}
                expanded.append(definition)
        for path in [path for path in source.places if path[:1] == (section,) and len(path) > 1]:
            del source.places[path]
        source.places |= places
        source.data[section] = expanded


def task_file(name: str, beside: Path | None = None) -> Path:
    """The task file that a name is of: a path, absolute or from the folder `beside`, or one that comes with cpt.

    Raises:
        ValueError: there is none; the message names the nearest shipped one.
    """
    given = (beside or Path()) / expanded(name)
    if os.path.isfile(given):  # a name that is too long for the file system is simply not there
        return given
    known = shipped_task_files()
    if name.removesuffix(".yaml") in known:
        return known[name.removesuffix(".yaml")]
    told = shortened(str(given), 200)
    raise ValueError(f"there is no task file {told}, and none of that name comes with cpt{nearest(name, list(known))}")


def shipped_task_files() -> dict[str, Path]:
    """Name (`streams/coin`) to file."""
    return {
        str(path.relative_to(SHIPPED).with_suffix("")): path
        for path in sorted(SHIPPED.glob("*/*.yaml"))
        if path.parent.name in ("streams", "general", "tasks")
    }


def read_task_file(file: Path, root: str | None = None) -> list[TaskDefinition]:
    """The definitions of a file, checked.

    Args:
        root: what relative paths of data start from; the file's folder if None, which a shipped file refuses.

    Raises:
        RecipeError: with one line per problem, `file:line: key: message`.
    """
    found: list[TaskDefinition] = []
    problems: list[str] = []
    for number, (entry, written) in enumerate(_definitions(file, root)):
        at: KeyPath = ("tasks", number)
        source = RawRecipe({}, {(): f"{file}:1"} | {(*at, *k): v for k, v in written.items()})
        try:
            task = StageTask.model_validate(entry)
        except ValidationError as error:
            problems += [source.problem(path, message) for path, message in explain(error, entry, at)]
            continue
        if not task.is_definition:
            problems.append(source.problem(at, "has no data: say where its rows are, as in `data: rows.jsonl`"))
        else:
            found.append(task.definition)
    if problems:
        raise RecipeError(problems)
    return found


def definitions_in(recipe_text: str) -> list[TaskDefinition]:
    """The tasks that a run's own recipe.yaml defines. ValueError if it is none of this cpt."""
    content = yaml.safe_load(recipe_text) or {}
    found = []
    for section in _SECTIONS:
        for number, entry in enumerate(content.get(section) or ()):
            if not isinstance(entry, Mapping) or entry.get("data") is None:
                continue
            said = {key: value for key, value in entry.items() if key in TaskDefinition.model_fields}
            try:
                found.append(TaskDefinition.model_validate(said))
            except ValidationError as error:
                where, message = next(explain(error, said, (section, number)))
                raise ValueError(f"the run's recipe.yaml: {dotted(where)}: {message}") from error
    return found


def _of_file(source: RawRecipe, at: KeyPath, entry: Mapping[str, Any]) -> list[tuple[Any, dict[KeyPath, str]]]:
    """The entries that stand for one that names a file."""
    for key in entry:
        if key not in _OF_AN_ENTRY:
            told = f"unknown key beside file{nearest(key, _OF_AN_ENTRY)}"
            if key in TaskDefinition.model_fields:
                told = f"belongs to a definition, and this entry takes them from {shown(entry['file'])}: write it there"
            raise RecipeError([source.problem((*at, key), told)])
    for key in ("file", "root"):
        if not isinstance(entry.get(key), str) and not (key == "root" and entry.get(key) is None):
            raise RecipeError([source.problem((*at, key), f"must be text, not {shown(entry[key])}")])
    only = entry.get("only")
    asked = [only] if isinstance(only, str) else only
    if only is not None and not (isinstance(asked, list) and asked and all(isinstance(name, str) for name in asked)):
        raise RecipeError([source.problem((*at, "only"), f"must be a list of tasks' names, not {shown(only)}")])
    try:
        file = task_file(entry["file"], source.folder(at))
        root = entry.get("root")
        found = _definitions(file, None if root is None else str(source.folder(at) / expanded(root)))
    except RecipeError:
        raise
    except ValueError as error:
        raise RecipeError([source.problem((*at, "file"), str(error))]) from None
    if asked is not None:
        by_name = {one["name"]: (one, written) for one, written in found}
        for name in asked:
            if name not in by_name:
                told = f"{file} has no task {name!r}{nearest(name, list(by_name))}"
                raise RecipeError([source.problem((*at, "only"), told)])
        found = [by_name[name] for name in asked]
    beside = {key: entry[key] for key in _BESIDE if key in entry}
    if at[0] == "general":
        found = [({k: v for k, v in one.items() if k not in ("samples", "reward")}, written) for one, written in found]
    return [({**one, **beside}, {(): source.place(at), **written}) for one, written in found]


def _definitions(file: Path, root: str | None) -> list[tuple[dict[str, Any], dict[KeyPath, str]]]:
    """The definitions of a file as written, defaults filled in, with their places."""
    raw = read_one(file)
    if root is None and file.is_relative_to(SHIPPED):
        raise ValueError(
            f"{file.stem} comes without data: write root, the folder where its files lie ({file} says how)"
        )
    folder = file.parent if root is None else Path(root)
    if "tasks" not in raw.data and "name" in raw.data:
        return [(_rooted(raw.data, folder), raw.places)]
    if "arms" in raw.data:
        raise RecipeError([raw.problem((), "is a recipe, and a file of tasks is asked for: only tasks and defaults")])
    for key in raw.data:
        if key not in _OF_A_FILE:
            raise RecipeError([raw.problem((key,), f"unknown key of a task file{nearest(key, _OF_A_FILE)}")])
    tasks, defaults = raw.data.get("tasks"), raw.data.get("defaults") or {}
    if not isinstance(defaults, dict):
        raise RecipeError([raw.problem(("defaults",), f"must be a mapping of key: value, not {shown(defaults)}")])
    if not isinstance(tasks, list) or not tasks or not all(isinstance(one, dict) and "name" in one for one in tasks):
        raise RecipeError([raw.problem(("tasks",), "must be a list of definitions, each with a name")])
    found = []
    names = [one["name"] for one in tasks]
    for number, one in enumerate(tasks):
        if one["name"] in names[:number]:
            raise RecipeError([raw.problem(("tasks", number), f"{shown(one['name'])} stands here twice")])
        written = {path[2:]: place for path, place in raw.places.items() if path[:2] == ("tasks", number)}
        found.append((_rooted(_filled(one, defaults), folder), written))
    return found


def _filled(one: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A definition with what all have in common, key by key."""
    merged = dict(defaults)
    for key, value in one.items():
        known = merged.get(key)
        merged[key] = _filled(value, known) if isinstance(value, Mapping) and isinstance(known, Mapping) else value
    return merged


def _rooted(entry: Any, folder: Path) -> Any:
    """A definition that says where its relative paths start."""
    if not isinstance(entry, Mapping) or entry.get("data") is None:
        return entry
    return {**entry, "data": _rooted_data(entry["data"], folder)}


def _rooted_data(data: Any, folder: Path) -> Any:
    data = {"path": data} if isinstance(data, str) else data
    if not isinstance(data, Mapping):
        return data  # told by the checks
    own = data.get("root")
    if own is not None and not isinstance(own, str):
        return data  # the same
    root = (folder / expanded(own or "")).absolute()
    mixed = {"mix": [_rooted_data(one, root) for one in data["mix"]]} if isinstance(data.get("mix"), list) else {}
    return {**data, "root": str(root), **mixed}
