"""Several sources in one stage, weighed or not, in SFT and GRPO on the built-in architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from stages import Killed, die_at, difference, digest, planned, rows, trained

from cpt.methods.kl import KL
from cpt.methods.registry import AnyReplay, Replay
from cpt.plan.make import make_plan
from cpt.plan.stages import Source, StagePlan
from cpt.recipe import Recipe
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir

pytestmark = pytest.mark.smoke
SFT = {"type": "sft", "learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 1e9, "max_steps": 3}
GRPO = {"type": "grpo", "num_generations": 2, "max_completion_length": 6, "max_steps": 3, "learning_rate": 1e-3}


def second_stage(base: Path, method: dict[str, Any], replay: dict[str, Any] | None, parts: int = 1) -> StagePlan:
    """Stage 2 of read-digit and count-colour in batches of 8 rows, which may replay read-digit and arithmetic."""
    sizes = {"per_device_train_batch_size": 8 // parts, "gradient_accumulation_steps": parts}
    stage = planned(base, method | sizes, tasks=("read-strip", "count-colour"))[1]
    if replay is None:
        return stage
    setting: AnyReplay = TypeAdapter(Replay).validate_python(replay)
    return replace(stage, replay=setting, sources=(Source("read-strip", 24, finished=True), Source("arithmetic", 16)))


def test_equal_weights_are_no_weights(base: Path, tmp_path: Path):
    mixed = {"sampler": "ratio", "ratio": 0.5}
    plain = trained(second_stage(base, SFT, {"type": "buffer"} | mixed), base, tmp_path / "plain")
    ones = {"type": "static", "weights": {"count-colour": 1.0}} | mixed
    assert difference(plain, trained(second_stage(base, SFT, ones), base, tmp_path / "ones")) < 1e-7
    zero = {"type": "static", "weights": {"count-colour": 0.0}} | mixed
    assert difference(plain, trained(second_stage(base, SFT, zero), base, tmp_path / "zero")) > 1e-4
    assert {row["objective/count-colour/weight"] for row in rows(StageDir(tmp_path / "zero"))} == {0.0}


def test_weights_survive_the_cutting_of_a_batch(base: Path, tmp_path: Path):
    recap = {"type": "recap", "sampler": "proportional", "window": 1, "temperature": 0.1}
    whole = trained(second_stage(base, SFT, recap), base, tmp_path / "whole")
    quarters = trained(second_stage(base, SFT, recap, parts=4), base, tmp_path / "quarters")
    assert difference(whole, quarters) < 2e-6  # float32, sums in another order


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_recap_moves_the_weights_and_a_resumed_stage_finds_them_again(base: Path, tmp_path: Path, mode: str):
    recap = {"type": "recap", "sampler": "uniform", "mode": mode, "window": 1, "temperature": 0.5}
    stage = second_stage(base, SFT | {"max_steps": 9, "save_steps": 7, "learning_rate": 0.5}, recap)
    undisturbed = trained(stage, base, tmp_path / "undisturbed")
    with pytest.raises(Killed):
        trained(stage, base, tmp_path / "killed", on_step=die_at(8))
    resumed = trained(stage, base, tmp_path / "killed")
    assert rows(resumed) == rows(undisturbed)
    assert digest(resumed.policy) == digest(undisturbed.policy)
    last = rows(resumed)[-1]
    weights = [last[f"objective/{name}/weight"] for name in ("count-colour", "read-strip", "arithmetic")]
    assert sum(weights) == pytest.approx(3.0)
    assert max(weights) > 1.05


@pytest.mark.parametrize("weigh", ["rewards", "advantages"])
def test_recap_weighs_the_components_of_every_source(base: Path, pool: LocalPool, tmp_path: Path, weigh: str):
    recap = {"type": "recap", "sampler": "uniform", "weigh": weigh}
    out = trained(second_stage(base, GRPO | {"max_steps": 4}, recap), base, tmp_path, pool)
    first, *_, last = rows(out)
    sources = ("count-colour", "read-strip", "arithmetic")
    names = [f"objective/{source}/{part}" for source in sources for part in ("accuracy", "format")]
    assert [first[f"{name}/weight"] for name in names] == [1.0] * 6
    assert [f"{name}/value" in first for name in names] == [True, True, False, False, False, False]
    assert [f"{name}/value" in last for name in names] == [True, True, False, False, False, False]  # step 4: own again
    assert sum(last[f"{name}/weight"] for name in names) == pytest.approx(6.0)


def test_replayed_prompts_are_rewarded_by_their_own_task(base: Path, pool: LocalPool, tmp_path: Path):
    out = trained(second_stage(base, GRPO, {"type": "buffer", "ratio": 0.5}), base, tmp_path, pool)
    assert len(rows(out)) == 3
    assert all("reward/accuracy" in row for row in rows(out))


def test_a_joint_stage_has_the_samples_of_all_tasks(base: Path, tmp_path: Path):
    recipe = Recipe.model_validate(
        {
            "version": 1,
            "name": "test",
            "model": str(base),
            "tasks": ["count-colour", "read-strip"],
            "data": {"samples": 8},
            "arms": {"all": {"method": SFT | {"per_device_train_batch_size": 4}, "schedule": "joint"}},
        }
    )
    (stage,) = make_plan(recipe).stages
    assert (stage.index, stage.task, stage.steps, stage.data_samples) == (2, "joint", 6, 16)
    assert len(rows(trained(stage, base, tmp_path))) == 6


def test_rollouts_and_supervised_replay_are_weighed_together(base: Path, pool: LocalPool, tmp_path: Path):
    recap = {"type": "recap", "loss": "supervised", "ratio": 0.5, "sampler": "uniform", "window": 1}
    stage = second_stage(base, GRPO | {"max_steps": 5, "save_steps": 3}, recap)
    undisturbed = trained(stage, base, tmp_path / "undisturbed", pool)
    with pytest.raises(Killed):
        trained(stage, base, tmp_path / "killed", pool, on_step=die_at(4))
    resumed = rows(trained(stage, base, tmp_path / "killed", pool))
    assert resumed == rows(undisturbed)
    names = ["count-colour/accuracy", "count-colour/format", "read-strip", "arithmetic"]
    assert [resumed[0][f"objective/{name}/weight"] for name in names] == pytest.approx([1.0] * 4)
    assert any(abs(resumed[-1][f"objective/{name}/weight"] - 1) > 1e-3 for name in names)
    assert [f"objective/{name}/value" in resumed[0] for name in names] == [True, True, True, False]  # taking turns
    assert resumed[0]["objective/read-strip/value"] == resumed[0]["plugin/replay/nll"] > 1.0


@pytest.mark.parametrize("sizes", [{"num_iterations": 2}, {"steps_per_generation": 2}], ids=["again", "in parts"])
def test_weights_and_a_moving_reference_survive_a_kill_between_generations(
    base: Path, pool: LocalPool, tmp_path: Path, sizes: dict[str, Any]
):
    """RECAP with KL in the reward, two optimizer steps for every batch of rollouts."""
    method = GRPO | {"max_steps": 6, "save_steps": 3, "learning_rate": 0.01} | sizes  # saved after step 4
    plain = second_stage(base, method, {"type": "recap", "sampler": "uniform", "window": 1, "temperature": 0.5})
    setting = {"in": "reward", "estimator": "k1", "reference": "ema", "decay": 0.5, "coefficient": 0.5}
    stage = replace(plain, kl=KL.model_validate(setting))
    undisturbed = trained(stage, base, tmp_path / "undisturbed", pool)
    with pytest.raises(Killed):
        trained(stage, base, tmp_path / "killed", pool, on_step=die_at(5))
    resumed = trained(stage, base, tmp_path / "killed", pool)
    assert digest(resumed.policy) == digest(undisturbed.policy)
    ours, theirs = rows(resumed), rows(undisturbed)
    told = [[key for key in row if key.startswith(("objective/", "plugin/kl/"))] for row in theirs]
    assert [[row[key] for key in keys] for row, keys in zip(ours, told, strict=True)] == [
        [row[key] for key in keys] for row, keys in zip(theirs, told, strict=True)
    ]
    # Values come with every generation, at steps 1, 3 and 5: the own task, then each of the others.
    assert [bool([key for key in keys if key.endswith("/value")]) for keys in told] == [True, False] * 3
    assert theirs[0]["plugin/kl/kl"] == pytest.approx(0.0, abs=1e-6)
    assert theirs[2]["plugin/kl/kl"] != 0.0
