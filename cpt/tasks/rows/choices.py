"""Options, and which of them is right."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.common.keys import shown
from cpt.tasks.rows.values import list_in, text_of

_LETTERED = re.compile(r"\s*\(?([A-Za-z])\)?[.):]?\s*(.*)", re.DOTALL)
_MARK = re.compile(r"\s*\(?([A-Z])[.):]\s*(?=\S)")


@dataclass(frozen=True)
class Choices:
    """The options of one row.

    Attributes:
        texts: without letters in front of them.
        values: as they stand in the row.
        labels: what the row calls them, where it has names for them, such as "1" to "4".
    """

    texts: tuple[str, ...]
    values: tuple[Any, ...]
    labels: tuple[str, ...] = ()

    def letter(self, answer: Any) -> str:
        """The letter of the right option.

        Args:
            answer: its label; a number: its index from 0; a text: that of an option, a letter, or an index.

        Raises:
            ValueError: it is none of these, or a letter that is also the text of another option.
        """
        said = text_of(answer).strip()
        if said in self.labels:
            return _letter(self.labels.index(said))
        by_text = self._by_text(answer, said)
        by_letter = self._by_letter(said)
        if by_text is not None and by_letter is not None and by_text != by_letter:
            raise ValueError(f"the answer {said!r} is a letter, and also the text of option {_letter(by_text)}")
        found = by_text if by_text is not None else by_letter
        if found is None and said.isdecimal() and int(said) < len(self.texts):
            found = int(said)
        if found is None and sum(text.strip().casefold() == said.casefold() for text in self.texts) > 1:
            raise ValueError(f"the answer {shown(said)} is the text of several choices")
        if found is None:
            raise ValueError(
                f"the answer {shown(said)} is neither the letter, nor the text, nor the number from 0 of one of the "
                f"{len(self.texts)} choices"
            )
        return _letter(found)

    def _by_text(self, answer: Any, said: str) -> int | None:
        if not isinstance(answer, str):
            same = [i for i, value in enumerate(self.values) if type(value) is type(answer) and value == answer]
            return same[0] if len(same) == 1 else None
        for spelt in (said, _MARK.sub("", said)):
            same = [i for i, text in enumerate(self.texts) if text.strip() == spelt]
            same = same or [i for i, text in enumerate(self.texts) if text.strip().casefold() == spelt.casefold()]
            if same:
                return same[0] if len(same) == 1 else None
        return None

    def _by_letter(self, said: str) -> int | None:
        found = _LETTERED.fullmatch(said)
        if found is None:
            return None
        place = string.ascii_uppercase.index(found[1].upper())
        if place >= len(self.texts) or found[2].strip() not in ("", self.texts[place].strip()):
            return None
        return place


def choices_of(values: Sequence[Any]) -> Choices:
    """The options of a row.

    Args:
        values: of the columns that hold them: a list (or its text, as MMMU has it), a mapping of texts and labels
            (ARC) or of letters and texts; or one text for each of several columns.

    Raises:
        ValueError: an option is empty, or there are too many for letters.
    """
    if values == [None] or not values:
        return Choices((), ())
    found = _single(values[0]) if len(values) == 1 else Choices((), tuple(values))
    options = list(found.values)
    while options and text_of(options[-1]).strip() == "":
        options.pop()
    texts = [text_of(option) for option in options]
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise ValueError(f"choice {number} of {len(texts)} is empty")
    if len(texts) > len(string.ascii_uppercase):
        raise ValueError(f"{len(texts)} choices: there are letters for {len(string.ascii_uppercase)}")
    marks = [_MARK.match(text) for text in texts]
    if len(texts) > 1 and all(mark is not None and mark[1] == _letter(i) for i, mark in enumerate(marks)):
        texts = [_MARK.sub("", text, count=1) for text in texts]
    return Choices(tuple(texts), tuple(options), found.labels[: len(texts)])


def _single(value: Any) -> Choices:
    """What one column holds."""
    if isinstance(value, str):
        if not value.strip():
            return Choices((), ())
        listed = list_in(value)
        if listed is None:
            raise ValueError(f"the choices {shown(value)} are no list")
        value = listed
    if value is None:
        return Choices((), ())
    if isinstance(value, Mapping):
        if "text" in value and isinstance(value["text"], list | tuple):
            labels = value.get("label") or ()
            if not isinstance(labels, list | tuple):
                raise ValueError(f"the labels {shown(labels)} of the choices are no list")
            return Choices((), tuple(value["text"]), tuple(map(text_of, labels)))
        there = {str(label): text for label, text in value.items() if text is not None}
        return Choices((), tuple(there.values()), tuple(there))
    if not isinstance(value, list | tuple):
        raise ValueError(f"the choices {shown(value)} are no list")
    if value and all(isinstance(one, Mapping) and "text" in one for one in value):
        return Choices((), tuple(one["text"] for one in value), tuple(text_of(one.get("label")) for one in value))
    return Choices((), tuple(value))


def _letter(place: int) -> str:
    return string.ascii_uppercase[place]
