"""YAML text as plain data that remembers where every key stands, within bounds that no recipe reaches.

Built on PyYAML's nodes. ruamel.yaml keeps places too, but takes what has to be refused here: it drops tags, makes a
self-reference an empty value, reads dates and 1_000, and has no bound for depth or size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import yaml

from cpt.common.console import printable
from cpt.common.keys import KeyPath, dotted, shortened

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
COMMAND_LINE = "command line"
_PLAIN_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")}


class RecipeError(ValueError):
    """Everything wrong with a recipe, one line per problem: `file:line: key: message`."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = [shortened(printable(problem), _LONGEST) for problem in problems]
        super().__init__("\n".join(self.problems))


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
        return self.file if self.file == COMMAND_LINE else f"{self.file}:{node.start_mark.line + 1}"

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
