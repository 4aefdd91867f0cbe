"""Merge at a stage's end, and plug-ins that survive an interruption, on the built-in architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file
from stages import Killed, die_at, digest, planned, rows, tensors

from cpt.methods.registry import Merge, Regulariser
from cpt.models.load import load_policy
from cpt.plan.stages import StagePlan
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.train.result import drop_checkpoints
from cpt.train.stage import train_stage

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("easily_rewarded")]
STEPS = {"max_steps": 3, "per_device_train_batch_size": 8, "learning_rate": 1e-2}
SFT = {"type": "sft"} | STEPS
GRPO = {"type": "grpo", "num_generations": 4, "max_completion_length": 6} | STEPS
LORA = {"type": "lora", "r": 2, "alpha": 4}
EXACT = {"rtol": 0.0, "atol": 2e-7}  # two roundings of float32 numbers of about 1


def two_stages(base: Path, method: dict[str, Any], merge: Any = None, tuning: Any = "full") -> list[StagePlan]:
    setting = None if merge is None else TypeAdapter(Merge).validate_python(merge)
    stages = planned(base, method, tasks=("read-digit", "count-colour"), tuning=tuning)
    return [replace(stage, merge=setting) for stage in stages]


def trained(stage: StagePlan, start: Path, out: Path) -> dict[str, torch.Tensor]:
    train_stage(stage, start_folder=start, out=StageDir(out))
    return tensors(out / "policy")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """By their names in memory."""
    return {name: value.detach() for name, value in load_policy(folder).named_parameters()}


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return all(ours[name].equal(theirs[name]) for name in theirs)


def norm(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    return float(sum((ours[name] - theirs[name]).double().square().sum() for name in ours)) ** 0.5


@pytest.mark.parametrize("tuning", ["full", LORA])
def test_the_policy_is_the_mean_of_start_and_end(base: Path, tmp_path: Path, tuning: Any):
    plain, _ = two_stages(base, SFT, tuning=tuning)
    first, second = two_stages(base, SFT, {"type": "linear", "weight": 0.5}, tuning)
    start, end = tensors(base), trained(plain, base, tmp_path / "plain")
    result = train_stage(first, start_folder=base, out=StageDir(tmp_path / "1"))
    mean = tensors(result.policy)
    for name in start:
        torch.testing.assert_close(mean[name], (start[name] + end[name]) / 2, **EXACT)
    assert norm(mean, end) > 0
    assert result.merge == {
        "type": "linear",
        "distance_trained": pytest.approx(norm(end, start), rel=1e-4),
        "distance_merged": pytest.approx(norm(end, start) / 2, rel=1e-4),
    }
    # A second stage that is undone ends exactly where it started.
    undone = replace(second, merge=second.merge.model_copy(update={"weight": 0.0}))
    assert same(trained(undone, result.policy, tmp_path / "2"), mean)
    kept = replace(second, merge=second.merge.model_copy(update={"weight": 1.0}))
    plainly = trained(replace(second, merge=None), result.policy, tmp_path / "3")
    assert same(trained(kept, result.policy, tmp_path / "4"), plainly)


def test_the_base_model_and_depth_count(base: Path, tmp_path: Path):
    first, second = two_stages(base, SFT)
    start, end = trained(first, base, tmp_path / "1"), trained(second, tmp_path / "1" / "policy", tmp_path / "2")
    origin = tensors(base)

    def merged(**settings: Any) -> dict[str, torch.Tensor]:
        stage = replace(second, merge=TypeAdapter(Merge).validate_python(settings))
        return trained(stage, tmp_path / "1" / "policy", tmp_path / settings["type"])

    assert same(merged(type="linear", weight=0.0, reference="base"), origin)
    found = merged(type="lines", alpha=0.25, beta=0.5)
    for name, scale in (
        ("model.embed_tokens.weight", 0.25),
        ("model.layers.0.mlp.up_proj.weight", 0.25),
        ("model.layers.3.mlp.up_proj.weight", 0.75),
        ("visual.blocks.1.attn.qkv.weight", 0.5),  # of three
        ("visual.merger.mlp.0.weight", 0.25),  # in no block
    ):
        expected = start[name] + scale * (end[name] - start[name])
        torch.testing.assert_close(found[name], expected, **EXACT)
    arc = merged(type="slerp", weight=0.5)
    name = "model.layers.2.mlp.up_proj.weight"
    a, b, c = (weights[name].double() - origin[name] for weights in (start, end, arc))
    angle = torch.arccos((a * b).sum() / (a.norm() * b.norm()))
    assert 0.1 < angle < 3.0
    torch.testing.assert_close(c, torch.sin(angle / 2) / torch.sin(angle) * (a + b), rtol=0.0, atol=1e-6)


def test_the_policy_is_the_average_over_the_steps(base: Path, tmp_path: Path):
    saving = SFT | {"save_steps": 1, "save_total_limit": 3}
    plain, _ = two_stages(base, saving)
    trained(replace(plain, merge=None), base, tmp_path / "plain")
    checkpoints = [tmp_path / "plain" / "checkpoints" / f"checkpoint-{i}" for i in (1, 2)]
    steps = [load_file(folder / "trained.safetensors") for folder in checkpoints]  # by their names in memory
    steps.append(weights(tmp_path / "plain" / "policy"))
    averaging, _ = two_stages(base, SFT, {"type": "ema", "decay": 0.5})
    trained(averaging, base, tmp_path / "ema")
    start, found = (weights(folder) for folder in (base, tmp_path / "ema" / "policy"))
    for name, value in start.items():
        weighted = value / 8 + steps[0][name] / 8 + steps[1][name] / 4 + steps[2][name] / 2
        torch.testing.assert_close(found[name], weighted, **EXACT)
    assert norm(found, steps[2]) > 0


def test_a_continued_adapter_is_itself_the_average(base: Path, tmp_path: Path):
    tuning = LORA | {"between_stages": "continue"}
    plain, averaging = (two_stages(base, SFT, merge, tuning)[0] for merge in (None, {"type": "ema", "decay": 0.5}))
    end, found = (trained(stage, base, tmp_path / str(i)) for i, stage in enumerate((plain, averaging)))
    assert norm(found, end) > 0
    adapters = [load_file(tmp_path / str(i) / "adapter" / "adapter_model.safetensors") for i in (0, 1)]
    down, up = (
        f"base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_{kind}.weight" for kind in ("A", "B")
    )
    name = "model.layers.0.self_attn.q_proj.weight"
    for adapter, weights in zip(adapters, (end, found), strict=True):
        added = 2 * adapter[up] @ adapter[down]  # alpha / r
        torch.testing.assert_close(weights[name], tensors(base)[name] + added, **EXACT)
    # B starts at zero and lags behind: the average has moved less.
    assert 0 < adapters[1][up].norm() < adapters[0][up].norm()


@pytest.mark.parametrize("method", [SFT, GRPO], ids=["sft", "grpo"])
def test_plugins_go_on_where_a_checkpoint_left_them(base: Path, pool: LocalPool, tmp_path: Path, method: Any):
    """The second stage of an arm with EWC, whose policy is averaged, ends bit by bit where an undisturbed one ends."""
    ewc = (TypeAdapter(Regulariser).validate_python({"type": "ewc", "coefficient": 10.0, "samples": 2}),)
    saving = method | {"max_steps": 4, "save_steps": 1, "save_total_limit": 3}
    averaging = {"type": "ema", "decay": 0.7}
    first, second = (replace(stage, regularisers=ewc) for stage in two_stages(base, saving, averaging))
    start = train_stage(first, start_folder=base, out=StageDir(tmp_path / "1"), pool=pool).policy
    whole, killed = StageDir(tmp_path / "whole"), StageDir(tmp_path / "killed")
    train_stage(second, start_folder=start, out=whole, pool=pool)
    with pytest.raises(Killed):
        train_stage(second, start_folder=start, out=killed, pool=pool, on_step=die_at(4))
    (killed.checkpoints / "checkpoint-3" / "plugins" / "merge" / "average.safetensors").unlink()
    result = train_stage(second, start_folder=start, out=killed, pool=pool)
    assert result.resumed_from == 2
    assert "checkpoint-3/plugins/merge/average.safetensors is missing" in result.notes[0]
    assert digest(killed.policy) == digest(whole.policy)
    assert rows(killed) == rows(whole)
    assert all(row["plugin/ewc/penalty"] > 0 for row in rows(whole)[1:])


@pytest.mark.parametrize("method", [SFT, GRPO], ids=["sft", "grpo"])
def test_several_trainings_from_one_start_are_merged(base: Path, pool: LocalPool, tmp_path: Path, method: Any):
    saving = method | {"max_steps": 2, "save_steps": 1}
    l2 = (TypeAdapter(Regulariser).validate_python({"type": "l2"}),)
    plain, stage = (replace(two_stages(base, saving)[0], regularisers=l2) for _ in range(2))
    stage = replace(stage, steps=4, merge=TypeAdapter(Merge).validate_python({"type": "warp", "interpolation": 0.5}))
    whole, killed = StageDir(tmp_path / "whole"), StageDir(tmp_path / "killed")
    result = train_stage(stage, start_folder=base, out=whole, pool=pool)
    assert (result.steps, result.resumed_from, result.merge["type"]) == (4, 0, "warp")
    assert [row["step"] for row in rows(whole)] == [1, 2, 3, 4]
    # The first is what the stage would be alone; the second another one, from the same start.
    alone = StageDir(tmp_path / "alone")
    train_stage(plain, start_folder=base, out=alone, pool=pool)
    first = tensors(whole.root / "trainings" / "0" / "policy")
    assert same(first, tensors(alone.policy))
    assert rows(whole)[:2] == rows(alone)
    assert rows(whole)[2]["loss"] != rows(whole)[0]["loss"]
    again = StageDir(tmp_path / "again")
    train_stage(replace(plain, run=1), start_folder=base, out=again, pool=pool)
    name = "model.layers.0.mlp.up_proj.weight"
    origin, found, *ends = (tensors(folder)[name] for folder in (base, whole.policy, alone.policy, again.policy))
    a, b = (end.double() - origin for end in ends)
    angle = torch.arccos((a * b).sum() / (a.norm() * b.norm()))
    assert 0.1 < angle < 3.0
    arc = torch.sin(angle / 2) / torch.sin(angle) * (a + b)
    torch.testing.assert_close(found.double() - origin, arc / 2, rtol=0.0, atol=1e-6)
    # Interrupted in the second training, the first is not made again.
    with pytest.raises(Killed):
        train_stage(stage, start_folder=base, out=killed, pool=pool, on_step=die_at(4))
    assert train_stage(stage, start_folder=base, out=killed, pool=pool).resumed_from == 3
    assert digest(killed.policy) == digest(whole.policy)
    assert rows(killed) == rows(whole)
    drop_checkpoints(killed)
    assert not (killed.root / "trainings").exists()
