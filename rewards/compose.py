"""Weighted sums of rewards, from plain data as recipes write it.

    - {type: accuracy, weight: 0.9, requires: format}
    - {type: format, weight: 0.1, template: think_boxed}

Every component has a `type` (a reward's name, or `python`, see `rewards.python_file`) and a `weight`; it may have a
`label` (its name among the parts; default: its type, or the function's name) and `requires`, the label of its gate. All
other keys are the reward's parameters, or columns that are the same for every row (`template` above).
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from rewards import python_file
from rewards.registry import COLUMNS, Entry, get, make, names, nearest
from rewards.score import Reward, Score, Status, required_columns

Problem = tuple[tuple[str | int, ...], str]
"""The place in the composite (component number, key), and what is wrong there."""

OWN_KEYS = ("type", "weight", "label", "requires")
PYTHON = "python"
MAX_WEIGHT = 1e6
_LARGEST = 1e12  # of a parameter: nothing in a completion is larger
_ROUNDING = 1e-9
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TAKEN = "errors"  # `reward/errors` is the share of failed rows


@dataclass(frozen=True)
class Component:
    """One term of the sum.

    Attributes:
        columns: keywords that replace the row's.
        requires: label of a component; this one counts 0 unless that one has its full value.
    """

    label: str
    reward: Reward
    weight: float
    columns: Mapping[str, Any]
    requires: str | None

    @property
    def required(self) -> frozenset[str]:
        """Columns that a row has to have."""
        return required_columns(self.reward) - self.columns.keys()


class Composite:
    """The weighted sum of components, clipped: `clip(Σ weight · part)`, to [0, 1] unless said otherwise.

    A part is its component's value, or 0 while the component that it `requires` has less than 1. `parts` holds each
    under its label, and a component's own parts, where it has several, under `label/part`. The status is the first
    component's that is not ok. If a component fails (error, timeout), so does the whole.

    Args:
        components: see the module.
        clip: bounds of the value, within [0, 1]. Without it, positive weights may add up to 1 at most.
        folder: what a `file` is relative to; default: the working directory.

    Raises:
        ValueError: what `problems` finds, first of all.
    """

    def __init__(
        self,
        components: Sequence[Mapping[str, Any]],
        clip: Sequence[float] | None = None,
        folder: Path | None = None,
    ) -> None:
        for where, message in problems(components, clip, folder):
            raise ValueError(f"reward {'.'.join(map(str, where))}: {message}")
        self.components = [_component(one, folder) for one in components]
        self.low, self.high = (0.0, 1.0) if clip is None else clip

    @property
    def required(self) -> frozenset[str]:
        """Columns that a row has to have."""
        return frozenset().union(*(component.required for component in self.components))

    def __call__(self, completion: str, **row: object) -> Score:
        """See the class."""
        scores = {one.label: one.reward(completion, **{**row, **one.columns}) for one in self.components}
        parts: dict[str, float] = {}
        for one in self.components:
            score = scores[one.label]
            closed = one.requires is not None and scores[one.requires].value < 1
            if not score.failed:
                parts[one.label] = 0.0 if closed else score.value
                if len(score.parts) > 1:
                    parts |= {f"{one.label}/{name}": part for name, part in score.parts.items()}
        scored = list(scores.values())
        details = "; ".join(f"{label}: {score.detail}" for label, score in scores.items() if score.detail)
        extracted = next((score.extracted for score in scored if score.extracted), "")
        failed = [score.status for score in scored if score.failed]
        if failed:
            return Score(0.0, parts, extracted, failed[0], details)
        value = sum(one.weight * parts[one.label] for one in self.components)
        statuses: list[Status] = [score.status for score in scored if score.status != "ok"]
        return Score(min(max(value, self.low), self.high), parts, extracted, statuses[0] if statuses else "ok", details)


def problems(
    components: Sequence[Mapping[str, Any]], clip: Sequence[float] | None = None, folder: Path | None = None
) -> Iterator[Problem]:
    """The problems of a composite's data; none if `Composite` accepts it."""
    if not components:
        yield (), "is empty; give at least one component"
        return
    found = [problem for number, one in enumerate(components) for problem in _in_component(number, one, folder)]
    yield from found
    if found:
        return
    labels = [label_of(one) for one in components]
    yield from _in_labels(components, labels)
    yield from _in_range(components, clip)


def _in_labels(components: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Iterator[Problem]:
    for number, (one, label) in enumerate(zip(components, labels, strict=True)):
        gate = one.get("requires")
        if not _LABEL.fullmatch(label) or label == _TAKEN:
            yield (number,), f"can't be called {label!r}; set `label:` to letters, digits, - and _"
        if label in labels[:number]:
            yield (number,), f"is the second component called {label!r}; name it, as in `label: {label}-2`"
        if gate == label:
            yield (number, "requires"), "a component can't require itself"
        elif gate is not None and gate not in labels:
            yield (number, "requires"), f"there is no component called {gate!r}{nearest(gate, labels)}"


def label_of(component: Mapping[str, Any]) -> str:
    """The name of a component's part."""
    named = component.get("name") if component["type"] == PYTHON else None
    return str(component.get("label") or named or component["type"])


def parameters_of(component: Mapping[str, Any]) -> dict[str, Any]:
    """A component's own keys, without those that every component has."""
    return {key: value for key, value in component.items() if key not in OWN_KEYS}


def filled(component: Mapping[str, Any]) -> dict[str, Any]:
    """The component with every parameter written out, so that it can be reproduced; unchanged if it has problems."""
    if component.get("type") == PYTHON or any(_in_component(0, component, None)):
        return dict(component)
    entry = get(component["type"])
    given, columns = _split(component)
    checked = entry.schema.model_validate(given).model_dump(mode="json")
    return {key: component[key] for key in OWN_KEYS if key in component} | checked | columns


def _component(data: Mapping[str, Any], folder: Path | None) -> Component:
    gate, label, weight = data.get("requires"), label_of(data), float(data["weight"])
    if data["type"] == PYTHON:
        return Component(label, python_file.load(parameters_of(data), folder), weight, {}, gate)
    parameters, columns = _split(data)
    return Component(label, make(data["type"], **parameters), weight, columns, gate)


def _split(component: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The reward's parameters, and the columns that a component fixes: any that the reward can do without."""
    given = parameters_of(component)
    columns = {key: value for key, value in given.items() if key in COLUMNS}
    return {key: value for key, value in given.items() if key not in columns}, columns


def _in_component(number: int, one: Mapping[str, Any], folder: Path | None) -> Iterator[Problem]:
    kind, weight = one.get("type"), one.get("weight")
    for key in ("label", "requires"):
        if one.get(key) is not None and not isinstance(one[key], str):
            yield (number, key), f"must be a component's name, not {one[key]!r}"
    if not isinstance(weight, int | float) or isinstance(weight, bool) or not _finite(weight):
        given = (
            f"must be a number, not {weight!r:.80}" if "weight" in one else "has no weight; give one, as in `weight: 1`"
        )
        yield (number, "weight") if "weight" in one else (number,), given
    elif abs(weight) > MAX_WEIGHT:
        yield (number, "weight"), f"must be between −{MAX_WEIGHT:g} and {MAX_WEIGHT:g}, not {float(weight):g}"
    if "type" not in one:
        yield (number,), "has no type; name a reward, as in `type: accuracy`"
    elif kind == PYTHON:
        yield from (((number, key) if key else (number,), text) for key, text in _in_python(one, folder))
    elif kind not in names():
        yield (number, "type"), f"there is no reward called {kind!r}{nearest(str(kind), [*names(), PYTHON])}"
    else:
        yield from (((number, key), text) for key, text in _in_parameters(get(str(kind)), one))


def _finite(number: float) -> bool:
    """Whether a number is finite; an integer too large for a float is not."""
    return math.isfinite(number) if isinstance(number, float) else abs(number) <= _LARGEST


def _too_large(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_too_large, value))
    return isinstance(value, int | float) and not abs(value) <= _LARGEST


def _in_python(one: Mapping[str, Any], folder: Path | None) -> Iterator[tuple[str, str]]:
    for key in ("file", "name"):
        if not isinstance(one.get(key), str):
            yield "", f"type python needs `{key}:`, as in {{type: python, file: my_reward.py, name: score, weight: 1}}"
            return
    try:
        python_file.load(parameters_of(one), folder)
    except ValueError as error:
        yield "", str(error)


def _in_parameters(entry: Entry, one: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fixable = _fixable(entry)
    known = [*entry.parameters, *fixable]
    given = parameters_of(one)
    for key in given:
        if key not in known:
            text = f"reward {entry.name} has no parameter {key!r}{nearest(key, known)}"
            yield key, f"{key!r} is a column of the data" if key in COLUMNS else text
    hints = get_type_hints(entry.function, include_extras=True)
    for key, value in given.items():
        if _too_large(value):
            yield key, f"{value!r:.80} is larger than anything it could be compared with; set less than {_LARGEST:g}"
        elif key in known:
            try:
                TypeAdapter(hints[key]).validate_python(value, strict=not isinstance(value, list))
            except ValidationError as error:
                yield key, f"{_lower(error.errors(include_url=False)[0]['msg'])}, not {value!r:.80}"


def _fixable(entry: Entry) -> list[str]:
    """Columns that a component may set for all rows: those with a default. Gold answers and the like never are."""
    taken = inspect.signature(entry.function).parameters
    return [name for name in COLUMNS if name in taken and name not in entry.required]


def _lower(message: str) -> str:
    return message.replace("Input should be", "must be")


def _in_range(components: Sequence[Mapping[str, Any]], clip: Sequence[float] | None) -> Iterator[Problem]:
    if clip is not None:
        numbers = len(clip) == 2 and all(isinstance(one, int | float) and not isinstance(one, bool) for one in clip)
        if not numbers or not 0 <= clip[0] < clip[1] <= 1:
            yield ("clip",), f"must be two numbers, 0 ≤ low < high ≤ 1, not {list(clip)!r}"
        return
    most = sum(max(float(one["weight"]), 0.0) for one in components)
    if most > 1 + _ROUNDING:
        yield (), f"positive weights add up to {most:g}, so the reward could pass 1; lower them or set `clip: [0, 1]`"
