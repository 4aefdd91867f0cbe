"""Recipe files as plain data that remembers where every key stands: reading, `extends`, overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

Key = str | int
KeyPath = tuple[Key, ...]

# YAML 1.2's core schema: PyYAML's own rules (1.1) read 1e-4 as text, `no` as false and 010 as eight.
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}


class RecipeError(ValueError):
    """Everything wrong with a recipe, one line per problem: `file:line: key: message`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass
class Source:
    """A recipe's data before validation, and where each key of it was written (`file:line` or `command line`)."""

    data: dict[str, Any]
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where `path` stands, or the nearest thing around it that stands anywhere."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places[path]

    def problem(self, path: KeyPath, message: str) -> str:
        """One line of a `RecipeError`."""
        where = f"{dotted(path)}: " if path else ""
        return f"{self.place(path)}: {where}{message}"


def dotted(path: KeyPath) -> str:
    """A path as one writes it in an override."""
    return ".".join(map(str, path))


class _Loader(yaml.SafeLoader):
    """Composes nodes without PyYAML's ideas of what plain text means; `_scalar` decides."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


def _scalar(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _build(node: yaml.Node, path: KeyPath, file: str, places: dict[KeyPath, str], above: tuple[int, ...]) -> Any:
    """Plain data of a node; notes the place of every key below it."""
    place = f"{file}:{node.start_mark.line + 1}"
    places.setdefault(path, place)
    if node.tag not in _PLAIN_TAGS or id(node) in above:
        raise RecipeError([f"{place}: {dotted(path)}: tags and self-references are not part of a recipe; write it out"])
    above = (*above, id(node))
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node.value) if node.style is None else node.value
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*path, i), file, places, above) for i, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        here = f"{file}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise RecipeError([f"{here}: {dotted(path) or 'recipe'}: a key must be plain text"])
        key = key_node.value
        if key in result:
            raise RecipeError(
                [f"{here}: {dotted((*path, key))}: stands here twice; the first is at {places[(*path, key)]}"]
            )
        places[(*path, key)] = here
        result[key] = _build(value_node, (*path, key), file, places, above)
    return result


def parse(text: str, file: str) -> tuple[Any, dict[KeyPath, str]]:
    """YAML text as plain data, with places.

    Raises:
        RecipeError: if it is not YAML, a key stands twice, or it holds anything but plain data.
    """
    places: dict[KeyPath, str] = {}
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise RecipeError([_not_yaml(error, file)]) from None
    except yaml.YAMLError as error:
        raise RecipeError([f"{file}: not valid YAML: {' '.join(str(error).split())}"]) from None
    return (None if node is None else _build(node, (), file, places, ())), places


def _not_yaml(error: yaml.MarkedYAMLError, file: str) -> str:
    """PyYAML sees that a bracket is missing only at what follows it; the line to mend is the one that opened it."""
    mark, opened = error.problem_mark, error.context_mark
    told = error.problem or error.context
    in_brackets = error.context in ("while parsing a flow mapping", "while parsing a flow sequence")
    if in_brackets and mark and opened and opened.line < mark.line:
        bracket = "{" if error.context == "while parsing a flow mapping" else "["
        where = f"the {bracket} in column {opened.column + 1} is not closed, or a comma is missing, before"
        return f"{file}:{opened.line + 1}: not valid YAML: {where} line {mark.line + 1}: {told}"
    return f"{file}{f':{mark.line + 1}' if mark else ''}: not valid YAML: {told}"


def read(path: Path) -> Source:
    """A recipe file with `extends: other.yaml` (relative to the file, one level) merged in.

    Mappings merge key by key; lists and single values replace. A mapping whose `type` changes is replaced as a whole,
    and so is `sweep`; an arm set to null is dropped.

    Raises:
        RecipeError: if a file is missing or not a mapping, or the extended file extends another one.
    """
    child = _read_one(path)
    if "extends" not in child.data:
        return child
    place, name = child.place(("extends",)), child.data.pop("extends")
    if not isinstance(name, str):
        raise RecipeError([f"{place}: extends: must name one file, relative to this one"])
    base_path = path.parent / name
    if not base_path.is_file():
        raise RecipeError([f"{place}: extends: there is no file {base_path}"])
    base = _read_one(base_path)
    if "extends" in base.data:
        raise RecipeError([f"{place}: extends: {base_path} extends another file; only one level is allowed"])
    base.places[()] = child.places[()]
    _merge(base, child.data, (), child.places)
    return base


def _read_one(path: Path) -> Source:
    if not path.is_file():
        folder = path if path.is_dir() else path.parent
        others = [str(file) for file in sorted(folder.glob("*.yaml"))]
        near = difflib.get_close_matches(str(path), others, n=1) or others[:3]
        hint = f"; is it {' or '.join(near)}?" if near else ""
        raise RecipeError([f"{path}: there is no such recipe file{hint}"])
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError([f"{path}: not a text file in UTF-8"]) from None
    data, places = parse(text, str(path))
    if not isinstance(data, dict):
        raise RecipeError([f"{path}:1: a recipe is a mapping that starts with `version: 1`"])
    return Source(data, places)


def _forget(places: dict[KeyPath, str], path: KeyPath) -> None:
    for known in [p for p in places if p[: len(path)] == path]:
        del places[known]


def _merge(base: Source, new: dict[str, Any], path: KeyPath, places: dict[KeyPath, str]) -> None:
    """Merges `new`, which stands at `path`, into `base`, places included."""
    target: Any = base.data
    for key in path:
        target = target[key]
    for key, value in new.items():
        here = (*path, key)
        old = target.get(key)
        if value is None and path == ("arms",) and key in target:
            del target[key]
            _forget(base.places, here)
        elif _mergeable(key, old, value):
            base.places[here] = places[here]
            _merge(base, value, here, places)
        else:
            _forget(base.places, here)
            target[key] = value
            base.places |= {p: place for p, place in places.items() if p[: len(here)] == here}


def _mergeable(key: Hashable, old: Any, new: Any) -> bool:
    both = isinstance(old, dict) and isinstance(new, dict)
    return both and key != "sweep" and new.get("type", old.get("type")) == old.get("type")


def override(source: Source, assignment: str) -> None:
    """Applies `dotted.key=value` from the command line; the value is YAML (`1e-4`, `[a, b]`, `{type: lora, r: 8}`).

    Raises:
        RecipeError: if it is not an assignment, names an arm that does not exist, or sets what a sweep would set again.
    """
    name, equals, text = assignment.partition("=")
    keys: list[str] = name.split(".")
    if not equals or not all(keys):
        raise RecipeError([f"command line: {assignment!r} is not an override; write key=value, as in data.samples=512"])
    if "sweep" in keys[:-1]:  # what a sweep varies is itself a dotted path
        at = keys.index("sweep") + 1
        keys = [*keys[:at], ".".join(keys[at:])]
    if keys[0] == "extends":
        raise RecipeError(["command line: extends: only a file can extend another one"])
    value, places = parse(text, "command line")
    path, target = _descend(source, keys, assignment)
    _forbid_swept(source, keys)
    _forget(source.places, path)
    if value is None and len(path) == 2 and path[0] == "arms":
        del target[path[-1]]
        return
    target[path[-1]] = value
    source.places |= {(*path, *p): "command line" for p in places} | {path: "command line"}


def _descend(source: Source, keys: list[str], assignment: str) -> tuple[KeyPath, Any]:
    """The path of an override and the container of its last key; mappings on the way are made if missing."""
    target: Any = source.data
    path: KeyPath = ()
    for position, key in enumerate(keys):
        step: Key = key
        if isinstance(target, list):
            if not key.isdecimal() or int(key) >= len(target):
                raise RecipeError(
                    [f"command line: {assignment!r}: {dotted(path)} is a list with items 0 to {len(target) - 1}"]
                )
            step = int(key)
        elif path == ("arms",) and key not in target:
            raise RecipeError([f"command line: {assignment!r}: there is no arm {key!r}; arms: {', '.join(target)}"])
        path = (*path, step)
        if position == len(keys) - 1:
            return path, target
        inner = target[int(key)] if isinstance(target, list) else target.setdefault(key, {})
        if not isinstance(inner, dict | list):  # a bare name that stands for a mapping, such as `tuning: lora`
            raise RecipeError([f"command line: {assignment!r}: {dotted(path)} is {inner!r}; override it as a whole"])
        target = inner
    raise AssertionError("an override has at least one key")


def _forbid_swept(source: Source, keys: list[str]) -> None:
    """A sweep sets its key after the override and would undo it without a word."""
    arms = source.data.get("arms")
    if keys[0] != "arms" or len(keys) < 3 or keys[2] == "sweep" or not isinstance(arms, dict):
        return
    arm, name = arms[keys[1]], ".".join(keys[2:])
    sweep = arm.get("sweep") if isinstance(arm, dict) else None
    for swept in sweep if isinstance(sweep, dict) else ():
        if name in (swept, f"method.{swept}"):
            instead = f"override arms.{keys[1]}.sweep.{swept}=[…] instead"
            raise RecipeError([f"command line: {'.'.join(keys)}: this arm sweeps it; {instead}"])
