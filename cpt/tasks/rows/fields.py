"""What a row says, whatever its layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from cpt.tasks.sources.base import Row

_HALF = re.compile("[\ud800-\udfff]")
_NEXT = re.compile(r"<image>")
_NUMBERED = re.compile(r"<image[ _]?(\d{1,3})>")


@dataclass(frozen=True)
class Fields:
    """One row, read by its layout.

    Attributes:
        question: the user's words. A picture's place in them is marked `<image>` (the next one) or `<image 2>` (that
            one, from 1, also in choices); without any mark all pictures come first. As many marks as pictures, or
            every number has its picture: `marked` sees to it.
        answers: every accepted answer as text; none where the row has none, which makes it unusable.
        images: in order: a `StoredPicture`, or the text of a path.
        choices: the texts of the options, in order; `answers` are then letters.
        reasoning: a worked solution.
        id: what the row calls itself.
    """

    question: str
    answers: tuple[str, ...]
    images: tuple[Any, ...] = ()
    choices: tuple[str, ...] = ()
    reasoning: str = ""
    system: str = ""
    id: str = ""


class Layout(Protocol):
    """Reads one row. ValueError, without the row's place, if it can't be read.

    Attributes:
        hides: the columns that hold answers or worked solutions, which no prompt may show.
    """

    @property
    def hides(self) -> frozenset[str]: ...

    def __call__(self, row: Row) -> Fields: ...


def marked(fields: Fields, pictures: Sequence[Any]) -> Fields:
    """The fields with their pictures, of which some may be None: columns that this row leaves empty.

    A picture that no mark names, where others are marked by number, is not shown (MMMU has such: pictures of the
    worked solution); the marks are numbered anew.

    Raises:
        ValueError: there are more or fewer marks than pictures, marks of both kinds, or a number without a picture; a
            text has half a character (which JSON can write, and nothing else).
    """
    said = "".join((fields.question, *fields.choices, *fields.answers, fields.reasoning, fields.system, fields.id))
    if half := _HALF.search(said):
        raise ValueError(f"its text has half a character ({half[0]!r}), which no file can hold; take it out")
    shown = tuple(picture for picture in pictures if picture is not None)
    texts = (fields.question, *fields.choices)
    if not shown and not any("<image" in text for text in texts):
        return fields
    numbers = sorted({int(number) for text in texts for number in _NUMBERED.findall(text)})
    marks = len(_NEXT.findall(fields.question))
    if marks and numbers:
        raise ValueError(f"some pictures are marked <image>, others by number (<image {numbers[0]}>)")
    if marks and marks != len(shown):
        raise ValueError(f"{marks} marks <image> and {len(shown)} pictures")
    if not numbers:
        return replace(fields, images=shown)
    by_number = dict(enumerate(pictures, start=1))
    for number in numbers:
        if by_number.get(number) is None:
            raise ValueError(f"the mark <image {number}> has no picture; there are {len(shown)} pictures")
    anew = {number: place for place, number in enumerate(numbers, start=1)}
    return replace(
        fields,
        question=_renumbered(fields.question, anew),
        choices=tuple(_renumbered(choice, anew) for choice in fields.choices),
        images=tuple(by_number[number] for number in numbers),
    )


def _renumbered(text: str, anew: Mapping[int, int]) -> str:
    return _NUMBERED.sub(lambda found: f"<image {anew[int(found[1])]}>", text)
