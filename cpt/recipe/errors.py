"""What pydantic found wrong, in a recipe writer's words: the key as written and the nearest valid spelling."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from cpt.common.keys import Key, KeyPath, Problem, dotted, nearest, shown
from cpt.methods.trl_fields import REFUSED
from cpt.recipe.schema import Recipe

_TYPES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list, as in [a, b]",
    "dict_type": "must be a mapping of key: value",
    "model_type": "must be a mapping of key: value",
    "model_attributes_type": "must be a mapping of key: value",
    "int_from_float": "must be a whole number",
}


_TYPE_OF_UNION = re.compile(r"(constrained-)?(str|int|float|bool)|(list|dict|union)\[.*\]")
"""What pydantic calls a type of a union that was tried."""


def explain(error: ValidationError, data: Any, prefix: KeyPath = ()) -> Iterator[Problem]:
    """Every problem as (path as written, message). `data` is what was validated, `prefix` its place in the recipe."""
    schema = _schema()
    details = error.errors(include_url=False)
    written = [_written_path(detail["loc"], data) for detail in details]
    kinds: dict[KeyPath, set[bool]] = {}
    types: dict[KeyPath, list[str]] = {}
    for detail, (path, _) in zip(details, written, strict=True):
        kinds.setdefault(path, set()).add(detail["type"] == "literal_error")
        types.setdefault(path, []).append(detail["type"])
    for detail, (path, node) in zip(details, written, strict=True):
        whole = (*prefix, *path)
        if len(kinds[path]) == 2 and isinstance(node, str) != (detail["type"] == "literal_error"):
            continue  # a number or a word may stand here: only what is wrong with that which was meant
        if len(types[path]) > 1 and set(types[path]) <= set(_TYPES):  # a union, none of whose types is meant
            if detail["type"] == types[path][0]:
                yield whole, f"must be {_either(types[path])}, not {shown(node)}"
            continue
        if detail["type"] in _TYPES and set(types[path]) - {*_TYPES, "literal_error"}:
            continue  # the type that is meant has its own message
        if detail["type"] == "extra_forbidden":
            yield whole, _unknown_key(whole, _at(path[:-1], data), schema)
        else:
            yield whole, _message(detail, whole, node, schema)


def _either(types: Iterable[str]) -> str:
    """`text, or a list, as in [a, b]`."""
    return ", or ".join(dict.fromkeys(_TYPES[kind].removeprefix("must be ") for kind in types))


@cache
def _schema() -> dict[str, Any]:
    return Recipe.model_json_schema()


def _written_path(loc: tuple[Key, ...], data: Any) -> tuple[KeyPath, Any]:
    """pydantic's location without the union tags and markers it adds; and the value there, None where nothing is."""
    path: KeyPath = ()
    tag_read = False
    for position, step in enumerate(loc):
        last = position == len(loc) - 1
        if step == "[key]" or (isinstance(data, list) and isinstance(step, str)):
            continue  # the latter: a list that stands for a mapping with that key
        there = isinstance(data, Mapping) and step in data
        if isinstance(step, str) and _TYPE_OF_UNION.fullmatch(step) and not there:
            continue
        tagged = isinstance(data, Mapping) and data.get("type", None) == step and not tag_read
        bare = not isinstance(data, Mapping | list)
        if (tagged or bare) and not (last and bare and data is None):
            tag_read = True
            continue
        path, tag_read = (*path, step), False
        if isinstance(data, Mapping):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int) and step < len(data):
            data = data[step]
    return path, data


def _message(detail: Any, path: KeyPath, value: Any, schema: dict[str, Any]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    in_arm = path[:1] == ("arms",) and (len(path) == 2 or path[2:] == ("method",))
    if in_arm and value is None:
        return "this arm has no method; say how it trains, as in `method: {type: sft}`"
    if kind == "missing":
        return "is missing; a recipe has to set it"
    if kind == "union_tag_not_found":
        return f"has no type; set one of {', '.join(_tags(path, schema))} as in `type: {_tags(path, schema)[0]}`"
    if kind == "union_tag_invalid":
        return f"unknown type {shown(context['tag'])}{nearest(context['tag'], _tags(path, schema))}"
    if kind == "literal_error":
        choices = [choice.strip().strip("'") for choice in context["expected"].replace(" or ", ", ").split(",")]
        if detail["loc"][-1] == "[key]":
            return f"unknown key{nearest(path[-1], choices)}"
        if len(choices) == 1 and "method" in path:
            return f"is always {choices[0]} with this type of method, not {shown(value)}; leave it out"
        return f"unknown value {shown(value)}{nearest(value, choices)}"
    if kind == "string_pattern_mismatch":
        return f"{shown(detail['input'])} is not a valid name; use letters, digits, - and _, a letter or digit first"
    if kind in ("too_short", "string_too_short"):
        return "is empty; give at least one" if kind == "too_short" else "is empty"
    if kind == "too_long":
        return f"has {len(value)} entries, and may have {context['max_length']} at most"
    if kind == "value_error" and isinstance(value, Mapping):  # which says what about it is wrong
        return str(detail["msg"]).removeprefix("Value error, ")
    if kind == "string_too_long":
        return f"has {len(value)} characters, and may have {context['max_length']} at most"
    text = _TYPES.get(kind) or detail["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
    return f"{text}, not {shown(value)}"


def _at(path: KeyPath, data: Any) -> Any:
    for step in path:
        data = data[step]
    return data


def _unknown_key(path: KeyPath, beside: Any, schema: dict[str, Any]) -> str:
    """The nearest right spelling among the keys that may stand here, and among those of the sections here.

    Args:
        beside: what the recipe says around the key, the key included.
    """
    *above, key = path
    if key in REFUSED:
        return REFUSED[str(key)]
    options = list(_nodes(tuple(above), schema))
    known = sorted({name for node in options for name in node.get("properties", {})})
    # A union's node lists the keys of all its types: the key may be right for another one.
    owners = [_tag(node) for node in options if key in node.get("properties", {})]
    if owners:
        return f"belongs to type: {' or '.join(owners)}"
    written = {name: beside[name] for name in known if name in beside}
    below = {name: _keys((*above, name), written.get(name), schema) for name in known}
    for sections in (written, known):
        places = [dotted((*above, name, key)) for name in sections if key in below[name]]
        if places:
            return f"unknown key here; did you mean {' or '.join(map(repr, places))}?"
        for name in written:  # rather than a section that the recipe doesn't have
            owners = [_tag(node) for node in _nodes((*above, name), schema) if key in node.get("properties", {})]
            if owners:
                return f"unknown key here; under {name}: it belongs to type: {' or '.join(owners)}"
    deeper = {inner: dotted((*above, name, inner)) for name in written for inner in below[name]}
    close = difflib.get_close_matches(str(key), [*known, *deeper], n=1, cutoff=0.6)
    if close and close[0] not in known:
        return f"unknown key here; did you mean {deeper[close[0]]!r}?"
    return f"unknown key{nearest(key, known, sorted(_keys(tuple(above), beside, schema)))}"


def _keys(path: KeyPath, value: Any, schema: dict[str, Any]) -> set[str]:
    """The keys of what stands at `path`: of its type, if it says which one, else of all types."""
    tag = value.get("type") if isinstance(value, Mapping) else None
    nodes = [node for node in _nodes(path, schema) if tag is None or _tag(node) in ("", tag)]
    return {name for node in nodes for name in node.get("properties", {})} - {"type"}


def _tag(node: Mapping[str, Any]) -> str:
    return str(node.get("properties", {}).get("type", {}).get("const", ""))


def _tags(path: KeyPath, schema: dict[str, Any]) -> list[str]:
    return [tag for node in _nodes(path, schema) if (tag := _tag(node))]


def _nodes(path: KeyPath, schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The object schemas that may stand at `path`: several where a union does."""
    current = list(_objects(schema, schema))
    for step in path:
        following: list[dict[str, Any]] = []
        for node in current:
            named = node.get("properties", {}).get(step)
            patterned = list(node.get("patternProperties", {}).values())
            following += [named] if named else patterned or [x for x in (node.get("items"),) if x]
        current = [found for node in following for found in _objects(node, schema)]
    yield from current


def _objects(node: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """`node` with references and unions opened."""
    if "$ref" in node:
        yield from _objects(schema["$defs"][node["$ref"].rsplit("/", 1)[-1]], schema)
        return
    alternatives = [*node.get("oneOf", []), *node.get("anyOf", [])]
    for alternative in alternatives:
        yield from _objects(alternative, schema)
    if not alternatives:
        yield node
