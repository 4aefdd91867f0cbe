"""Drift measured on a finished stage: zero for the base model itself, positive once trained, the same every time."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stages import planned

from cpt.evaluate.drift import DriftRow, read_drift
from cpt.evaluate.evaluators.base import Subject
from cpt.evaluate.evaluators.drift import DriftEvaluator, measure_drift
from cpt.models.load import load_policy, load_processor
from cpt.plan.stages import DriftPlan, StagePlan
from cpt.rollout.encode import encode_prompts
from cpt.rollout.engine import banned_tokens, request_seed
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.tasks import get_task
from cpt.train.stage import train_stage
from cpt.types import GenerationRequest, SamplingParams

pytestmark = pytest.mark.smoke
SFT = {"type": "sft", "learning_rate": 1e-4, "max_steps": 3, "per_device_train_batch_size": 8}
GROUPS = {"new": ("which-row",), "prior": ("count-colour",), "general": ("arithmetic",)}  # the last has no pictures
SAMPLES = {"which-row": 6, "count-colour": 5, "arithmetic": 4}


@pytest.fixture(scope="module")
def base(shipped: Path, trainers: None) -> Path:
    """The built-in model, whose answers end; random weights would say everything alike."""
    return shipped


def second_stage(base: Path, **settings: Any) -> StagePlan:
    stage = planned(base, SFT, tasks=("count-colour", "which-row"), prompt="think", **settings)[1]
    evaluation = replace(stage.evaluation, limits=dict.fromkeys(SAMPLES, stage.evaluation.max_tokens))
    return replace(stage, drift=DriftPlan(GROUPS, SAMPLES), evaluation=evaluation)


@pytest.fixture(scope="module")
def trained(base: Path, pool: LocalPool, tmp_path_factory: pytest.TempPathFactory) -> tuple[StagePlan, StageDir]:
    stage, out = second_stage(base), StageDir(tmp_path_factory.mktemp("stage"))
    train_stage(stage, start_folder=base, out=out, pool=pool)
    assert not out.drift.exists()  # which is measured by whoever asks for it
    assert DriftEvaluator().run(Subject.of_stage(stage, out), pool) == {"prompts": sum(SAMPLES.values())}
    return stage, out


def per_token(row: DriftRow) -> tuple[float, float]:
    return row.forward / row.forward_tokens, row.reverse / row.reverse_tokens


def test_the_base_model_has_not_moved_from_itself(base: Path, pool: LocalPool, tmp_path: Path):
    rows = measure_drift(Subject(second_stage(base), str(base), StageDir(tmp_path)), pool)
    assert len(rows) == sum(SAMPLES.values())
    assert all(abs(value) <= 1e-6 for row in rows for value in per_token(row))
    assert all(row.forward_tokens == row.reverse_tokens for row in rows)  # one stream, one policy, one completion


def test_a_trained_policy_has_moved_both_ways(trained: tuple[StagePlan, StageDir]):
    rows = read_drift(trained[1].drift)
    assert {(row.group, row.task) for row in rows} == {(group, name) for group, (name,) in GROUPS.items()}
    assert [row.sample_id for row in rows if row.group == "new"] == [f"which-row/test/0/{i}" for i in range(6)]
    limit = trained[0].evaluation.max_tokens
    for row in rows:
        assert 0 < row.forward < math.inf and 0 < row.reverse < math.inf
        assert 1 <= row.forward_tokens <= limit and 1 <= row.reverse_tokens <= limit


def test_measured_again_it_is_the_same(trained: tuple[StagePlan, StageDir], pool: LocalPool):
    stage, out = trained
    assert measure_drift(Subject.of_stage(stage, out), pool) == read_drift(out.drift)


def test_how_prompts_share_a_batch_does_not_matter(
    trained: tuple[StagePlan, StageDir], pool: LocalPool, monkeypatch: pytest.MonkeyPatch
):
    """Prompts one by one, without padding, give what whole batches give, up to rounding in float32."""
    monkeypatch.setattr("cpt.evaluate.evaluators.drift._TOKENS", 1)
    stage, out = trained
    for alone, together in zip(measure_drift(Subject.of_stage(stage, out), pool), read_drift(out.drift), strict=True):
        assert alone.sample_id == together.sample_id
        assert per_token(alone) == pytest.approx(per_token(together), abs=1e-5, rel=1e-3)


def test_one_prompt_by_the_plainest_way(trained: tuple[StagePlan, StageDir], base: Path, pool: LocalPool):
    """One row, one forward pass over prompt and completion, the banned words' columns cut out, in float64."""
    stage, out = trained
    task = get_task("which-row")
    sample = task.samples("test", 1)[0]
    (ids,) = encode_prompts(load_processor(base), [task.messages(sample, "think")], [sample.images])
    request = GenerationRequest(ids, sample.images, request_seed("drift", stage.seed, sample.id))
    version = pool.push_folder(out.policy, "plain")
    ((said,),) = pool.generate([request], SamplingParams(stage.evaluation.max_tokens, 1.0), version=version)
    whole = torch.tensor([ids + said.token_ids])
    logps = []
    for folder in (base, out.policy):
        model: Any = load_policy(folder)
        pictures = load_processor(base).image_processor(images=list(sample.images), return_tensors="pt")
        kinds = (whole == model.config.image_token_id).long()
        with torch.no_grad():
            logits = model(input_ids=whole, mm_token_type_ids=kinds, **pictures).logits[0, len(ids) - 1 : -1]
        allowed = [i for i in range(logits.shape[-1]) if i not in banned_tokens(model.config)]
        logps.append(logits[:, allowed].double().log_softmax(-1))
    theirs, ours = logps
    row = read_drift(out.drift)[0]
    assert (row.sample_id, row.reverse_tokens) == (sample.id, len(said.token_ids))
    assert row.reverse == pytest.approx(float((ours.exp() * (ours - theirs)).sum()), rel=1e-3)


def test_adapters_are_measured_merged(base: Path, pool: LocalPool, tmp_path: Path):
    stage, out = second_stage(base, tuning={"type": "lora", "r": 4}), StageDir(tmp_path)
    train_stage(stage, start_folder=base, out=out, pool=pool)
    rows = measure_drift(Subject.of_stage(stage, out), pool)
    assert all(0 < row.forward < math.inf for row in rows)
