"""Text-only general tasks: what a policy knows without looking."""

from __future__ import annotations

import random
from typing import ClassVar

from cpt.tasks.base import BuiltinTask, Question, pick
from cpt.tasks.scene import SHAPES
from cpt.types import Split

LETTERS = ("A", "B", "C", "D")


class Arithmetic(BuiltinTask):
    """Sums with lettered options, in the manner of MMLU-Pro (arXiv 2406.01574): no picture, the answer is a letter."""

    name, family, role = "arithmetic", "text", "general"
    about = "the sum of two numbers up to 9, chosen among four lettered options (MMLU-Pro)"
    candidates: ClassVar[tuple[str, ...]] = LETTERS

    def draw(self, rng: random.Random, split: Split) -> Question:
        """Distractors are other sums; the split is decided by numbers and options together."""
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        options = [a + b, *rng.sample([n for n in range(19) if n != a + b], 3)]
        rng.shuffle(options)
        listed = " ".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=True))
        text = pick(
            rng,
            ("What is {a} plus {b} ? {o}", "{a} plus {b} is : {o}", "Add {a} and {b} . {o}"),
            a=str(a),
            b=str(b),
            o=listed,
        )
        answer = LETTERS[options.index(a + b)]
        return Question(text, (answer,), (), f"{a}+{b}:{options}", True, answer, f"{a} plus {b} is {a + b} .")


class PlainSum(BuiltinTask):
    """The same sums without options: a step of the base model's curriculum, not listed as a task of its own."""

    name, family, role = "plain-sum", "text", "general"
    about = "the sum of two numbers up to 9"
    candidates: ClassVar[tuple[str, ...]] = tuple(str(i) for i in range(19))

    def draw(self, rng: random.Random, split: Split) -> Question:
        """All hundred sums are in every split: there is no picture to memorise, and the facts are the skill."""
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        text = pick(rng, ("What is {a} plus {b} ?", "{a} plus {b} is :", "Add {a} and {b} ."), a=str(a), b=str(b))
        return Question(text, (str(a + b),), (), None, True, str(a + b), f"{a} plus {b} is {a + b} .")


class LetterOf(BuiltinTask):
    """Which letter an option has: what choosing by letter rests on. Also only a step of the base model's curriculum."""

    name, family, role = "letter-of", "text", "general"
    about = "the letter of a given option"
    candidates: ClassVar[tuple[str, ...]] = LETTERS

    def draw(self, rng: random.Random, split: Split) -> Question:
        """The options are numbers or shapes."""
        options = rng.sample([str(n) for n in range(19)] if rng.random() < 0.5 else list(SHAPES), 4)
        wanted = rng.randrange(4)
        listed = " ".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=True))
        text = pick(rng, ("What is {w} ? {o}", "Choose {w} . {o}"), w=options[wanted], o=listed)
        return Question(text, (LETTERS[wanted],), (), f"{wanted}:{options}", True, LETTERS[wanted], "")


TASKS: tuple[type[BuiltinTask], ...] = (Arithmetic,)
LESSONS: tuple[type[BuiltinTask], ...] = (PlainSum, LetterOf)
