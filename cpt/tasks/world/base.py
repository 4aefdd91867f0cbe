"""What every built-in task shares: seeded samples, scoring, reward, and the habits that the base model is given."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cpt.tasks import prompts
from cpt.tasks.world.scene import MAX_OBJECTS
from cpt.types import PromptStyle, Sample, Split, TargetStyle
from rewards.extract import read_answer
from rewards.match import accuracy_and_format, exact_match
from rewards.score import Score

if TYPE_CHECKING:
    from PIL.Image import Image

# Shares of the space of scenes and questions: 6 parts base training, 2 parts stage training, 2 parts test.
_SHARES: tuple[Split, ...] = ("base",) * 6 + ("train",) * 2 + ("test",) * 2
_MAX_TRIES = 10_000


def split_of(content: str) -> Split:
    """The split that owns a scene or a question, by its content: what one split shows, no other can."""
    digest = hashlib.blake2b(content.encode(), digest_size=8).digest()
    return _SHARES[int.from_bytes(digest, "big") % len(_SHARES)]


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
    candidates: tuple[str, ...] = ()


class BuiltinTask(ABC):
    """A task of the built-in world.

    Subclasses draw questions; the rest is here. `easy` and `habit` describe the base model's partial competence: it
    answers easy instances and, on hard ones, mostly falls back on a habit (see the model card). They travel in
    `Sample.meta` and never reach a prompt.
    """

    name: ClassVar[str]
    family: ClassVar[str]
    role: ClassVar[Literal["stage", "general"]] = "stage"
    about: ClassVar[str]
    metric: ClassVar[str] = "exact"
    candidates: ClassVar[tuple[str, ...]] = ()

    def __init__(self, crowd: int = MAX_OBJECTS) -> None:
        """`crowd` bounds the number of things in a scene; only the base model's curriculum lowers it."""
        self.crowd = crowd

    @abstractmethod
    def draw(self, rng: random.Random, split: Split) -> Question:
        """One question from this random stream."""

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
        meta: dict[str, Any] = {
            "easy": question.easy,
            "habit": question.habit,
            "candidates": question.candidates or self.candidates,
        }
        return Sample(identity, self.name, question.text, question.images, question.gold, question.reasoning, meta)

    def fingerprint(self, split: Split, n: int, seed: int) -> str:
        """See `cpt.tasks.fingerprint`: of a task that the package brings, a stated one that costs nothing."""
        from cpt.tasks.fingerprint import samples_fingerprint
        from cpt.tasks.world.stated import DATA

        task: Any = self
        return DATA.get(self.name) or samples_fingerprint(task, split, n, seed)

    def messages(self, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
        """See `cpt.tasks.prompts.messages`."""
        return prompts.messages(sample, prompt)

    def target(self, sample: Sample, style: TargetStyle, prompt: PromptStyle) -> str:
        """See `cpt.tasks.prompts.target`."""
        return prompts.target(sample, style, prompt)

    def score(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """Strict and tolerant correctness of one completion; `value` is the strict one."""
        strict = read_answer(completion, "strict", prompt)
        tolerant = read_answer(completion, "tolerant", candidates=sample.meta["candidates"], question=sample.question)
        right_strict = exact_match(strict.answer, sample.gold)
        right_tolerant = max(right_strict, exact_match(tolerant.answer, sample.gold))
        parts = {"strict": right_strict, "tolerant": right_tolerant, "format": float(strict.status == "ok")}
        read = strict if strict.status == "ok" else tolerant
        return Score(right_strict, parts, read.answer, strict.status)

    def reward(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """0.9 accuracy + 0.1 format, both read strictly (arXiv 2507.05386)."""
        parts = accuracy_and_format(completion, sample.gold, prompt)
        read = read_answer(completion, "strict", prompt)
        value = parts.pop("reward")
        return Score(value, parts, read.answer, read.status)


def pick(rng: random.Random, templates: Sequence[str], **fields: str) -> str:
    """One of several phrasings, filled in."""
    return rng.choice(templates).format(**fields)
