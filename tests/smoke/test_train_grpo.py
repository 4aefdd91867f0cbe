"""GRPO of a stage on the built-in architecture, with rollouts from an engine in this process."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from stages import Killed, die_at, digest, moved, planned, replace_tasks, rows

from cpt.models.load import load_policy, load_processor
from cpt.plan.stages import StagePlan
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.tasks import get_task
from cpt.train.stage import train_stage
from cpt.types import Sample
from rewards.score import Score

pytestmark = pytest.mark.smoke
GRPO = {
    "type": "grpo", "learning_rate": 1e-3, "max_steps": 2, "per_device_train_batch_size": 8, "num_generations": 4,
    "max_completion_length": 6,
}  # fmt: skip


class Mixed:
    """Questions with and without pictures in turn, and a reward that a model with random weights earns now and then."""

    name = "count-colour"

    def __init__(self) -> None:
        self.pictured, self.plain = get_task("count-colour"), get_task("arithmetic")
        self.messages, self.target = self.pictured.messages, self.pictured.target
        self.score = self.pictured.score

    def samples(self, split: Any, n: int, seed: int = 0) -> list[Sample]:
        found = [(self.pictured, self.plain)[i % 2].samples(split, n, seed)[i] for i in range(n)]
        return [dataclasses.replace(sample, task=self.name) for sample in found]

    def reward(self, sample: Sample, completion: str, prompt: Any) -> Score:
        parts = {"short": float(len(completion) % 3 == 0), "bonus": float(len(completion) % 2)}
        return Score((parts["short"] + parts["bonus"]) / 2, parts, completion)


@pytest.fixture(autouse=True)
def mixed_task(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_tasks(monkeypatch, lambda _: Mixed())


def stage_of(base: Path, method: dict[str, Any], **settings: Any) -> StagePlan:
    (stage,) = planned(base, method, **settings)
    return stage


def test_a_stage_with_and_without_pictures(base: Path, pool: LocalPool, tmp_path: Path):
    stage = stage_of(base, GRPO)
    out = StageDir(tmp_path)
    result = train_stage(stage, start_folder=base, out=out, pool=pool)
    assert result.steps == 2
    assert [row["step"] for row in rows(out)] == [1, 2]
    for row in rows(out):
        assert row["logprob_gap"] <= stage.max_logprob_gap
        assert row["reward"] == pytest.approx((row["reward/short"] + row["reward/bonus"]) / 2)
        assert 0 <= row["frac_zero_std"] <= 1
        assert 1 <= row["completion_length"] <= 6
        assert row["entropy"] > 0
    assert digest(out.policy) != digest(base)


@pytest.mark.parametrize(
    ("settings", "tuning"),
    [
        ({"beta": 0.04, "vllm_importance_sampling_correction": False}, "full"),
        ({"num_iterations": 2, "gradient_accumulation_steps": 2}, "full"),
        ({}, {"type": "lora", "r": 2, "alpha": 4}),
    ],
)
def test_a_killed_stage_resumes_to_the_same_weights(
    base: Path, pool: LocalPool, tmp_path: Path, settings: dict[str, Any], tuning: Any
):
    stage = stage_of(base, GRPO | {"max_steps": 4, "save_steps": 2} | settings, tuning=tuning)
    whole, killed = StageDir(tmp_path / "whole"), StageDir(tmp_path / "killed")
    train_stage(stage, start_folder=base, out=whole, pool=pool)
    with pytest.raises(Killed):
        train_stage(stage, start_folder=base, out=killed, pool=pool, on_step=die_at(3))
    assert train_stage(stage, start_folder=base, out=killed, pool=pool).resumed_from == 2
    assert digest(killed.policy) == digest(whole.policy)
    assert rows(killed) == rows(whole)


@pytest.mark.parametrize("between", ["merge", "continue"])
def test_the_reference_of_the_kl_term_is_the_stages_start(base: Path, pool: LocalPool, tmp_path: Path, between: str):
    tuning = {"type": "lora", "r": 2, "alpha": 4, "between_stages": between}
    plan = stage_of(base, GRPO | {"beta": 0.1, "learning_rate": 1e-2}, tuning=tuning, freeze=["vision_tower"])
    start = base
    for stage in (plan, dataclasses.replace(plan, index=2)):
        out = StageDir(tmp_path / str(stage.index))
        train_stage(stage, start_folder=start, out=out, pool=pool)
        first, second = rows(out)
        assert first["kl"] == pytest.approx(0, abs=1e-6)
        assert second["kl"] > 1e-6
        start = out.policy
    changed = moved(base, start)
    assert changed
    assert not any("visual.blocks" in name for name in changed)


def test_pictures_of_a_mixed_batch_are_what_the_processor_makes_of_all(base: Path):
    import torch

    from cpt.models.inputs import ModelInputs, joined
    from cpt.rollout.encode import fill_images, render_prompts

    task, processor = Mixed(), load_processor(base)
    samples = task.samples("train", 4)
    text = render_prompts(processor, [task.messages(sample, "direct") for sample in samples])
    images = [list(sample.images) for sample in samples]
    each = processor(images=images, text=text, padding=True, return_tensors="pt")
    rows = [prompt.pictures for prompt in ModelInputs(processor).read(text, images)]
    assert [bool(row.tensors) for row in rows] == [bool(own) for own in images]
    once = joined([row.tensors for row in rows])
    assert set(once) == {"pixel_values", "image_grid_thw"}
    assert all(torch.equal(each[name], once[name]) for name in once)
    assert fill_images(task.messages(samples[0], "direct"), samples[0].images)


def test_a_stage_can_start_from_a_stage(base: Path, pool: LocalPool, tmp_path: Path):
    stage = stage_of(base, GRPO | {"max_steps": 1})
    first, second = StageDir(tmp_path / "1"), StageDir(tmp_path / "2")
    train_stage(stage, start_folder=base, out=first, pool=pool)
    train_stage(stage, start_folder=first.policy, out=second, pool=pool)
    assert load_policy(second.policy).config.vision_config.patch_size == 8
