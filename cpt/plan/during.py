"""What a plan measures on policies in training, and what that costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpt.common.console import counted
from cpt.methods.merge import WarpMerge
from cpt.plan.stages import DuringPlan, EvaluationPlan, StagePlan
from cpt.recipe import ArmSpec, Recipe, RecipeError
from cpt.recipe.during import SAMPLES


def plan_during(recipe: Recipe, spec: ArmSpec, index: int, steps: int, evaluation: EvaluationPlan) -> DuringPlan:
    """Of one stage. Nothing where it consists of several trainings: its policy then has no single course.

    Args:
        steps: of optimization that the stage has.

    Raises:
        RecipeError: the stage is over before it would be measured.
    """
    during = recipe.evaluation.during
    if during is None or isinstance(spec.merge, WarpMerge):
        return DuringPlan()
    after = during.after(steps)
    if not after:
        told = f"stage {index} of arm {spec.name} has {counted(steps, 'step')}, and its last step is not one between"
        raise RecipeError([recipe.problem(("evaluation", "during", "every"), f"{told}; set fewer, or leave it out")])
    most = during.samples or SAMPLES
    asked = during.tasks or list(evaluation.samples)
    return DuringPlan(after, {name: min(most, n) for name, n in evaluation.samples.items() if name in asked})


def during_lines(arms: Mapping[str, Sequence[StagePlan]], seeds: int) -> list[str]:
    """What it costs: one line for all arms whose stages are measured alike, and one for those that are not measured."""
    if not any(stage.during.steps for stages in arms.values() for stage in stages):
        return []
    found: dict[str, list[str]] = {}
    for arm, stages in arms.items():
        found.setdefault(_said(stages, seeds), []).append(arm)
    return [f"during      {text}: {', '.join(names)}" for text, names in found.items()]


def _said(stages: Sequence[StagePlan], seeds: int) -> str:
    if not stages[0].during.steps:
        return "not evaluated during a stage, which is merged from several trainings"
    times = [len(stage.during.steps) for stage in stages]
    asked = sum(stages[0].during.samples.values())
    total = sum(stage.during.completions for stage in stages) * seeds
    often = f"{counted(times[0], 'evaluation')} in each stage"
    if len(stages) == 1:
        often = f"{counted(times[0], 'evaluation')} in the one stage"
    elif len({*times}) > 1:
        often = f"{' + '.join(map(str, times))} evaluations by stage"
    return f"{often}, {asked} completions each, {total} in all"
