"""GRPO's relatives in recipes: what each definition fixes, what contradicts it, and what TRL is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from cpt.cli.plan_table import row
from cpt.methods.advantages import against_group_mean
from cpt.methods.grpo import DAPO, GRPO, GSPO, DrGRPO
from cpt.methods.policy_gradient import PolicyGradient
from cpt.methods.registry import Method
from cpt.methods.reinforce import Reinforce
from cpt.methods.remax import ReMax, against_greedy
from cpt.methods.rloo import RLOO, against_others
from cpt.methods.trl_fields import config_fields
from cpt.plan.make import make_plan
from cpt.recipe import Recipe, RecipeError, load_recipe

BASE = """\
version: 1
name: demo
model: builtin/tiny-qwen2_5-vl
tasks: [count-colour]
arms:
  rl:
    method: {type: TYPE, max_steps: 10}
"""
RELATIVES = {"dr_grpo": DrGRPO, "dapo": DAPO, "gspo": GSPO, "rloo": RLOO, "reinforce": Reinforce, "remax": ReMax}


def method(**settings: Any) -> Any:
    return TypeAdapter(Method).validate_python(settings)


@pytest.fixture
def load(tmp_path):
    def load(kind: str, *overrides: str) -> Recipe:
        path = tmp_path / "demo.yaml"
        path.write_text(BASE.replace("TYPE", kind))
        return load_recipe(path, overrides)

    return load


@pytest.mark.parametrize(("kind", "cls"), RELATIVES.items())
def test_each_is_chosen_by_its_type_and_tells_trl_everything(kind: str, cls: type[PolicyGradient]):
    found = method(type=kind)
    assert type(found) is cls
    arguments = found.trl_arguments()
    assert set(arguments) <= config_fields(*cls.trl_config)
    assert not {"loss_type", "epsilon", "epsilon_high", "scale_rewards", "importance_sampling_level"} - set(arguments)
    assert not list(found.problems())
    assert set(arguments) == set(GRPO(type="grpo").trl_arguments())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("grpo", (against_group_mean, "group", "grpo", "token", 0.2, 0.2)),
        ("dr_grpo", (against_group_mean, "none", "dr_grpo", "token", 0.2, 0.2)),
        ("dapo", (against_group_mean, "group", "dapo", "token", 0.2, 0.28)),
        ("gspo", (against_group_mean, "group", "grpo", "sequence", 3e-4, 4e-4)),
        ("rloo", (against_others, "none", "dr_grpo", "token", 0.2, 0.2)),
        ("reinforce", (against_group_mean, "none", "dr_grpo", "token", 0.2, 0.2)),
        ("remax", (against_greedy, "none", "dr_grpo", "token", 0.2, 0.2)),
    ],
)
def test_what_a_definition_says(kind: str, expected: tuple[Any, ...]):
    found = method(type=kind)
    arguments = found.trl_arguments()
    names = ("scale_rewards", "loss_type", "importance_sampling_level", "epsilon", "epsilon_high")
    assert (found.baseline.against, *(arguments[name] for name in names)) == expected
    assert arguments["beta"] == 0.0


@pytest.mark.parametrize(
    ("kind", "overrides", "message"),
    [
        ("rloo", ["num_generations=1"], "num_generations: 1 leaves RLOO no other completions to compare with; set 2"),
        ("reinforce", ["num_generations=1"], "every reward is its group's mean and nothing is learned; set 2 or more"),
        ("remax", ["num_generations=8", "greedy_baseline=false"], "greedy_baseline: ReMax has no other baseline than"),
        ("remax", ["greedy_baseline=false"], "set true, or use type: rloo with num_generations of 2 or more"),
        ("remax", ["per_device_train_batch_size=1"], "a batch of rollouts needs two completions or more; set 2"),
        ("remax", ["num_generations=0"], "num_generations: must be greater than 0, not 0"),
        ("reinforce", ["num_iterations=2"], "num_iterations: REINFORCE takes one optimizer step per batch"),
        ("reinforce", ["steps_per_generation=2"], "steps_per_generation: REINFORCE takes one optimizer step"),
        ("dr_grpo", ["scale_rewards=group"], "scale_rewards: is always none with this type of method, not 'group'"),
        ("gspo", ["importance_sampling_level=token"], "is always sequence with this type of method, not 'token'"),
        ("dapo", ["loss_type=grpo"], "loss_type: is always dapo with this type of method, not 'grpo'; leave it out"),
        ("grpo", ["greedy_baseline=true"], "greedy_baseline: belongs to type: remax"),
    ],
)
def test_a_contradiction_is_refused_with_what_to_change(load, kind: str, overrides: list[str], message: str):
    with pytest.raises(RecipeError) as caught:
        load(kind, *(f"arms.rl.method.{override}" for override in overrides))
    (problem,) = caught.value.problems
    assert f"arms.rl.method.{overrides[-1].partition('=')[0]}: " in problem
    assert message in problem


def test_what_a_method_decides_cannot_pass_by_trainer_args(load):
    for key in ("scale_rewards", "loss_type", "num_generations"):
        with pytest.raises(RecipeError, match=f"set it in the arm's method: {key}"):
            load("remax", f"arms.rl.trainer_args.{key}=group")


def test_an_accumulated_batch_of_reinforce_is_one_step():
    assert not list(method(type="reinforce", gradient_accumulation_steps=4).problems())


@pytest.mark.parametrize(
    ("settings", "batch"),
    [
        ({"type": "rloo", "num_generations": 8}, (4, 32, 1)),
        ({"type": "remax"}, (32, 32, 1)),
        ({"type": "remax", "num_generations": 2, "steps_per_generation": 4}, (64, 128, 4)),
    ],
)
def test_batches(settings: dict[str, Any], batch: tuple[int, int, int]):
    found = method(per_device_train_batch_size=32, **settings).batch()
    assert (found.samples, found.completions, found.steps) == batch


@pytest.mark.parametrize(
    ("kind", "override", "title"),
    [
        ("grpo", "beta=0.1", "grpo"),
        ("grpo", "scale_rewards=none", "grpo (no std)"),
        ("grpo", "scale_rewards=batch", "grpo (batch std)"),
        ("dr_grpo", "beta=0.0", "dr. grpo"),
        ("dapo", "beta=0.0", "dapo"),
        ("gspo", "beta=0.0", "gspo"),
        ("rloo", "beta=0.0", "rloo"),
        ("reinforce", "beta=0.0", "reinforce (group mean)"),
        ("remax", "beta=0.0", "remax"),
    ],
)
def test_the_plan_names_the_estimator(load, kind: str, override: str, title: str):
    plan = make_plan(load(kind, f"arms.rl.method.{override}"))
    assert row(plan.arms["rl", 0])[1] == title


def test_arms_of_all_estimators_stand_in_one_recipe(tmp_path):
    arms = "".join(f"  {kind}: {{method: {{type: {kind}, max_steps: 2}}}}\n" for kind in ("grpo", *RELATIVES))
    path = tmp_path / "all.yaml"
    path.write_text(BASE.partition("  rl:")[0] + arms)
    recipe = load_recipe(path)
    assert list(make_plan(recipe).arms) == [(kind, 0) for kind in ("grpo", *RELATIVES)]
    path.write_text(recipe.dump_yaml())
    assert load_recipe(path) == recipe
