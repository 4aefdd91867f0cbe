"""Rows whose columns are the question, the answer, and so on: named by the task, or by their usual names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cpt.common.keys import nearest, shortened
from cpt.tasks.definition import Columns
from cpt.tasks.rows.choices import choices_of
from cpt.tasks.rows.fields import Fields, marked
from cpt.tasks.rows.golds import gold_of
from cpt.tasks.rows.values import answers_in, pictures_in, text_of
from cpt.tasks.sources.base import Row

USUAL = {
    "question": ("question", "problem", "prompt", "query", "instruction", "text", "ctx"),
    "answer": (
        "answer", "answers", "answerKey", "solution", "label", "completion", "output", "response", "target", "caption",
        "captions",
    ),
    "choices": ("choices", "options", "endings"),
    "images": (
        "images", "decoded_image", "image", "picture", "photo", "img", "image_path", "image_paths", "img_path",
        "image_file", "file_name",
    ),
    "reasoning": ("reasoning", "rationale", "explanation", "solution"),
    "system": ("system",),
    "id": ("id", "question_id", "qid"),
    "group": (),
}  # fmt: skip
_LETTERS = list("ABCDEFGHIJ")
_MARKS = ("ABCDEFGHIJ", "abcdefghij", "123456789", "0123456789")
_CHOICES = ("option_", "option", "choice_", "choice")
SERIES = {
    "choices": [[f"{name}{mark}" for mark in marks] for marks in _MARKS for name in _CHOICES] + [_LETTERS],
    "images": [[f"{name}{number}" for number in range(1, 21)] for name in ("image_", "image")],
}
"""Names of several columns with one role."""


@dataclass(frozen=True)
class ColumnLayout:
    """Reads rows by their columns; the fields name them, in order."""

    question: str | None
    answer: tuple[str, ...]
    choices: tuple[str, ...]
    images: tuple[str, ...]
    reasoning: str | None
    system: str | None
    id: str | None

    @property
    def hides(self) -> frozenset[str]:
        """See `Layout`."""
        return frozenset(filter(None, (*self.answer, self.reasoning)))

    def __call__(self, row: Row) -> Fields:
        """See `cpt.tasks.rows.layout_of`."""
        options = choices_of([row.get(name) for name in self.choices])
        said = [value for name in self.answer for value in answers_in(row.get(name))]
        golds = [gold_of(value) if isinstance(value, str) else ("", value) for value in said]
        answers = [options.letter(gold) if options.texts else text_of(gold) for _, gold in golds]
        fields = Fields(
            question=self._question(row),
            answers=tuple(answer for answer in answers if answer),
            choices=options.texts,
            reasoning=_text(row, self.reasoning) or next((worked for worked, _ in golds), ""),
            system=_text(row, self.system),
            id=_text(row, self.id),
        )
        return marked(fields, pictures_of(row, self.images))

    def _question(self, row: Row) -> str:
        more = _text(row, "input") if self.question == "instruction" else ""  # Alpaca's rows
        return "\n".join(filter(None, (_text(row, self.question), more)))


@dataclass(frozen=True)
class TextLayout:
    """Reads rows that are a text and nothing else, whose own probability is asked for: question and answer in one."""

    text: str
    id: str | None
    hides: frozenset[str] = frozenset()

    def __call__(self, row: Row) -> Fields:
        """See `cpt.tasks.rows.layout_of`."""
        text = _text(row, self.text)
        return Fields(text, (text,) if text.strip() else (), id=_text(row, self.id))


def by_columns(asked: Columns, columns: Sequence[str], asks: bool = True) -> ColumnLayout | TextLayout:
    """The layout of rows with these columns. See `cpt.tasks.rows.layout_of`."""
    name = _single(found("id", asked, columns))
    if asked.answer is None and set(columns) - {name} == {"text"}:
        return TextLayout("text", name)
    answer = found("answer", asked, columns)
    question = _single(found("question", asked, columns))
    images = found("images", asked, columns)
    reasoning = [name for name in found("reasoning", asked, columns) if name not in answer or asked.reasoning]
    layout = ColumnLayout(
        question,
        answer,
        found("choices", asked, columns),
        images,
        _single(reasoning),
        _single(found("system", asked, columns)),
        name,
    )
    if not answer:
        raise missing("answer", columns)
    if question in answer:
        raise ValueError(f"data.columns: {question!r} is both question and answer, which the prompt would show")
    if question is None and asks and set(columns) - {*answer, *images, name}:
        raise missing("question", columns)  # with nothing but pictures and answers the prompt's words are the question
    return layout


def found(role: str, asked: Columns, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of one role: those that the task names, else one with a usual name, else a series of them.

    Raises:
        ValueError: the task names one that is not there.
    """
    named: str | list[str] | None = getattr(asked, role)
    if named is None:
        usual = [name for name in USUAL[role] if name in columns]
        if role == "reasoning":
            return tuple(usual)
        series = [_beginning(names, columns) for names in SERIES.get(role, ())]
        return tuple(usual[:1]) or next((names for names in series if names), ())
    names = [named] if isinstance(named, str) else named
    for name in names:
        if name not in columns:
            raise ValueError(f"data.columns.{role}: there is no column {name!r}{nearest(name, list(columns))}")
    return tuple(names)


def missing(role: str, columns: Sequence[str]) -> ValueError:
    """The error that says which column is needed, and which there are."""
    there = shortened(", ".join(columns), 300)
    return ValueError(
        f"no column is called {', '.join(USUAL[role][:3])} or the like: write data.columns.{role}, one of {there}"
    )


def pictures_of(row: Row, names: Sequence[str]) -> list[Any]:
    """The pictures in these columns; None for one that this row leaves empty, where each has a column of its own."""
    pictures = [picture for name in names for picture in pictures_in(row.get(name))]
    return pictures if len(names) > 1 else [picture for picture in pictures if picture is not None]


def _beginning(names: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Those of a series that are there from its beginning; none if it is only one, or columns A and B alone."""
    length = next((place for place, name in enumerate(names) if name not in columns), len(names))
    return tuple(names[:length]) if length > (2 if names is _LETTERS else 1) else ()


def _single(names: Sequence[str]) -> str | None:
    return names[0] if names else None


def _text(row: Row, name: str | None) -> str:
    return "" if name is None else text_of(row.get(name))
