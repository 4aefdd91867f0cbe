"""All work of one run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cpt.plan.epochs import epochs_of
from cpt.plan.stages import BasePlan, ModelPlan, StagePlan, plain
from cpt.recipe import Recipe


@dataclass(frozen=True)
class RunPlan:
    """All work of one run.

    Attributes:
        arms: (arm, seed) → its stages, in the order they run.
        bases: evaluations of the base model, one per seed and prompt style in use.
    """

    recipe: Recipe
    model: ModelPlan
    arms: Mapping[tuple[str, int], list[StagePlan]]
    bases: list[BasePlan] = field(default_factory=list)

    @property
    def stages(self) -> list[StagePlan]:
        """Every stage, in the order they run."""
        return [stage for stages in self.arms.values() for stage in stages]

    @property
    def by_arm(self) -> dict[str, list[StagePlan]]:
        """Every arm's stages, those of its first seed."""
        found: dict[str, list[StagePlan]] = {}
        for (arm, _), stages in self.arms.items():
            found.setdefault(arm, stages)
        return found

    def global_batch(self) -> dict[str, int]:
        """Completions per optimizer step of every arm."""
        return {stage.arm: stage.global_batch for stage in self.stages}

    def as_dict(self) -> dict[str, Any]:
        """Plain data for plan.json."""
        return {
            "recipe_hash": self.recipe.resolved_hash(),
            "model": plain(self.model),
            "tasks": self.recipe.task_names,
            "general": self.recipe.general_names,
            "bases": [plain(base) for base in self.bases],
            "stages": [{**stage.as_dict(), "epochs": float(epochs_of(stage).epochs)} for stage in self.stages],
        }

    def evaluated_samples(self) -> int:
        """Completions that all evaluations generate."""
        evaluations = [*(base.evaluation for base in self.bases), *(stage.evaluation for stage in self.stages)]
        return sum(sum(evaluation.samples.values()) for evaluation in evaluations)
