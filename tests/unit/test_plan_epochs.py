"""How far each arm gets through its data, computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from folders import model_folder

from cpt.plan.epochs import data_notes, epoch_lines, epochs_of
from cpt.plan.make import make_plan
from cpt.recipe import load_recipe

RECIPE = """\
version: 1
name: demo
model: MODEL
tasks: [count-colour, which-row]
data: {samples: 512}
arms:
  sft: {method: {type: sft, max_steps: 16, per_device_train_batch_size: 64}}
  grpo: {method: {type: grpo, max_steps: 16, per_device_train_batch_size: 128, num_generations: 8}}
"""
SFT, GRPO = "arms.sft.method", "arms.grpo.method"


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., list[str]]:
    path = tmp_path / "demo.yaml"
    path.write_text(RECIPE.replace("MODEL", str(model_folder(tmp_path / "model"))))

    def told(*overrides: str) -> list[str]:
        plan = make_plan(load_recipe(path, overrides))
        return epoch_lines({arm: stages for (arm, _), stages in plan.arms.items()})

    return told


def test_epochs_count_samples_of_sft_and_prompts_of_rollouts(lines):
    # 16 steps of 64 samples are 1024 of 512; 16 steps of 16 prompts are 256.
    assert lines() == [
        "epochs      2 in each stage, over 512 different prompts: sft",
        "epochs      0.5 in each stage, over 256 different prompts: grpo",
        "note        the arms don't see the same amount of data: sft goes over a stage's samples 4 times as often as "
        "grpo; arms with equal steps × samples a batch see the same",
    ]


def test_a_run_says_so_too_and_its_plan_holds_the_numbers(tmp_path: Path):
    path = tmp_path / "demo.yaml"
    path.write_text(RECIPE.replace("MODEL", str(model_folder(tmp_path / "model"))))
    plan = make_plan(load_recipe(path, ["seeds=[0,1]"]))
    (note,) = data_notes(plan.by_arm)
    assert note.startswith(
        "the arms don't see the same amount of data: sft goes over a stage's samples 4 times as often"
    )
    assert {(stage["arm"], stage["epochs"]) for stage in plan.as_dict()["stages"]} == {("sft", 2.0), ("grpo", 0.5)}


def test_arms_that_see_the_same_share_a_line_and_need_no_note(lines):
    same = "epochs      0.5 in each stage, over 256 different prompts: sft, grpo"
    assert lines(f"{SFT}.per_device_train_batch_size=16") == [same]


def test_a_batch_of_rollouts_may_serve_several_steps(lines):
    # 16 steps on 8 batches of 16 prompts.
    assert "0.25 in each stage, over 128 different prompts: grpo" in lines(f"{GRPO}.num_iterations=2")[1]


def test_stages_that_differ_are_told_one_by_one(lines):
    told = lines("tasks.1={name: which-row, samples: 256}", f"{SFT}.per_device_train_batch_size=16")
    assert told == ["epochs      0.5 + 1 by stage, over 256 + 256 different prompts: sft, grpo"]


def test_replayed_samples_are_not_the_stages_own(lines):
    # A quarter of the 256 rows of stage 2; stage 1 has nothing to replay.
    replay = "arms.grpo.replay={type: buffer, ratio: 0.25}"
    told = lines(replay, f"{SFT}.per_device_train_batch_size=16")
    assert told[1] == "epochs      0.5 + 0.375 by stage, over 256 + 192 different prompts: grpo"
    assert told[2].endswith("1.33 times as often as grpo; replayed samples take their share of a batch")


def test_batches_of_one_source_after_the_other_begin_with_the_stages_own(lines):
    # 16 batches in turn of four sources in stage 2: 4 are its own; of three in stage 1: 6.
    replay = "arms.grpo.replay={type: buffer, sampler: uniform, tasks: [exists, parity]}"
    told = lines(replay, f"{SFT}.per_device_train_batch_size=16")
    assert told[1] == "epochs      0.188 + 0.125 by stage, over 96 + 64 different prompts: grpo"


def test_points_of_a_sweep_share_a_name_unless_they_differ(lines):
    same = lines("arms.sft.sweep={learning_rate: [1e-4, 1e-3]}", f"{SFT}.per_device_train_batch_size=16")
    assert same == ["epochs      0.5 in each stage, over 256 different prompts: sft, grpo"]
    told = lines("arms.sft.sweep={per_device_train_batch_size: [16, 64]}")
    assert told[0].endswith("256 different prompts: sft@per_device_train_batch_size=16, grpo")
    assert "sft@per_device_train_batch_size=64 goes over a stage's samples 4 times as often as" in told[2]


def test_what_only_the_run_can_tell_is_bounded(lines):
    told = lines("arms.grpo.filter=rif", f"{SFT}.per_device_train_batch_size=16")
    assert told[1:] == ["epochs      at least 0.5 in each stage, over at most 256 different prompts: grpo"]
    told = lines(
        "arms.sft.merge={type: warp, runs: 2}", f"{SFT}.per_device_train_batch_size=16", f"{GRPO}.max_steps=32"
    )
    assert told == [
        "epochs      1 in each stage, over at most 512 different prompts: sft",
        "epochs      1 in each stage, over 512 different prompts: grpo",
    ]


def test_a_joint_stage_is_compared_over_all_its_data(lines):
    told = lines("arms.sft.schedule=joint", f"{SFT}.per_device_train_batch_size=16")
    assert told[0] == "epochs      0.5 in the one stage, over 512 different prompts: sft"
    assert len(told) == 2


def test_a_stage_reads_at_least_one_sample_of_its_own(lines, tmp_path):
    overrides = [
        "arms.grpo.replay={type: buffer, sampler: proportional, budget: null, tasks: [exists], samples: 100000}"
    ]
    plan = make_plan(load_recipe(tmp_path / "demo.yaml", [*overrides, f"{GRPO}.max_steps=1"]))
    found = epochs_of(plan.arms["grpo", 0][0])
    assert (found.drawn, found.before_prompts) == (1, "about ")


def test_the_recipe_of_the_readme_trains_its_arms_on_the_same(tmp_path):
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    (tmp_path / "readme.yaml").write_text(readme.partition("```yaml\n")[2].partition("```")[0])
    plan = make_plan(load_recipe(tmp_path / "readme.yaml"))
    told = epoch_lines({arm: stages for (arm, _), stages in plan.arms.items()})
    assert told == ["epochs      1 in each stage, over 1024 different prompts: sft, grpo"]
