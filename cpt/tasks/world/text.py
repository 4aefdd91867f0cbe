"""Text-only general tasks: what a policy knows without looking."""

from __future__ import annotations

import random

from cpt.tasks.world.base import BuiltinTask, Question
from cpt.types import Split


class Arithmetic(BuiltinTask):
    """Sums in words, text only: the part that MMLU-Pro (arXiv 2406.01574) plays in the literature.

    Answers are open. With four lettered options, as MMLU-Pro has ten, the built-in model did not get beyond guessing.
    """

    name, family, role = "arithmetic", "text", "general"
    about = "the sum of two numbers up to 9, without a picture (MMLU-Pro)"
    candidates = tuple(str(i) for i in range(19))
    phrasings = (
        "What is {a} plus {b} ?",
        "{a} plus {b} is :",
        "Add {a} and {b} .",
        "What do {a} and {b} add up to ?",
        "Name the sum of {a} and {b} .",
        "What is the sum of {a} and {b} ?",
    )

    def draw(self, rng: random.Random, split: Split) -> Question:
        """The split is decided by numbers and phrasing together: a test question was never read in base training."""
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        text = self.phrase(rng, a=str(a), b=str(b))
        return Question(text, (str(a + b),), (), text, True, str(a + b), f"{a} plus {b} is {a + b} .")


TASKS: tuple[type[BuiltinTask], ...] = (Arithmetic,)
