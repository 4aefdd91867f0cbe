"""Layouts: how the question, the answers and the pictures stand in a row. `layout_of` finds out which one it is.

- `fields`: what is read, and marks of pictures; `values`, `choices`, `golds`: of a row's values
- `columns`: a column each for question, answer, …; `chats`: rows with turns
"""

from __future__ import annotations

from collections.abc import Sequence

from cpt.common.keys import shortened
from cpt.tasks.definition import Columns, Data, Shape
from cpt.tasks.rows.chats import ChatLayout
from cpt.tasks.rows.columns import USUAL, by_columns, found
from cpt.tasks.rows.fields import Fields, Layout
from cpt.tasks.sources.base import Row

__all__ = ["Fields", "Layout", "layout_of"]

_TURNS = ("conversations", "messages")
_VERL = ("reward_model", "ground_truth")
_GOLD = {"answer", "answers"}
_SHAPES: tuple[Shape, ...] = ("sharegpt", "prompt-completion", "columns")


def layout_of(data: Data, columns: Sequence[str], example: Row, asks: bool = True) -> Layout:
    """How rows are read.

    - `columns`: question, answer and so on have a column each, by `data.columns` or by a usual name.
    - `llava`, `sharegpt`: turns in `conversations` (from, value) or `messages` (role, content), pictures in `image` or
      `images`; a column `answer` or `answers` comes before the assistant's turn. LLaVA's evaluation rows (question_id,
      image, text, answer) are read by columns.
    - `easyr1`: problem, answer, images; or verl's prompt (turns) with the gold in `reward_model.ground_truth`.
    - `prompt-completion`: TRL's, texts or turns, with `images`. A `prompt` of turns may have its gold in a column.
    - `auto`: the one of these that the columns are for.

    Answers, in every layout: `cpt.tasks.rows.golds`. A row is one question: chats of several rounds are refused.

    Args:
        columns: that the rows have.
        example: the first row.
        asks: whether prompts show the rows' own questions; else rows by columns need none.

    Returns:
        Reads one row; ValueError, without the row's place, where the row can't be read (its answer is no text, its
        index of an option is none, it has more marks than pictures, …). Picklable.

    Raises:
        ValueError: a column that the layout needs is missing; the message says which one, which there are, and what to
            write under data.columns.
    """
    asked, shape = data.columns, data.rows
    if shape == "auto":
        shape = _shape(asked, columns, example)
    if shape in ("llava", "sharegpt"):
        turns = (asked.question,) if asked.question else tuple(name for name in _TURNS if name in columns)
        if shape == "llava" and not turns:
            return by_columns(asked, columns, asks)
        return _chat(shape, asked, columns, turns)
    if shape == "easyr1" and _VERL[0] in columns:
        return _chat(shape, asked, columns, ("prompt",) if "prompt" in columns else ())
    if shape == "prompt-completion":
        return _chat(shape, asked, columns, tuple(name for name in ("prompt", "completion") if name in columns))
    return by_columns(asked, columns, asks)


def _shape(asked: Columns, columns: Sequence[str], example: Row) -> Shape:
    """The layout that the columns are for. ValueError if there are several."""
    there = set(columns)
    if {"prompt", _VERL[0]} <= there:
        return "easyr1"
    if asked.question is not None and not isinstance(example.get(asked.question), list):
        return "columns"
    question = there & set(USUAL["question"]) - {"prompt", "text"}
    answer = there & set(USUAL["answer"]) - {"completion"}
    pairs = {"prompt", "completion"} <= there
    fits = {
        "sharegpt": asked.question is not None or bool(there & set(_TURNS)),
        "prompt-completion": pairs or isinstance(example.get("prompt"), list),
        "columns": bool(answer) and (bool(question) or pairs),
    }
    fitting = [shape for shape in _SHAPES if fits[shape]]
    if len(fitting) > 1:
        raise ValueError(
            f"rows with {shortened(', '.join(columns), 200)} may be {' or '.join(fitting)}: write which as data.rows"
        )
    return fitting[0] if fitting else "columns"


def _chat(shape: Shape, asked: Columns, columns: Sequence[str], turns: tuple[str, ...]) -> ChatLayout:
    there = shortened(", ".join(columns), 300)
    if not turns or turns[0] not in columns or (shape == "prompt-completion" and "prompt" not in turns):
        needed = {"easyr1": "prompt", "prompt-completion": "prompt and completion"}.get(shape, " or ".join(_TURNS))
        raise ValueError(f"data.rows: {shape} needs a column {needed}; there are {there}")
    if len(turns) > 1 and shape != "prompt-completion":
        raise ValueError(f"rows have both {' and '.join(turns)}: write which has the turns as data.columns.question")
    answer: tuple[str, ...] = ()
    if shape == "easyr1":
        answer = _VERL
    elif asked.answer is not None or turns == ("prompt",) or (shape != "prompt-completion" and _GOLD & set(columns)):
        answer = found("answer", asked, columns)
        if not answer:
            raise ValueError(
                f"the prompts have no column with their answers: write data.columns.answer, one of {there}"
            )
        turns = turns[:1]
    reasoning, system, name = (found(role, asked, columns) for role in ("reasoning", "system", "id"))
    return ChatLayout(
        turns,
        answer,
        found("images", asked, columns),
        next(iter(system), None),
        next(iter(name), None),
        next((column for column in reasoning if column not in answer), None),
    )
