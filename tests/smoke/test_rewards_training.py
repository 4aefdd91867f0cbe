"""GRPO rewarded as a recipe says: what reaches the reward, what is logged, and rows that have none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from stages import digest, planned, rows

from cpt.plan.stages import StagePlan
from cpt.recipe import RewardSpec
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.train.stage import train_stage

pytestmark = pytest.mark.smoke
GRPO = {
    "type": "grpo", "learning_rate": 1e-3, "max_steps": 1, "per_device_train_batch_size": 8, "num_generations": 4,
    "max_completion_length": 6,
}  # fmt: skip
SPREAD = {"type": "python", "file": "spread.py", "name": "spread", "weight": 0.5}
SPREAD_SOURCE = "def spread(completion, **_): return len(completion) % 7 / 7\n"
# The third of every eight completions can't be scored.
FAILING_SOURCE = """
calls = 0
def spread(completion, **_):
    global calls
    calls += 1
    if calls % 8 == 3:
        raise KeyError("depth")
    return len(completion) % 7 / 7
"""


def stage_of(base: Path, *components: dict[str, Any]) -> StagePlan:
    (stage,) = planned(base, GRPO)
    return dataclasses.replace(stage, reward=RewardSpec.model_validate({"components": list(components)}))


def test_a_composite_with_a_users_function(base: Path, pool: LocalPool, tmp_path: Path):
    others = [
        {"type": "accuracy", "weight": 0.2, "requires": "format"},
        {"type": "format", "weight": 0.1},
        {"type": "truncation", "weight": 0.1},
        {"type": "length", "weight": 0.1},
    ]
    stage = stage_of(base, SPREAD | {"source": SPREAD_SOURCE}, *others)
    out = StageDir(tmp_path)
    train_stage(stage, start_folder=base, out=out, pool=pool)
    (row,) = rows(out)
    parts = {"spread": 0.5, "accuracy": 0.2, "format": 0.1, "truncation": 0.1, "length": 0.1}
    assert row["reward"] == pytest.approx(sum(weight * row[f"reward/{part}"] for part, weight in parts.items()))
    assert row["reward/truncation"] == pytest.approx(1 - row["frac_truncated"])
    assert row["reward/length"] == pytest.approx(1 - row["completion_length"] / 6)
    assert 0 < row["reward/spread"] < 1
    assert row["reward/errors"] == 0
    assert sum(value for name, value in row.items() if name.startswith("answers/")) == pytest.approx(1)
    assert digest(out.policy) != digest(base)


def test_a_row_without_a_reward_has_no_advantage(base: Path, pool: LocalPool, tmp_path: Path, monkeypatch: Any):
    import torch

    from cpt.train import step

    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    estimated = step.estimated

    def watched(estimator: Any, rewards: Any, *args: Any) -> Any:
        advantages, metrics = estimated(estimator, rewards, *args)
        seen.append((rewards.rewards_B, advantages))
        return advantages, metrics

    monkeypatch.setattr(step, "estimated", watched)
    out = StageDir(tmp_path)
    train_stage(stage_of(base, SPREAD | {"source": FAILING_SOURCE}), start_folder=base, out=out, pool=pool)
    ((earned, advantages),) = seen
    assert earned.isnan().nonzero().flatten().tolist() == [2]
    for group in (slice(0, 4), slice(4, 8)):
        valid = earned[group][~earned[group].isnan()]
        expected = (earned[group] - valid.mean()) / (valid.std() + 1e-4)
        assert torch.allclose(advantages[group], expected.nan_to_num(0.0), atol=1e-5)
    (row,) = rows(out)
    assert row["reward"] == pytest.approx(earned.nanmean().item())
    assert (row["reward/errors"], row["answers/error"]) == (0.125, 0.125)


def test_a_reward_that_fails_often_ends_the_training(base: Path, pool: LocalPool, tmp_path: Path):
    source = "def spread(completion, *, meta, **_): return meta['depth']\n"
    with pytest.raises(
        ValueError, match=r"8 of 8 completions could not be scored, .* error: spread: KeyError: 'depth'"
    ):
        train_stage(stage_of(base, SPREAD | {"source": source}), start_folder=base, out=StageDir(tmp_path), pool=pool)
