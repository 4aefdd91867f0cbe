"""What a row says, whatever its layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fields:
    """One row, read by its layout.

    Attributes:
        question: the user's words. A picture's place in them is marked `<image>` (the next one) or `<image 2>` (that
            one, from 1); without any mark all pictures come first.
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
