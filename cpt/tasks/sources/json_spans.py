"""Where the rows of a JSON document stand in its text, so that they need not stay in memory."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_CHATS = ("conversations", "messages", "prompt", "completion")  # of one row: no lists of rows


@dataclass
class Spans:
    """Members of a list or an object: (start, end) in characters of each, and the keys of an object.

    Attributes:
        columns: all keys of the members, in order.
        strange: what the first member that is no mapping is, as `row 3 is a list`.
    """

    places: list[tuple[int, int]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    columns: dict[str, None] = field(default_factory=dict)
    strange: str = ""

    def add(self, value: Any, start: int, end: int) -> None:
        """One more member."""
        self.places.append((start, end))
        if isinstance(value, dict):
            self.columns.update(dict.fromkeys(value))
        elif not self.strange:
            self.strange = f"row {len(self.places)} is {kind_of(value)}, not a mapping of columns"


def rows_in_json(text: str) -> Spans:
    """The rows of a document that is a list of rows, an object with one list of rows (`{"data": […]}`, beside what is
    said about them), or an object of rows by their ids.

    Raises:
        json.JSONDecodeError: no JSON; with msg "Extra data" where a second document follows.
        ValueError: no rows are found, or several lists of them.
    """
    at = _after_space(text, 0)
    if text[at : at + 1] == "[":
        found, end = _list(text, at)
        lists = {"": found}
    elif text[at : at + 1] == "{":
        found, lists, end = _object(text, at)
    else:
        _DECODER.raw_decode(text, at)
        raise ValueError("it holds neither a list of rows nor an object with one")
    if _after_space(text, end) < len(text):
        raise json.JSONDecodeError("Extra data", text, _after_space(text, end))
    if "" not in lists:
        found = _chosen(found, lists)
    if found.strange:
        raise ValueError(found.strange)
    return found


def kind_of(value: Any) -> str:
    """What a JSON value is, for a message."""
    kinds = {
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        dict: "a mapping",
    }
    return kinds.get(type(value), "null")


def _chosen(members: Spans, lists: dict[str, Spans]) -> Spans:
    rows = {key: found for key, found in lists.items() if found.places and not found.strange and key not in _CHATS}
    if len(rows) == 1:
        return next(iter(rows.values()))
    if rows:
        raise ValueError(f"there are lists of rows under {', '.join(rows)}; write those that are meant into a file")
    if members.strange or not members.places or all(name.isdecimal() for name in members.columns):
        raise ValueError("there is no list of rows in it; write [{column: value, …}, …], or one row a line (.jsonl)")
    return members


def _list(text: str, at: int) -> tuple[Spans, int]:
    found = Spans()
    at = _after_space(text, at + 1)
    if text[at : at + 1] == "]":
        return found, at + 1
    while True:
        value, end = _DECODER.raw_decode(text, at)
        found.add(value, at, end)
        at, more = _next(text, end, "]")
        if not more:
            return found, at


def _object(text: str, at: int) -> tuple[Spans, dict[str, Spans], int]:
    """All members, and those that are lists."""
    members, lists = Spans(), dict[str, Spans]()
    at = _after_space(text, at + 1)
    if text[at : at + 1] == "}":
        return members, lists, at + 1
    while True:
        key, end = _DECODER.raw_decode(text, at)
        if not isinstance(key, str):
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        at = _after_space(text, end)
        if text[at : at + 1] != ":":
            raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
        start = _after_space(text, at + 1)
        if text[start : start + 1] == "[":
            lists[key], end = _list(text, start)
            value: Any = []
        else:
            value, end = _DECODER.raw_decode(text, start)
        members.keys.append(key)
        members.add(value, start, end)
        at, more = _next(text, end, "}")
        if not more:
            return members, lists, at


def _next(text: str, end: int, closing: str) -> tuple[int, bool]:
    """Where the next member begins, or where the list has ended."""
    at = _after_space(text, end)
    if text[at : at + 1] == closing:
        return at + 1, False
    if text[at : at + 1] != ",":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    return _after_space(text, at + 1), True


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None, "no space is space, too"
    return found.end()
