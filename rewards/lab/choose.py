"""The rewards that a user names on the command line: by name, as JSON, or in a file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rewards.compose import PYTHON, Composite, parameters_of
from rewards.extract import Read
from rewards.python_file import load
from rewards.registry import Family, get, make
from rewards.score import Reward, required_columns

_EXAMPLE = '{"type": "number", "weight": 1, "read": "tolerant"}'


@dataclass(frozen=True)
class Member:
    """One reward in what a user named; `name` is `python` for a function of theirs."""

    name: str
    parameters: Mapping[str, Any]
    weight: float = 1.0

    @property
    def family(self) -> Family | None:
        """As the registry has it; None for a user's function."""
        return None if self.name == PYTHON else get(self.name).family

    @property
    def read(self) -> Read | None:
        """How it reads the answer; None if it does not, or in its own way."""
        if self.name == PYTHON or "read" not in get(self.name).parameters:
            return None
        found: Read = self.parameters.get("read", get(self.name).parameters["read"].default)
        return found


@dataclass(frozen=True)
class Chosen:
    """A reward, its label, and its members: one, or those of a composite."""

    label: str
    reward: Reward
    members: tuple[Member, ...]
    composite: bool = False

    @property
    def needs(self) -> list[str]:
        """Columns that a row has to have."""
        return sorted(required_columns(self.reward))

    @property
    def family(self) -> Family:
        """The only member's, or composite; a user's function is taken for a composite."""
        return "composite" if self.composite else self.members[0].family or "composite"


def choose(texts: Sequence[str], others: Iterable[Chosen] = ()) -> list[Chosen]:
    """Rewards by name or JSON, then others; equal texts once, and every one with a label of its own.

    Raises:
        ValueError: nothing is named, or what is named is no reward.
    """
    found = [*map(from_text, dict.fromkeys(texts)), *others]
    if not found:
        raise ValueError("name a reward, such as accuracy-format; `cpt rewards list` shows all of them")
    labels = [one.label for one in found]
    return [
        one if labels.count(one.label) == 1 else replace(one, label=f"{one.label}#{labels[: i + 1].count(one.label)}")
        for i, one in enumerate(found)
    ]


def from_text(text: str) -> Chosen:
    """A name, a JSON object with `type` and parameters, or a JSON list of components."""
    if not text.lstrip().startswith(("{", "[")):
        return Chosen(text, make(text), (Member(text, {}),))
    try:
        data = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"{text:.60}…: brackets within brackets without end; write it as in {_EXAMPLE}") from None
    except ValueError as error:  # no JSON, or a number of thousands of digits
        raise ValueError(f"{text:.200}: not JSON ({error}); write it as in {_EXAMPLE}") from None
    return from_data(data)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


def from_data(data: Any, label: str = "", folder: Path | None = None, clip: Sequence[float] | None = None) -> Chosen:
    """A mapping with `type` and parameters, or a list of components (`rewards.compose`).

    Args:
        label: its name; default: its type with its parameters, or its components' labels.
        folder: the folder that a user's `file` is relative to.
        clip: of a composite.
    """
    if isinstance(data, Mapping):
        return _single(data, label, folder)
    if not isinstance(data, list) or not all(isinstance(one, Mapping) for one in data):
        raise ValueError(f"{label or 'a reward'} has to be a list of components, as in [{_EXAMPLE}], or one of them")
    composite = Composite(data, clip, folder)
    members = tuple(Member(one["type"], parameters_of(one), float(one["weight"])) for one in data)
    return Chosen(label or "+".join(one.label for one in composite.components), composite, members, composite=True)


def _single(data: Mapping[str, Any], label: str, folder: Path | None) -> Chosen:
    if not isinstance(data.get("type"), str):
        raise ValueError(f"{dict(data)!r} has no type; name a reward, as in {_EXAMPLE}")
    name, parameters = data["type"], {key: value for key, value in data.items() if key not in ("type", "weight")}
    if name == PYTHON:
        for key in ("file", "name"):
            if not isinstance(parameters.get(key), str):
                raise ValueError(f"type python needs {key!r}, as in {{type: python, file: my_reward.py, name: score}}")
        return Chosen(label or parameters["name"], load(parameters, folder), (Member(name, parameters),))
    shown = ", ".join(f"{key}={value}" for key, value in parameters.items())
    label = label or (f"{name}({shown})" if shown else name)
    return Chosen(label, make(name, **parameters), (Member(name, parameters),))
