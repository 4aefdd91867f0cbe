"""Values of columns as text, lists and pictures."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from typing import Any

from cpt.common.keys import shown
from cpt.common.stored_pictures import StoredPicture

_PICTURE = ("bytes", "path", "image", "file_name", "url")  # what a mapping calls its picture, or where that is
_PATH = 4096  # bytes, the most that Linux takes
_ACCEPTED = ("answer", "text", "value", "label")  # what an answer that is a mapping calls its text


def text_of(value: Any) -> str:
    """A value as text: "" for none, 3 for 3.0 (a column of whole numbers with gaps is one of floats)."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | tuple | Mapping | StoredPicture | bytes):
        raise ValueError(f"{shown(value)} is no text")
    return str(value)


def list_in(text: str, of: type = object) -> list[Any] | None:
    """The list that a text writes, as JSON or as Python does; None if it is no list of values of that type."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return found if isinstance(found, list) and all(isinstance(one, of) for one in found) else None


def answers_in(value: Any) -> list[Any]:
    """The accepted answers in one column's value, without empty ones.

    A text, a number; a list of them; what VQA (`{"answer": …, "answer_confidence": …}`) and SQuAD (`{"text": […]}`)
    have; a list of texts written as a text.
    """
    if isinstance(value, str):
        listed = list_in(value, str)
        return answers_in(listed) if listed else [value] if value.strip() else []
    if isinstance(value, Mapping):
        name = next((name for name in _ACCEPTED if name in value), None)
        if name is None:
            raise ValueError(
                f"an answer with {', '.join(map(str, value))}: none of them is called {', '.join(_ACCEPTED)}"
            )
        return answers_in(value[name])
    if isinstance(value, list | tuple):
        return [answer for one in value for answer in answers_in(one)]
    return [value] if text_of(value) else []


def pictures_in(value: Any) -> list[Any]:
    """The pictures in one column's value: each stored with its row, or the text of a path; None for one left empty.

    Raises:
        ValueError: something else stands there; an address, which is not fetched.
    """
    if value is None or isinstance(value, StoredPicture):
        return [value]
    if isinstance(value, list | tuple):
        return [picture for one in value for picture in pictures_in(one)]
    if isinstance(value, str) and (listed := list_in(value, str)) is not None:
        return pictures_in(listed)
    if isinstance(value, Mapping):
        return pictures_in(next((value[name] for name in _PICTURE if value.get(name)), None))
    if value == "" or (isinstance(value, float) and math.isnan(value)):
        return [None]
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no picture and no path of one")
    if len(value) > _PATH:
        raise ValueError(f"a text of {len(value)} characters is no path of a picture; decode pictures into files first")
    path = value.removeprefix("file://")
    if "://" in path or path.startswith("data:"):
        raise ValueError(f"{shown(value)}: pictures are not fetched from addresses; store it, and write its path")
    return [path]
