"""Evaluation of policies in training: after which steps, and what they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from cpt.common.keys import Problem, nearest
from cpt.common.strict import Strict
from cpt.methods.setting import Count

SAMPLES = 64
"""Test samples of a task where the recipe sets no number."""


def _kind(value: Any) -> str:
    return "fractions" if isinstance(value, list) else "steps"


Fraction = Annotated[float, Field(gt=0, lt=1)]
Every = Annotated[
    Annotated[Count, Tag("steps")]
    | Annotated[list[Fraction], Field(min_length=1, max_length=1000), Tag("fractions")],
    Discriminator(_kind),
]  # fmt: skip


class During(Strict):
    """Evaluation of a policy between the steps of its training, which leaves it as it is.

    `every`: after so many optimizer steps, or after these fractions of a stage; never after the last step, when the
    policy is finished. `tasks: null` is all tasks of the recipe. `samples`: test samples per task, the first of those
    that the finished policy is asked; null is 64, or all of them where there are fewer.
    """

    every: Every
    tasks: Annotated[list[str], Field(min_length=1, max_length=2000)] | None = None
    samples: Count | None = None

    def after(self, steps: int) -> tuple[int, ...]:
        """The steps of a stage of so many after which its policy is evaluated, in order."""
        if isinstance(self.every, int):
            return tuple(range(self.every, steps, self.every))
        rounded = {max(1, min(round(part * steps), steps - 1)) for part in self.every}
        return tuple(sorted(rounded)) if steps > 1 else ()

    def problems(self, known: Sequence[str], most: int) -> Iterator[Problem]:
        """What does not go with the rest of a recipe.

        Args:
            known: the recipe's tasks.
            most: test samples of a task that a finished policy is asked.
        """
        for i, name in enumerate(self.tasks or []):
            if name not in known:
                yield ("tasks", i), f"{name!r} is no task of this recipe{nearest(name, known)}"
            elif name in (self.tasks or [])[:i]:
                yield ("tasks", i), f"{name!r} stands here twice"
        if self.samples is not None and self.samples > most:
            yield (
                ("samples",),
                f"{self.samples} are more than a finished policy is asked, evaluation.samples: {most}; set {most} or "
                "fewer, or raise evaluation.samples",
            )
