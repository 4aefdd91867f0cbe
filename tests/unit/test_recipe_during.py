"""Evaluation during a stage: what a recipe may ask for, what is planned of it, and what it costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from demo_recipe import load_text, problems
from folders import model_folder

from cpt.cli.plan_table import print_plan
from cpt.common.console import console
from cpt.plan.disk import RECORD_BYTES, estimate_bytes
from cpt.plan.make import make_plan
from cpt.plan.run_plan import RunPlan
from cpt.recipe import Recipe, RecipeError, load_recipe
from cpt.recipe.during import During
from cpt.recipe.schema import NEUTRAL, without_neutral

RECIPE = """\
version: 1
name: demo
seeds: [0, 1]
model: MODEL
tasks: [count-colour, {name: which-row, evaluation_samples: 10}]
general: [exists]
data: {samples: 320}
evaluation: {samples: 100, during: {every: 4}}
arms:
  sft: {method: {type: sft, max_steps: 10}}
  grpo: {method: {type: grpo, max_steps: 8}}
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    return lambda *overrides, **text: load_text(tmp_path, *overrides, **text)


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    path = tmp_path / "demo.yaml"
    path.write_text(RECIPE.replace("MODEL", str(model_folder(tmp_path / "model"))))
    return lambda *overrides: make_plan(load_recipe(path, overrides))


def steps(plan: RunPlan) -> dict[str, list[tuple[int, ...]]]:
    return {arm: [stage.during.steps for stage in stages] for arm, stages in plan.by_arm.items()}


@pytest.mark.parametrize(
    ("every", "of", "expected"),
    [
        (4, 10, (4, 8)),
        (4, 8, (4,)),  # the last step is the finished policy's
        (4, 4, ()),
        (1, 3, (1, 2)),
        ([0.5, 0.25], 8, (2, 4)),
        ([0.01, 0.02, 0.99], 10, (1, 9)),  # rounded, never 0 or the last
        ([0.5], 1, ()),
    ],
)
def test_the_steps_after_which_a_policy_is_evaluated(every: Any, of: int, expected: tuple[int, ...]):
    assert During(every=every).after(of) == expected


@pytest.mark.parametrize(
    ("during", "message"),
    [
        ("{every: [0.5, 1.5]}", "evaluation.during.every.1: must be less than 1, not 1.5"),
        ("{every: [0.0]}", "evaluation.during.every.0: must be greater than 0, not 0.0"),
        ("{every: []}", "evaluation.during.every: is empty; give at least one"),
        ("{every: 0}", "evaluation.during.every: must be greater than 0, not 0"),
        ("{every: 0.5}", "evaluation.during.every: must be a whole number, not 0.5"),
        ("{samples: 3}", "evaluation.during.every: is missing; a recipe has to set it"),
        ("5", "evaluation.during: must be a mapping of key: value, not 5"),
        (
            "{every: 5, tasks: [exist]}",
            "evaluation.during.tasks.0: 'exist' is no task of this recipe; did you mean 'ex",
        ),
        ("{every: 5, tasks: [exists, exists]}", "evaluation.during.tasks.1: 'exists' stands here twice"),
        ("{every: 5, tasks: []}", "evaluation.during.tasks: is empty; give at least one"),
        ("{every: 5, samples: 257}", "evaluation.during.samples: 257 are more than a finished policy is asked, evalu"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(load: Any, during: str, message: str):
    (problem,) = problems(load, f"evaluation.during={during}")
    assert message in problem


def test_a_stage_that_is_over_before_is_refused(planned: Any):
    with pytest.raises(RecipeError) as caught:
        planned("evaluation.during.every=8")
    (problem,) = caught.value.problems
    told = "stage 1 of arm grpo has 8 steps, and its last step is not one between; set fewer, or leave it out"
    assert problem == f"command line: evaluation.during.every: {told}"


def test_every_arm_is_asked_the_first_samples_of_every_task(planned: Any):
    plan = planned()
    assert steps(plan) == {"sft": [(4, 8), (4, 8)], "grpo": [(4,), (4,)]}
    for stage in plan.stages:
        assert stage.during.samples == {"count-colour": 64, "which-row": 10, "exists": 64}
    (some,) = {tuple(s.during.samples.items()) for s in planned("evaluation.during.tasks=[exists]").stages}
    assert some == (("exists", 64),)
    fewer = planned("evaluation.samples=40").stages[0].during.samples
    assert fewer == {"count-colour": 40, "which-row": 10, "exists": 40}


def test_a_joint_stage_is_measured_by_its_own_steps_and_several_trainings_are_not(planned: Any):
    changed = ("evaluation.during.every=[0.5]", "arms.sft.schedule=joint", "arms.grpo.merge=warp")
    assert steps(planned(*changed)) == {"sft": [(10,)], "grpo": [(), ()]}


def test_it_is_no_part_of_a_stage_or_of_what_may_not_change(planned: Any):
    without = planned("evaluation.during=null")
    assert [stage.key for stage in planned().stages] == [stage.key for stage in without.stages]
    assert without.stages[0].during.steps == ()
    assert planned().recipe.resolved_hash() == without.recipe.resolved_hash()
    assert ("evaluation",) in NEUTRAL
    assert "during" not in str(without_neutral(planned().recipe.resolved()))
    # Nor of what finished policies are asked: their records stay.
    assert planned().stages[0].evaluation == without.stages[0].evaluation


def test_the_resolved_recipe_is_read_back(planned: Any, tmp_path: Path):
    recipe: Recipe = planned("evaluation.during={every: [0.25, 0.5], tasks: [exists], samples: 7}").recipe
    again = tmp_path / "again.yaml"
    again.write_text(recipe.dump_yaml())
    assert load_recipe(again) == recipe


def test_the_plan_says_what_it_costs(planned: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    plan = planned()
    print_plan(plan, console(), tmp_path)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("during")] == [
        # 64 + 10 + 64 completions after each of 2 steps, in 2 stages, with 2 seeds
        "during      2 evaluations in each stage, 138 completions each, 1104 in all: sft",
        "during      1 evaluation in each stage, 138 completions each, 552 in all: grpo",
    ]
    rest = dataclasses.replace(plan, arms={key: [_bare(one) for one in own] for key, own in plan.arms.items()})
    assert estimate_bytes(plan) - estimate_bytes(rest) == (1104 + 552) * RECORD_BYTES
    print_plan(planned("evaluation.during=null"), console(), tmp_path)
    assert "during" not in capsys.readouterr().out
    print_plan(planned("arms.grpo.merge=warp"), console(), tmp_path)
    assert "not evaluated during a stage, which is merged from several trainings: grpo" in capsys.readouterr().out


def _bare(stage: Any) -> Any:
    return dataclasses.replace(stage, during=type(stage.during)())
