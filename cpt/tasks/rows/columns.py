"""Rows whose columns are the question, the answer, and so on: named by the task, or by their usual names."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

from cpt.common.keys import nearest
from cpt.tasks.definition import Columns
from cpt.tasks.rows.fields import Fields
from cpt.tasks.sources.base import Row

USUAL = {
    "question": ("question", "problem", "prompt", "query", "instruction", "text"),
    "answer": ("answer", "answers", "solution", "label", "completion", "output", "response"),
    "choices": ("choices", "options"),
    "images": ("images", "image", "picture", "file_name"),
    "reasoning": ("reasoning", "rationale", "explanation"),
    "system": ("system",),
    "id": ("id", "question_id", "qid"),
}


def by_columns(asked: Columns, columns: Sequence[str]) -> Callable[[Row], Fields]:
    """See `cpt.tasks.rows.layout_of`."""
    found = {role: _column(role, getattr(asked, role), columns) for role in USUAL}
    for role in ("question", "answer"):
        if found[role] is None:
            raise ValueError(
                f"no column is called {' or '.join(USUAL[role][:3])}; write data.columns.{role}, "
                f"one of {', '.join(columns)}"
            )
    return lambda row: _fields(row, found)


def _column(role: str, asked: str | list[str] | None, columns: Sequence[str]) -> str | list[str] | None:
    if asked is None:
        return next((name for name in USUAL[role] if name in columns), None)
    for name in [asked] if isinstance(asked, str) else asked:
        if name not in columns:
            raise ValueError(f"data.columns.{role}: there is no column {name!r}{nearest(name, list(columns))}")
    return asked


def _fields(row: Row, found: dict[str, Any]) -> Fields:
    choices = tuple(map(str, _values(row, found["choices"])))
    answers = tuple(_said(value, choices) for value in _values(row, found["answer"]))
    return Fields(
        question=str(row.get(found["question"]) or ""),
        answers=tuple(answer for answer in answers if answer),
        images=tuple(_values(row, found["images"])),
        choices=choices,
        reasoning=_text(row, found["reasoning"]),
        system=_text(row, found["system"]),
        id=_text(row, found["id"]),
    )


def _values(row: Row, names: str | list[str] | None) -> list[Any]:
    """What stands in these columns, lists opened, without what is empty."""
    found: list[Any] = []
    for name in [] if names is None else [names] if isinstance(names, str) else names:
        value = row.get(name)
        found += value if isinstance(value, list | tuple) else [value]
    return [value for value in found if value is not None and value != ""]


def _text(row: Row, name: str | None) -> str:
    value = None if name is None else row.get(name)
    return "" if value is None else str(value)


def _said(value: Any, choices: Sequence[str]) -> str:
    """An accepted answer as text; with choices its letter."""
    letters = string.ascii_uppercase[: len(choices)]
    if not choices:
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices):
        return letters[value]
    text = str(value).strip()
    if text in letters:
        return text
    if text in choices:
        return letters[choices.index(text)]
    if text.isdigit() and int(text) < len(choices):
        return letters[int(text)]
    raise ValueError(f"the answer {text!r} is neither a letter, nor one of the {len(choices)} choices, nor its number")
