"""What every task of the built-in world shares: questions drawn from seeds, and the habits of the base model."""

from __future__ import annotations

import random
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.tasks.base import FormattedTask
from cpt.tasks.fingerprint import samples_fingerprint
from cpt.tasks.samples import split_of
from cpt.tasks.world.data_digests import DATA
from cpt.tasks.world.format import FORMAT, MAX_COMPLETION_TOKENS
from cpt.tasks.world.scene import MAX_OBJECTS
from cpt.types import Sample, Split

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Question:
    """A drawn question before it gets an id. `content` decides the split (None: the task has seen to that itself)."""

    text: str
    gold: tuple[str, ...]
    images: tuple[Image, ...]
    content: str | None
    easy: bool
    habit: str
    reasoning: str


class BuiltinTask(FormattedTask):
    """A task of the built-in world.

    Subclasses draw questions; the rest is here. `easy` and `habit` describe the base model's partial competence: it
    answers easy instances and, on hard ones, mostly falls back on a habit (see the model card). They travel in
    `Sample.meta` and never reach a prompt.

    Attributes:
        candidates: every answer that a question of the task admits; empty where there are too many.
        phrasings: ways to ask, with fields in braces.
    """

    format = FORMAT
    max_tokens = MAX_COMPLETION_TOKENS
    candidates: ClassVar[tuple[str, ...]] = ()
    phrasings: ClassVar[tuple[str, ...]]

    def __init__(self, crowd: int = MAX_OBJECTS) -> None:
        """`crowd` bounds the number of things in a scene; only the base model's curriculum lowers it."""
        self.crowd = crowd

    @abstractmethod
    def draw(self, rng: random.Random, split: Split) -> Question:
        """One question from this random stream."""

    def phrase(self, rng: random.Random, **fields: str) -> str:
        """One of the phrasings, filled in."""
        return rng.choice(self.phrasings).format(**fields)

    def samples(self, split: Split, n: int, seed: int = 0) -> list[Sample]:
        """The first `n` samples of a split's stream; a longer list starts with a shorter one.

        Raises:
            ValueError: if `n` is not positive.
        """
        if n < 1:
            raise ValueError(f"task {self.name}: the number of samples must be at least 1, got {n}")
        return [self.sample(split, i, seed) for i in range(n)]

    def sample(self, split: Split, index: int, seed: int = 0) -> Sample:
        """Sample number `index` of a split's stream, alone."""
        identity = f"{self.name}/{split}/{seed}/{index}"
        rng = random.Random(identity)
        for _ in range(_MAX_TRIES):
            question = self.draw(rng, split)
            if question.content is None or split_of(question.content) == split:
                break
        else:
            raise AssertionError(f"{self.name}: no question of split {split} found")
        meta: dict[str, Any] = {"easy": question.easy, "habit": question.habit, "candidates": self.candidates}
        return Sample(identity, self.name, question.text, question.images, question.gold, question.reasoning, meta)

    def fingerprint(self, split: Split, n: int, seed: int) -> str:
        """See `cpt.tasks.fingerprint`: of a task that the package brings, a stated one that costs nothing."""
        return DATA.get(self.name) or samples_fingerprint(self, split, n, seed)
