"""Recipe files as plain data that remembers where every key stands: reading, `extends`, shorthands."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt.common.keys import Key, KeyPath, dotted, shortened
from cpt.recipe.yaml_text import MAX_BYTES, RecipeError, parse

__all__ = [
    "Key",
    "KeyPath",
    "RecipeError",
    "RawRecipe",
    "Written",
    "dotted",
    "parse",
    "read",
    "shortened",
    "written_out",
]

SHIPPED = Path(__file__).parent / "shipped"
"""The recipes that come with cpt: in a checkout a link to recipes/, whose files a wheel holds in its place."""

# Where a bare text stands for a mapping with one key; * is any name or number.
_SHORTHANDS: Mapping[tuple[str, ...], str] = {
    ("model",): "name_or_path",
    ("tasks", "*"): "name",
    ("general", "*"): "name",
    ("tasks", "*", "data"): "path",
    ("general", "*", "data"): "path",
    ("model", "tuning"): "type",
    ("arms", "*", "tuning"): "type",
    ("arms", "*", "filter"): "type",
    ("arms", "*", "merge"): "type",
}


@dataclass
class RawRecipe:
    """A recipe's data before validation, and where each key of it was written (`file:line` or `command line`)."""

    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where `path` stands, or the nearest thing around it that stands anywhere."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path]

    def folder(self, path: KeyPath) -> Path:
        """Where the file lies that a key stands in; for one of the command line, where the recipe lies."""
        return Path(self.place(path).rpartition(":")[0] or self.place(()).rpartition(":")[0]).parent

    def problem(self, path: KeyPath, message: str) -> str:
        """One line of a `RecipeError`."""
        where = f"{dotted(path)}: " if path else ""
        return f"{self.place(path)}: {where}{message}"


class Written:
    """Where a checked recipe was written, for what is found wrong with it later.

    It is no part of what the recipe says: recipes that differ in nothing else are equal.
    """

    def __init__(self, source: RawRecipe | None = None) -> None:
        """None for one that was written in no file."""
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written)

    def __hash__(self) -> int:
        return 0


def read(path: Path) -> RawRecipe:
    """A recipe file with `extends: other.yaml` (relative to the file, one level) merged in.

    Mappings merge key by key; lists and single values replace. A mapping whose `type` changes is replaced as a whole,
    and so is `sweep`; an arm set to null is dropped.

    Raises:
        RecipeError: if a file is missing or not a mapping, or the extended file extends another one.
    """
    child = read_one(path)
    if "extends" not in child.data:
        return child
    place, name = child.place(("extends",)), child.data.pop("extends")
    if not isinstance(name, str):
        raise RecipeError([f"{place}: extends: must name one file, relative to this one"])
    base_path = path.parent / name
    if not os.path.isfile(base_path):
        raise RecipeError([f"{place}: extends: there is no file {base_path}"])
    base = read_one(base_path)
    if "extends" in base.data:
        raise RecipeError([f"{place}: extends: {base_path} extends another file; only one level is allowed"])
    taken: set[KeyPath] = set()
    gone: set[KeyPath] = set()
    _merge(base.data, child.data, (), taken, gone)
    kept = {path: place for path, place in base.places.items() if not _below(path, gone | taken)}
    kept |= {path: place for path, place in child.places.items() if path in kept or _below(path, taken)}
    return RawRecipe(base.data, kept)


def read_one(path: Path) -> RawRecipe:
    """One YAML file, a mapping. RecipeError if it is missing or none."""
    # os.path: a name that is too long for the file system is simply not there.
    if not os.path.isfile(path):
        folder = path if os.path.isdir(path) else path.parent
        others = [str(file) for file in sorted(folder.glob("*.yaml"))] if os.path.isdir(folder) else []
        shipped = [file.stem for file in sorted(SHIPPED.glob("*.yaml"))]
        near = others[:3] if os.path.isdir(path) else difflib.get_close_matches(str(path), [*others, *shipped], n=1)
        hint = f"; is it {' or '.join(near)}?" if near else ""
        raise RecipeError(
            [f"{path}: there is no such recipe file{hint} (`cpt recipes` lists those that come with cpt)"]
        )
    try:
        with path.open("rb") as file:
            content = file.read(4 * MAX_BYTES + 1)  # of which `parse` takes no more than a quarter
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RecipeError([f"{path}:{line}: not a text file in UTF-8"]) from None
    except OSError as error:
        raise RecipeError([f"{path}: can't be read ({error.strerror})"]) from None
    data, places = parse(text, str(path))
    if not isinstance(data, dict):
        raise RecipeError([f"{path}:1: a recipe is a mapping that starts with `version: 1`"])
    return RawRecipe(data, places)


def written_out(value: Any, path: KeyPath) -> Any:
    """The mapping that a bare text at `path` stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    for pattern, key in _SHORTHANDS.items():
        if len(pattern) == len(path) and all(p in ("*", step) for p, step in zip(pattern, path, strict=True)):
            return {key: value}
    return value


def _below(path: KeyPath, tops: Collection[KeyPath]) -> bool:
    """Whether a path is one of these, or below one."""
    return any(path[:length] in tops for length in range(1, len(path) + 1))


def _merge(base: dict[str, Any], new: dict[str, Any], path: KeyPath, taken: set[KeyPath], gone: set[KeyPath]) -> None:
    """Merges `new`, which stands at `path`, into `base`; notes what was taken from it whole, and what was dropped."""
    for key, value in new.items():
        here = (*path, key)
        old = written_out(base.get(key), here) if isinstance(value, dict) else base.get(key)
        if value is None and path == ("arms",) and key in base:
            del base[key]
            gone.add(here)
        elif _mergeable(key, old, value):
            base[key] = old
            _merge(base[key], value, here, taken, gone)
        else:
            taken.add(here)
            base[key] = value


def _mergeable(key: Hashable, old: Any, new: Any) -> bool:
    both = isinstance(old, dict) and isinstance(new, dict)
    return both and key != "sweep" and new.get("type", old.get("type")) == old.get("type")
