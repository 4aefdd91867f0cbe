"""`replay:` and `schedule:` in recipes: what they resolve to, and what a writer is told about what can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan
from cpt.recipe import RecipeError, load_recipe
from cpt.tasks import get_task
from cpt.train.data import own_samples, stage_data

SFT = {"type": "sft", "per_device_train_batch_size": 16}
GRPO = {"type": "grpo", "per_device_train_batch_size": 64, "num_generations": 8}


def path_of(folder: Path, method: dict[str, Any], tasks: list[str], arm: dict[str, Any]) -> Path:
    recipe = {
        "version": 1,
        "name": "demo",
        "model": "builtin/tiny-qwen2_5-vl",
        "tasks": tasks,
        "general": ["exists", "arithmetic"],
        "data": {"samples": 96},
        "arms": {"arm": {"method": method} | arm},
    }
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def stages(folder: Path, method: dict[str, Any], **arm: Any) -> list[StagePlan]:
    return make_plan(load_recipe(path_of(folder, method, ["count-colour", "which-row", "choice"], arm))).stages


def told(folder: Path, method: dict[str, Any], *, tasks: tuple[str, ...] = ("count-colour", "which-row"), **arm: Any):
    with pytest.raises(RecipeError) as caught:
        load_recipe(path_of(folder, method, list(tasks), arm))
    (problem,) = caught.value.problems
    return problem


def test_a_stage_replays_what_is_finished_and_an_epoch_counts_its_own_samples(tmp_path: Path):
    first, second, third = stages(tmp_path, SFT, replay={"type": "buffer", "ratio": 0.25, "tasks": ["exists"]})
    assert [source.task for source in third.sources] == ["count-colour", "which-row", "exists"]
    assert [source.finished for source in third.sources] == [True, True, False]
    assert [source.task for source in first.sources] == ["exists"]
    assert second.steps == 96 / (16 * 0.75)


def test_the_first_stage_of_an_arm_without_other_tasks_is_the_plain_one(tmp_path: Path):
    first, second, _ = stages(tmp_path, SFT, replay={"type": "buffer", "ratio": 0.25})
    assert first.steps == 96 / 16
    assert second.steps == 8
    assert first.sources == ()


def test_uniform_gives_every_source_as_many_batches(tmp_path: Path):
    _, _, third = stages(tmp_path, GRPO, replay={"type": "buffer", "sampler": "uniform"})
    assert third.steps == 3 * 96 / 8


@pytest.mark.parametrize("selection", ["balanced", "reservoir"])
def test_a_source_without_samples_gets_no_turn(tmp_path: Path, selection: str):
    replay = {"type": "buffer", "sampler": "uniform", "budget": 1, "selection": selection}
    with pytest.raises(
        ValueError, match=r"arms\.arm\.replay\.budget: seed 0, stage 3: the buffer of 1 keeps no sample of .*; raise"
    ):
        stages(tmp_path, GRPO, replay=replay)
    enough = replay | {"budget": 2, "selection": "balanced"}
    for asked in (enough, replay | {"sampler": "proportional"}, replay | {"loss": "supervised", "ratio": 0.25}):
        *_, stage = stages(tmp_path, GRPO, replay=asked)
        assert stage_data(stage, own_samples(stage)).order


def test_only_arms_that_use_them_have_other_keys(tmp_path: Path):
    plain, same = stages(tmp_path, SFT), stages(tmp_path, SFT, schedule="sequential")
    assert [stage.key for stage in plain] == [stage.key for stage in same]
    single, joint = stages(tmp_path, SFT, schedule="single"), stages(tmp_path, SFT, schedule="joint")
    assert single[0].parent_key == single[1].parent_key == joint[0].parent_key == plain[0].parent_key
    assert len({stage.key for stage in (*plain, *single, *joint)}) == 7


def test_a_joint_stage_takes_all_steps_at_once(tmp_path: Path):
    (joint,) = stages(tmp_path, SFT | {"max_steps": 10}, schedule="joint")
    assert (joint.index, joint.task, joint.steps, joint.data_samples) == (3, "joint", 30, 288)
    assert joint.from_base


@pytest.mark.parametrize(
    ("replay", "message"),
    [
        ({"type": "buffer", "ratio": 1.2}, "less than 1"),
        ({"type": "buffer", "ratio": 0.05}, "less than one; set 0.0625 or more"),
        ({"type": "buffer", "finished": False}, "replays nothing"),
        ({"type": "buffer", "tasks": ["exits"]}, "did you mean 'exists'"),
        ({"type": "buffer", "tasks": ["exists", "exists"]}, "stands here twice"),
        ({"type": "buffer", "tasks": ["count-colour"]}, "`finished: true` replays it"),
        ({"type": "buffer", "sampler": "uniform", "ratio": 0.5}, "mixes by its own rule"),
        ({"type": "buffer", "loss": "supervised"}, "SFT supervises replayed samples anyway"),
        ({"type": "buffer", "coefficient": 2.0}, "set loss: supervised"),
        ({"type": "recap", "window": 1, "finished": False}, "there is one only"),
        ({"type": "recap", "window": 1, "alpha": 2.0}, "-1 to be annealed"),
        ({"type": "recap", "window": 1, "weigh": "advantages"}, "SFT has no advantages"),
        ({"type": "static", "weights": {"exist": 2.0}, "tasks": ["exists"]}, "did you mean 'exists'"),
        ({"type": "static", "weights": {}}, "is empty; give at least one"),
    ],
)
def test_what_an_sft_arm_can_not_replay(tmp_path: Path, replay: dict[str, Any], message: str):
    assert message in told(tmp_path, SFT, replay=replay)


def test_one_task_alone_is_one_objective(tmp_path: Path):
    problem = told(tmp_path, SFT, tasks=("count-colour",), replay={"type": "recap", "window": 1})
    assert "RECAP weighs objectives against each other and there is one only" in problem
    single: dict[str, Any] = {
        "replay": {"type": "recap", "window": 1, "finished": False},
        "reward": [{"type": "accuracy", "weight": 1.0}],
    }
    assert "there is one only" in told(tmp_path, GRPO, **single)
    assert stages(tmp_path, GRPO, replay=single["replay"])  # the tasks' own reward has two components


def test_weights_and_another_loss_exclude_each_other(tmp_path: Path):
    assert "loss_type: nll" in told(tmp_path, SFT | {"loss_type": "dft"}, replay={"type": "recap", "window": 1})


def test_a_greedy_baseline_has_no_components(tmp_path: Path):
    remax = {"type": "remax", "per_device_train_batch_size": 16}
    assert "weigh: rewards" in told(tmp_path, remax, replay={"type": "recap", "window": 1, "weigh": "advantages"})


@pytest.mark.parametrize(
    ("pays", "name"),
    [({"kl": {"in": "reward", "estimator": "k1"}}, "kl"), ({"regularisers": [{"type": "rapo"}]}, "rapo")],
)
def test_advantages_of_components_would_leave_out_what_plugins_pay(tmp_path: Path, pays: dict[str, Any], name: str):
    grpo = GRPO | ({"scale_rewards": "batch"} if name == "kl" else {})
    problem = told(tmp_path, grpo, replay={"type": "recap", "window": 1, "weigh": "advantages"}, **pays)
    assert f"without what {name} adds; set weigh: rewards" in problem
    assert stages(tmp_path, grpo, replay={"type": "recap", "window": 1}, **pays)


@pytest.mark.parametrize(
    "replay", [{"type": "recap", "window": 1}, {"type": "static", "weights": {"count-colour": 2.0}}]
)
@pytest.mark.parametrize("weight", [-0.2, 0.0])
def test_weights_of_objectives_would_turn_a_penalty_into_a_reward(
    tmp_path: Path, replay: dict[str, Any], weight: float
):
    reward = {"components": [{"type": "accuracy", "weight": 1.0}, {"type": "length", "weight": weight}]}
    problem = told(tmp_path, GRPO, replay=replay, reward=reward)
    assert f"length would be rewarded instead of having weight {weight:g}" in problem
    assert stages(tmp_path, GRPO, replay={"type": "buffer"}, reward=reward)


@pytest.mark.parametrize(
    ("method", "reward", "name", "message"),
    [
        (GRPO, None, "count-colour/fromat", "is no component of count-colour's reward; did you mean 'format'?"),
        (GRPO, None, "exists/strict", "is no component of exists's reward"),
        (GRPO, [{"type": "length", "weight": 1.0}], "count-colour/format", "is no component of count-colour's reward"),
        (SFT, None, "count-colour/format", "SFT has no components of a reward; write count-colour"),
    ],
)
def test_a_weight_belongs_to_something(tmp_path: Path, method: dict[str, Any], reward: Any, name: str, message: str):
    static = {"type": "static", "tasks": ["exists"], "weights": {name: 0.5}}
    arm = {"replay": static} | ({"reward": reward} if reward else {})
    assert message in told(tmp_path, method, **arm)
    good = static | {"weights": {"exists/format" if method is GRPO else "exists": 0.5}}
    assert stages(tmp_path, method, **(arm | {"replay": good}))


def test_recaps_weights_are_found_again_in_a_log_of_every_step(tmp_path: Path):
    method = SFT | {"save_steps": 2, "logging_steps": 2}
    assert "set method.logging_steps: 1" in told(tmp_path, method, replay={"type": "recap", "window": 1})
    assert stages(tmp_path, SFT | {"logging_steps": 2}, replay={"type": "recap", "window": 1})


def test_a_task_whose_data_are_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(get_task("which-row"), "samples", lambda *_: Path("gone.jsonl").read_text())
    with pytest.raises(ValueError, match=r"task which-row, split train: .*gone\.jsonl"):
        stages(tmp_path, GRPO, replay={"type": "static", "tasks": ["exists"], "weights": {"exists": 0.5}})


@pytest.mark.parametrize("schedule", ["joint", "single"])
def test_only_a_sequence_has_finished_tasks(tmp_path: Path, schedule: str):
    assert "no finished tasks" in told(tmp_path, SFT, schedule=schedule, replay={"type": "buffer"})


@pytest.mark.parametrize(
    ("replay", "share"),
    [({"ratio": 0.25}, 1 / 4), ({"sampler": "uniform"}, 1 / 2), ({"sampler": "proportional"}, 6 / (6 + 24))],
)
def test_what_a_filter_has_left_is_mixed_with_what_is_replayed(tmp_path: Path, replay: dict[str, Any], share: float):
    _, stage, _ = stages(
        tmp_path, SFT | {"max_steps": 6}, replay={"type": "buffer", "budget": 6} | replay, filter="rif"
    )
    left = own_samples(stage)[1::4]
    data = stage_data(stage, left)
    read = [data.samples[position] for position in data.order]
    assert len(read) == 6 * 16
    assert {one.id for one in read if one.task == "which-row"} == {one.id for one in left}
    again = [one.id for one in read if one.task == "count-colour"]
    assert len(set(again)) == 6
    assert len(again) == pytest.approx(share * len(read), abs=6)  # of permutations of 30 the last is cut off


def test_a_window_that_never_fills_would_leave_every_weight_at_one(tmp_path: Path):
    # 96 samples in batches of 8 prompts: 12 steps, in the second stage 6 for each of two sources.
    assert "set 3 or less" in told(tmp_path, GRPO, replay={"type": "recap", "window": 4})
    for replay in ({"window": 3}, {"window": 6, "sampler": "ratio"}, {"window": 9, "mode": "released"}):
        assert stages(tmp_path, GRPO, replay={"type": "recap"} | replay)
    assert "window" in told(tmp_path, GRPO, replay={"type": "recap", "window": 7, "sampler": "ratio"})


def test_the_papers_second_version_has_no_alpha(tmp_path: Path):
    assert "set mode: paper-v1" in told(tmp_path, GRPO, replay={"type": "recap", "window": 1, "alpha": 0.5})
    assert stages(tmp_path, GRPO, replay={"type": "recap", "mode": "paper-v1", "alpha": 0.5})
