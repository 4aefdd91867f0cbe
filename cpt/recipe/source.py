"""Recipe files as plain data that remembers where every key stands: reading, `extends`, overrides."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from cpt.words import printable

Key = str | int
KeyPath = tuple[Key, ...]

# YAML 1.2's core schema: PyYAML's own rules (1.1) read 1e-4 as text, `no` as false and 010 as eight.
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
# A recipe by hand has hundreds of values; these bounds keep a hostile file from taking minutes and gigabytes.
MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_VALUES = 50_000
MAX_WHOLE = 2**63 - 1  # what arrays, seeds and files can hold
_LONGEST = 1000  # characters of a message: values are quoted in it
_COMMAND_LINE = "command line"
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}


class RecipeError(ValueError):
    """Everything wrong with a recipe, one line per problem: `file:line: key: message`."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [shortened(printable(problem), _LONGEST) for problem in problems]
        super().__init__("\n".join(self.problems))


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
        where = f"{shortened(dotted(path), 200)}: " if path else ""
        return f"{self.place(path)}: {where}{message}"


class Written:
    """Where a checked recipe was written, for what is found wrong with it later.

    It is no part of what the recipe says: recipes that differ in nothing else are equal.
    """

    def __init__(self, source: Source | None = None) -> None:
        """None for one that was written in no file."""
        self.source = source

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written)

    def __hash__(self) -> int:
        return 0


def dotted(path: KeyPath) -> str:
    """A path as one writes it in an override."""
    return ".".join(map(str, path))


def shortened(text: str, most: int = 60) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


class _TooDeep(yaml.MarkedYAMLError):
    """Brackets or indentation within each other beyond `MAX_DEPTH`."""


class _Loader(yaml.SafeLoader):
    """Composes nodes without PyYAML's ideas of what plain text means; `_scalar` decides."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.inside: list[str] = []  # keys and numbers of what is being composed

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """PyYAML's own, which calls itself for every level, up to a bound.

        Args:
            index: the key's node, or the number in a list.
        """
        if len(self.inside) > MAX_DEPTH:
            where = dotted(tuple(key for key in self.inside[:4] if key))
            told = f"{where}: more than {MAX_DEPTH} levels of values in each other; a recipe has ten at most"
            raise _TooDeep(problem=told, problem_mark=self.peek_event().start_mark)
        self.inside.append(str(index.value if isinstance(index, yaml.ScalarNode) else "" if index is None else index))
        node: yaml.Node | None = super().compose_node(parent, index)
        self.inside.pop()
        return node


def _scalar(text: str) -> Any:
    """A plain value. ValueError for a number that nothing could hold."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        digits = text.lstrip("+-0")
        if len(digits) > len(str(MAX_WHOLE)) or abs(int(text)) > MAX_WHOLE:
            raise ValueError(f"a whole number of {len(digits)} digits is too large for anything; write a smaller one")
        return int(text)
    if _FLOAT.fullmatch(text):
        if not math.isfinite(float(text)):
            raise ValueError(f"{shortened(text)} is larger than any number a computer has; write a smaller one")
        return float(text)
    return text


@dataclass
class _Builder:
    """Turns nodes into plain data; notes the place of every key."""

    file: str
    above: KeyPath  # what the text's own paths stand below, in an override
    places: dict[KeyPath, str] = field(default_factory=dict)
    values: int = 0

    def place(self, node: yaml.Node) -> str:
        """`file:line`; of an override there is only one line."""
        return self.file if self.file == _COMMAND_LINE else f"{self.file}:{node.start_mark.line + 1}"

    def refuse(self, node: yaml.Node, path: KeyPath, message: str) -> RecipeError:
        """An error at a node."""
        where = dotted((*self.above, *path)) or "recipe"
        return RecipeError([f"{self.place(node)}: {shortened(where, 200)}: {message}"])

    def build(self, node: yaml.Node, path: KeyPath, around: tuple[int, ...]) -> Any:
        """Plain data of a node."""
        self.places.setdefault(path, self.place(node))
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.refuse(node, path, f"more than {MAX_VALUES} values, aliases written out; a recipe has hundreds")
        if node.tag not in _PLAIN_TAGS or id(node) in around:
            raise self.refuse(node, path, "tags and self-references are not part of a recipe; write it out")
        around = (*around, id(node))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, i), around) for i, item in enumerate(node.value)]
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.refuse(key_node, path, "a key must be plain text")
            key = self.text(key_node, path, key_node.value)
            here = (*path, key)
            if key in result:
                raise self.refuse(key_node, here, f"stands here twice; the first is at {self.places[here]}")
            self.places[here] = self.place(key_node)
            result[key] = self.build(value_node, here, around)
        return result

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        """One value."""
        value = self.text(node, path, node.value)
        if node.style is not None:
            return value
        try:
            return _scalar(value)
        except ValueError as error:
            raise self.refuse(node, path, str(error)) from None

    def text(self, node: yaml.Node, path: KeyPath, value: str) -> str:
        """`value`, which no file, path or terminal takes if it holds a NUL or half a character."""
        if "\0" in value or any("\ud800" <= one <= "\udfff" for one in value):
            raise self.refuse(node, path, "text must not hold a NUL or a lone surrogate; remove the escape")
        return value


def parse(text: str, file: str, above: KeyPath = ()) -> tuple[Any, dict[KeyPath, str]]:
    """YAML text as plain data, with places.

    Args:
        above: the key that the text is the value of, for messages.

    Raises:
        RecipeError: if it is not YAML, a key stands twice, or it holds anything but plain data, or more than a recipe
            could.
    """
    where = f"{file}: {dotted(above)}" if above else file
    if len(text) > MAX_BYTES:
        raise RecipeError([f"{where}: {len(text)} characters are no recipe; it has {MAX_BYTES} at most"])
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise RecipeError([_not_yaml(error, where)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = error.character if isinstance(error.character, int) else ord(error.character)
        told = f"{where}:{line}: not valid YAML: the character U+{found:04X} is not allowed; remove it"
        raise RecipeError([told]) from None
    except yaml.YAMLError as error:
        raise RecipeError([f"{where}: not valid YAML: {' '.join(str(error).split())}"]) from None
    builder = _Builder(file, above)
    return (None if node is None else builder.build(node, (), ())), builder.places


def _not_yaml(error: yaml.MarkedYAMLError, file: str) -> str:
    """PyYAML sees that a bracket is missing only at what follows it; the line to mend is the one that opened it."""
    mark, opened = error.problem_mark, error.context_mark
    told = error.problem or error.context
    if isinstance(error, _TooDeep) and mark:
        return f"{file}:{mark.line + 1}: {told}"
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
    if not os.path.isfile(base_path):
        raise RecipeError([f"{place}: extends: there is no file {base_path}"])
    base = _read_one(base_path)
    if "extends" in base.data:
        raise RecipeError([f"{place}: extends: {base_path} extends another file; only one level is allowed"])
    taken: set[KeyPath] = set()
    gone: set[KeyPath] = set()
    _merge(base.data, child.data, (), taken, gone)
    kept = {path: place for path, place in base.places.items() if not _below(path, gone | taken)}
    kept |= {path: place for path, place in child.places.items() if path in kept or _below(path, taken)}
    return Source(base.data, kept)


def _read_one(path: Path) -> Source:
    # os.path: a name that is too long for the file system is simply not there.
    if not os.path.isfile(path):
        folder = path if os.path.isdir(path) else path.parent
        others = [str(file) for file in sorted(folder.glob("*.yaml"))] if os.path.isdir(folder) else []
        near = difflib.get_close_matches(str(path), others, n=1) or others[:3]
        hint = f"; is it {' or '.join(near)}?" if near else ""
        raise RecipeError([f"{path}: there is no such recipe file{hint}"])
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
    return Source(data, places)


def _forget(places: dict[KeyPath, str], path: KeyPath) -> None:
    for known in [p for p in places if p[: len(path)] == path]:
        del places[known]


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


# Where a bare text stands for a mapping with one key; * is any name or number.
_SHORTHANDS: Mapping[tuple[str, ...], str] = {
    ("model",): "name_or_path",
    ("tasks", "*"): "name",
    ("general", "*"): "name",
    ("model", "tuning"): "type",
    ("arms", "*", "tuning"): "type",
    ("arms", "*", "filter"): "type",
    ("arms", "*", "merge"): "type",
}


def written_out(value: Any, path: KeyPath) -> Any:
    """The mapping that a bare text at `path` stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    for pattern, key in _SHORTHANDS.items():
        if len(pattern) == len(path) and all(p in ("*", step) for p, step in zip(pattern, path, strict=True)):
            return {key: value}
    return value


def override(source: Source, assignment: str) -> None:
    """Applies `dotted.key=value` from the command line; the value is YAML (`1e-4`, `[a, b]`, `{type: lora, r: 8}`).

    Raises:
        RecipeError: if it is not an assignment, names an arm that does not exist, or sets what a sweep would set again.
    """
    name, equals, text = assignment.partition("=")
    keys: list[str] = name.split(".")
    told = shortened(assignment)
    if not equals or not all(keys):
        raise RecipeError([f"{_COMMAND_LINE}: {told!r} is not an override; write key=value, as in data.samples=512"])
    if len(keys) > MAX_DEPTH:
        raise RecipeError([f"{_COMMAND_LINE}: {told!r}: a key of {len(keys)} parts is none of a recipe"])
    if "sweep" in keys[:-1]:  # what a sweep varies is itself a dotted path
        at = keys.index("sweep") + 1
        keys = [*keys[:at], ".".join(keys[at:])]
    if keys[0] == "extends":
        raise RecipeError([f"{_COMMAND_LINE}: extends: only a file can extend another one"])
    value, places = parse(text, _COMMAND_LINE, tuple(keys))
    path, target = _descend(source, keys, told)
    _forbid_swept(source, keys)
    _forget(source.places, path)
    if value is None and len(path) == 2 and path[0] == "arms":
        del target[path[-1]]
        return
    target[path[-1]] = value
    source.places |= {(*path, *p): _COMMAND_LINE for p in places} | {path: _COMMAND_LINE}


def _descend(source: Source, keys: list[str], told: str) -> tuple[KeyPath, Any]:
    """The path of an override and the container of its last key; mappings on the way are made if missing.

    Args:
        told: the override, for messages.
    """
    target: Any = source.data
    path: KeyPath = ()
    for position, key in enumerate(keys):
        step: Any = key
        if isinstance(target, list):
            if not re.fullmatch("[0-9]{1,9}", key) or int(key) >= len(target):
                there = f"items 0 to {len(target) - 1}" if target else "no items"
                raise RecipeError([f"{_COMMAND_LINE}: {told!r}: {dotted(path)} is a list with {there}"])
            step = int(key)
        elif path == ("arms",) and key not in target:
            arms = ", ".join(target)
            raise RecipeError([f"{_COMMAND_LINE}: {told!r}: there is no arm {shortened(key)!r}; arms: {arms}"])
        path = (*path, step)
        if position == len(keys) - 1:
            return path, target
        inner = target[step] if isinstance(target, list) else target.get(key)
        inner = {} if inner is None else written_out(inner, path)
        if not isinstance(inner, dict | list):
            given = shortened(repr(inner))
            raise RecipeError([f"{_COMMAND_LINE}: {told!r}: {dotted(path)} is {given}; override it as a whole"])
        target[step] = inner
        target = inner
    raise AssertionError("an override has at least one key")


def _forbid_swept(source: Source, keys: list[str]) -> None:
    """A sweep sets its key after the override and would undo it without a word."""
    arms = source.data.get("arms")
    if keys[0] != "arms" or len(keys) < 3 or keys[2] == "sweep" or not isinstance(arms, dict):
        return
    arm, name = arms.get(keys[1]), ".".join(keys[2:])
    sweep = arm.get("sweep") if isinstance(arm, dict) else None
    for swept in sweep if isinstance(sweep, dict) else ():
        if name in (swept, f"method.{swept}"):
            instead = f"override arms.{keys[1]}.sweep.{swept}=[…] instead"
            raise RecipeError([f"command line: {'.'.join(keys)}: this arm sweeps it; {instead}"])
