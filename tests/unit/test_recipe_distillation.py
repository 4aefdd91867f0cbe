"""`type: sdft` in recipes: what is refused, and what TRL is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folders import load_arm

from cpt.cli.plan_table import row
from cpt.methods.sdft import SDFT
from cpt.methods.trl_fields import config_fields
from cpt.plan.make import make_plan
from cpt.recipe import Recipe, RecipeError
from cpt.recipe.study import reward_study

METHOD = "method: {type: sdft, max_steps: 2, KEYS}"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Recipe]:
    def read(keys: str = "", arm: str = "") -> Recipe:
        return load_arm(tmp_path, METHOD.replace(", KEYS", f", {keys}" if keys else "") + f"\n{arm}")

    return read


@pytest.mark.parametrize(
    ("keys", "arm", "remedy"),
    [
        ("demonstration: 'Look at this.'", "", "method.demonstration: is the text that shows the gold answer to the"),
        ("demonstration: '{demonstration} {demonstration}'", "", "write {demonstration} in it once"),
        ("distillation_alpha: 1.5", "", "method.distillation_alpha: must be less than or equal to 1, not 1.5"),
        ("teacher: base", "", "method.teacher: unknown value 'base'; known: ema, stage_start, live"),
        ("teacher: live, decay: 0.9", "", "method.decay: belongs to teacher: ema, not to live; set that, or remove it"),
        ("decay: 1.0", "", "method.decay: must be less than 1"),
        ("num_generations: 5", "", "32 completions of an optimizer step are not divisible by num_generations 5"),
        ("per_device_train_batch_size: 1", "", "a batch of rollouts needs two completions or more; set 2"),
        ("beta: 0.1", "", "method.beta: belongs to type: grpo"),
        ("", "regularisers: [{type: rapo}]", "regularisers.0: rapo changes the reward, and SDFT has none; use kl with"),
        ("", "kl: {in: reward, estimator: k1}", "kl: kl changes the reward, and SDFT has none; use kl with in: loss"),
        ("", "replay: {type: recap}", "replay.type: recap weighs rewards, and SDFT's loss has none; set type: buffer"),
        ("", "replay: {type: static, weights: {parity: 2.0}}", "replay.type: static weighs rewards, and SDFT's loss"),
        ("", "trainer_args: {loss_type: dapo}", "trainer_args.loss_type: unknown argument of TRL's"),
        ("", "tuning: {type: lora, dropout: 0.1}", "tuning.dropout: must be 0 with SDFT: engines sample without"),
    ],
)
def test_what_cannot_be_is_refused(load: Any, keys: str, arm: str, remedy: str):
    with pytest.raises(RecipeError) as caught:
        load(keys, arm)
    (problem,) = caught.value.problems
    assert "arms.a." in problem
    assert remedy in problem


def test_what_goes_with_it(load: Any):
    recipe = load(
        "num_generations: 4, teacher: live, distillation_alpha: 1",
        "regularisers: [{type: ewc}]\nkl: {coefficient: 0.1}\nfilter: rif\nmerge: ema\n"
        "replay: {type: buffer, tasks: [arithmetic], loss: supervised}",
    )
    (first, _) = make_plan(recipe).stages
    assert (first.batch_samples, first.global_batch, first.max_completion_length) == (8, 32, 8)
    assert row([first])[1] == "sdft (live)"


def test_trl_is_told_of_rollouts_and_of_no_second_loss(load: Any):
    method = load("gradient_accumulation_steps: 2").arms["a"].method
    arguments = method.trl_arguments()
    assert set(arguments) <= config_fields("grpo_config", "GRPOConfig")
    assert arguments["beta"] == 0 and arguments["num_generations"] == 1
    assert arguments["steps_per_generation"] == 2  # one optimizer step per batch of rollouts
    assert method.batch().completions == 64


def test_the_demonstration_is_put_in_as_it_is():
    method = SDFT(type="sdft", demonstration="So: {demonstration}{}")
    assert method.shown("{a}") == "So: {a}{}"


def test_one_shown_how_to_reason_is_given_the_room_for_it(load: Any):
    (first, _) = make_plan(load("target_style: think")).stages
    assert first.evaluation.max_tokens == 32


def test_a_study_of_rewards_needs_an_arm_that_learns_from_them(load: Any):
    with pytest.raises(ValueError, match=r"arm a has no reward \(sdft\); a study needs an arm with one"):
        reward_study(load(), "a")
