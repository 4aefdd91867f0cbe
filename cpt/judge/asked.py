"""What goes to a judge and what comes back, whoever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from cpt.types import Sample

if TYPE_CHECKING:
    from PIL.Image import Image

Picture = Literal["shown", "none", "unreadable"]


@dataclass(frozen=True)
class Question:
    """One completion to be judged.

    Attributes:
        digest: of all that the judge is shown.
        text: the whole prompt.
        picture: whether the sample's pictures go with it: `none` where there are none or the rubric shows none,
            `unreadable` where the rubric would and this machine can't.
        sample: whose pictures they are.
    """

    digest: str
    text: str
    picture: Picture = "none"
    sample: Sample | None = None

    @property
    def images(self) -> Sequence[Image]:
        """The pictures to show."""
        return self.sample.images if self.picture == "shown" and self.sample is not None else ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        text: the judge's words.
        cut: whether the limit of tokens ended them.
        refusal: why the judge or its server refuses, where the server says that it does.
        failure: why there is no reply. It is asked again by the next command.
    """

    text: str = ""
    cut: bool = False
    refusal: str = ""
    failure: str = ""


Keep = Callable[[Question, Reply], None]


class Judge(Protocol):
    """Who is asked."""

    def ask(self, questions: Sequence[Question], keep: Keep) -> None:
        """Ask all of these, in any order; `keep` is called once for each, as soon as its reply is there.

        Raises:
            ValueError: it can't be asked at all; the message says what to change.
            RunFailed: it has stopped to answer. What `keep` was given stays judged.
        """
        ...
