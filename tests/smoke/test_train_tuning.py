"""A third kind of tuning, which nothing but its own file knows, through two stages of GRPO."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stages import Killed, die_at, digest, planned, rows
from toy_tuning import FILE, Scales

from cpt.models.load import load_policy
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.train.stage import train_stage

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("easily_rewarded")]
GRPO = {
    "type": "grpo", "learning_rate": 1e-2, "max_steps": 3, "per_device_train_batch_size": 8, "num_generations": 4,
    "max_completion_length": 6, "save_steps": 1,
}  # fmt: skip


def test_a_third_kind_trains_resumes_and_goes_on(base: Path, pool: LocalPool, tmp_path: Path):
    """Every push is compared with the trainer's log-probabilities, and so is the policy's folder at the end."""
    plan = planned(base, GRPO, tasks=("count-colour", "read-digit"))
    first, second = (replace(stage, tuning=Scales()) for stage in plan)
    outs = whole, again = StageDir(tmp_path / "1"), StageDir(tmp_path / "2")
    killed = StageDir(tmp_path / "killed")
    train_stage(first, start_folder=base, out=whole, pool=pool)
    with pytest.raises(Killed):
        train_stage(first, start_folder=base, out=killed, pool=pool, on_step=die_at(3))
    (checkpoint,) = killed.checkpoints.glob("checkpoint-2")
    assert load_file(checkpoint / "trained.safetensors").keys() == {
        f"{name}.scale" for name in load_file(whole.root / "adapter" / FILE)
    }
    assert train_stage(first, start_folder=base, out=killed, pool=pool).resumed_from == 2
    assert (digest(killed.policy), rows(killed)) == (digest(whole.policy), rows(whole))
    train_stage(second, start_folder=whole.policy, out=again, pool=pool)
    scales = [load_file(out.root / "adapter" / FILE) for out in outs]
    assert all(not value.equal(scales[0][name]) for name, value in scales[1].items())
    # The factors of the second stage, on the base model's weights: they went on from those of the first.
    start, end = (dict(load_policy(folder).named_parameters()) for folder in (base, again.policy))
    for name, value in start.items():
        scale = scales[1].get(name.rpartition(".")[0], torch.ones(1))
        assert end[name].equal(value * (scale[:, None] if value.dim() == 2 else scale))
    for name, value in scales[1].items():
        assert (value - scales[0][name]).abs().max() < 3 * GRPO["learning_rate"] * 1.1  # Adam's steps, from there on
