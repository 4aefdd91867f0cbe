"""Replay with weights that are chosen in advance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from cpt.common.keys import Problem, nearest
from cpt.methods.replay import Weighed
from cpt.methods.setting import ArmView, Weight


class Static(Weighed):
    """Weights that stay: a factor for every source, or `source/component` of a reward; 1 where none is given.

    The mixture is chosen in advance, as in MoDoMoDo (arXiv 2505.24871).
    """

    type: Literal["static"]
    weights: Annotated[dict[str, Weight], Field(min_length=1)]

    def weight(self, objective: str) -> float:
        """Of a `source`, or of a `source/component`, which may have that of its whole source."""
        return self.weights.get(objective, self.weights.get(objective.partition("/")[0], 1.0))

    def without_samples(self, arm: ArmView) -> Iterator[Problem]:
        """It weighs the components of the stages' own rewards."""
        yield from ()

    def weight_clashes(self, arm: ArmView) -> Iterator[Problem]:
        """Also: weights that belong to nothing, and would be left unused in silence."""
        yield from super().weight_clashes(arm)
        sources = [*(name for name, _ in arm.tasks), *self.tasks]
        for name in self.weights:
            source, _, part = name.partition("/")
            if source not in sources:
                yield ("weights", name), f"is no source of this arm{nearest(name, sources)}"
            elif part and not arm.method.needs_rollouts:
                yield ("weights", name), f"SFT has no components of a reward; write {source}"
            elif part and part not in (parts := list(arm.components(source))):
                yield ("weights", name), f"is no component of {source}'s reward{nearest(part, parts)}"
        objectives = sources
        if arm.method.needs_rollouts:
            objectives = [f"{source}/{part}" for source in sources for part in arm.components(source)]
        if objectives and not any(self.weight(name) for name in objectives):
            yield ("weights",), "are 0 for everything, so that nothing would be learned; raise one"
