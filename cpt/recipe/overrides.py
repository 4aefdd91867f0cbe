"""`key=value` on the command line: one setting of a recipe replaced before it is checked."""

from __future__ import annotations

import re
from typing import Any

from cpt.common.keys import KeyPath, dotted, shortened
from cpt.recipe.source import RawRecipe, written_out
from cpt.recipe.yaml_text import COMMAND_LINE, MAX_DEPTH, RecipeError, parse


def override(source: RawRecipe, assignment: str) -> None:
    """Applies `dotted.key=value` from the command line; the value is YAML (`1e-4`, `[a, b]`, `{type: lora, r: 8}`).

    Raises:
        RecipeError: if it is not an assignment, names an arm that does not exist, or sets what a sweep would set again.
    """
    name, equals, text = assignment.partition("=")
    keys: list[str] = name.split(".")
    told = shortened(assignment)
    if not equals or not all(keys):
        raise RecipeError([f"{COMMAND_LINE}: {told!r} is not an override; write key=value, as in data.samples=512"])
    if len(keys) > MAX_DEPTH:
        raise RecipeError([f"{COMMAND_LINE}: {told!r}: a key of {len(keys)} parts is none of a recipe"])
    if "sweep" in keys[:-1]:  # what a sweep varies is itself a dotted path
        at = keys.index("sweep") + 1
        keys = [*keys[:at], ".".join(keys[at:])]
    if keys[0] == "extends":
        raise RecipeError([f"{COMMAND_LINE}: extends: only a file can extend another one"])
    value, places = parse(text, COMMAND_LINE, tuple(keys))
    path, target = _descend(source, keys, told)
    _forbid_swept(source, keys)
    _forget(source.places, path)
    if value is None and len(path) == 2 and path[0] == "arms":
        del target[path[-1]]
        return
    target[path[-1]] = value
    source.places |= {(*path, *p): COMMAND_LINE for p in places} | {path: COMMAND_LINE}


def _descend(source: RawRecipe, keys: list[str], told: str) -> tuple[KeyPath, Any]:
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
                raise RecipeError([f"{COMMAND_LINE}: {told!r}: {dotted(path)} is a list with {there}"])
            step = int(key)
        elif path == ("arms",) and key not in target:
            arms = ", ".join(target)
            raise RecipeError([f"{COMMAND_LINE}: {told!r}: there is no arm {shortened(key)!r}; arms: {arms}"])
        path = (*path, step)
        if position == len(keys) - 1:
            return path, target
        inner = target[step] if isinstance(target, list) else target.get(key)
        if inner is None and path not in source.places:  # a key that the file does not have
            source.places[path] = COMMAND_LINE
        inner = {} if inner is None else written_out(inner, path)
        if not isinstance(inner, dict | list):
            given = shortened(repr(inner))
            raise RecipeError([f"{COMMAND_LINE}: {told!r}: {dotted(path)} is {given}; override it as a whole"])
        target[step] = inner
        target = inner
    raise AssertionError("an override has at least one key")


def _forbid_swept(source: RawRecipe, keys: list[str]) -> None:
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


def _forget(places: dict[KeyPath, str], path: KeyPath) -> None:
    for known in [p for p in places if p[: len(path)] == path]:
        del places[known]
