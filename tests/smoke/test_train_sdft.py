"""SDFT on the built-in architecture: what the teacher is asked, what is minimised, and one update however it is cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stages import Killed, die_at, difference, digest, moved, planned, rows, tensors

from cpt.methods.plugin import Batch
from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan
from cpt.recipe import Recipe
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.tasks import get_task
from cpt.train.stage import train_stage

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("easily_rewarded")]
ROWS = 8
SHARED = {"type": "sdft", "max_completion_length": 6, "max_steps": 3, "per_device_train_batch_size": ROWS}
SGD = {"learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 1e9}
DIVERGENCE = "plugin/sdft/divergence"


def stage_of(base: Path, tuning: Any = "full", **settings: Any) -> StagePlan:
    return planned(base, SHARED | settings, samples=64, tuning=tuning)[0]


def run(stage: StagePlan, pool: LocalPool, out: Path) -> StageDir:
    folder = StageDir(out)
    train_stage(stage, start_folder=stage.model.path, out=folder, pool=pool)
    return folder


@pytest.fixture(scope="module")
def fixed(
    shipped: Path, pool: LocalPool, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StageDir, Batch, list[Any]]:
    """Ten steps against the start of the stage on four questions; the first batch, and its samples by row."""
    seen: list[Any] = []
    settings = {"max_steps": 10, "learning_rate": 1e-3, "teacher": "stage_start", "num_generations": 2}
    stage = replace(stage_of(shipped, **settings), data_samples=4)
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, lambda rows, batch: seen.append((batch, [row["sample"] for row in rows])))
        out = run(stage, pool, tmp_path_factory.mktemp("fixed"))
    return out, *seen[0]


def watch(patch: pytest.MonkeyPatch, told: Callable[[Any, Batch], None]) -> None:
    """Tell of the rows of every batch of rollouts, and of what the plug-ins are given of it."""
    from cpt.train.batch import PolicyBatch
    from cpt.train.scoring import as_model_inputs
    from cpt.train.step import StageGRPOTrainer

    generate = StageGRPOTrainer._generate_and_score_completions

    def watched(self: Any, inputs: Any) -> Any:
        columns = generate(self, inputs)
        told(inputs, as_model_inputs(PolicyBatch(**columns)))
        return columns

    patch.setattr(StageGRPOTrainer, "_generate_and_score_completions", watched)


def test_the_teacher_is_asked_the_same_with_the_answer_and_the_pictures(shipped: Path, fixed: Any):
    from cpt.models.load import load_processor

    _, batch, samples = fixed
    tokenizer = load_processor(shipped).tokenizer
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert len(set(map(id, samples))) == 4
    for row, sample in enumerate(samples):
        both = (batch, batch.teacher)
        said = [one.labels[row][one.labels[row] != -100].tolist() for one in both]
        assert said[0] == said[1] and said[0]
        prompts = [int(one.predicting.any(0).long().argmax()) + 1 for one in both]  # columns
        own, told = (one.inputs["input_ids"][row][:length] for one, length in zip(both, prompts, strict=True))
        asked, shown = map(tokenizer.decode, (own, told))
        answer = f"<answer> {sample.gold[0]} </answer>"
        assert sample.question in asked and sample.question in shown
        assert answer in shown and answer not in asked
        assert (own == image).sum() == (told == image).sum() == 9
    assert batch.teacher.inputs["pixel_values"] is batch.inputs["pixel_values"]


def divergence(student: Any, teacher: Any, processor: Any, batch: Batch, samples: list[Any]) -> float:
    """Mean over rows of the mean over tokens of KL(teacher ‖ student), row by row and without any padding."""
    total = 0.0
    for row, sample in enumerate(samples):
        (said,) = batch.labels[row][batch.labels[row] != -100][None].tolist()
        logps = []
        for model, whose in ((student, batch), (teacher, batch.teacher)):
            real = whose.inputs["input_ids"][row][whose.inputs["attention_mask"][row].bool()]
            pixels = processor.image_processor(images=list(sample.images), return_tensors="pt")
            types = (real == model.config.image_token_id).long()[None]
            with torch.no_grad():
                logits = model(input_ids=real[None], mm_token_type_ids=types, **pixels).logits[0]
            logps.append(logits[-len(said) - 1 : -1].log_softmax(-1))
        ours, theirs = logps
        total += float((theirs.exp() * (theirs - ours)).sum(-1).mean())
    return total / len(samples)


def test_the_divergence_on_a_batch_is_what_is_logged_and_what_falls(shipped: Path, fixed: Any):
    from cpt.models.load import load_policy, load_processor
    from cpt.rollout.sampling import ban_tokens

    out, batch, samples = fixed
    processor = load_processor(shipped)
    start, end = (load_policy(folder).eval() for folder in (shipped, out.policy))
    for model in (start, end):
        ban_tokens(model)
    before, after = (divergence(model, start, processor, batch, samples) for model in (start, end))
    first = rows(out)[0]
    assert first[DIVERGENCE] == pytest.approx(before, rel=1e-4)
    assert first["loss"] == pytest.approx(before, rel=1e-4)
    assert after < 0.5 * before


def test_what_is_logged(shipped: Path, fixed: Any):
    out, _, _ = fixed
    for row in rows(out):
        assert 0 <= row["logprob_gap"] < 1e-4
        assert row["entropy"] > 0 and row["grad_norm"] > 0
        assert "reward" in row and "true/strict" in row
        assert "frac_zero_std" not in row  # all groups are learned from
    assert len(moved(shipped, out.policy)) > 50


@pytest.mark.parametrize("settings", [{"decay": 0.5}, {"teacher": "live", "distillation_alpha": 0.5}], ids=str)
def test_four_quarters_are_one_whole(base: Path, pool: LocalPool, tmp_path: Path, settings: Any):
    whole = run(stage_of(base, **SGD, **settings), pool, tmp_path / "whole")
    cut = {"per_device_train_batch_size": ROWS // 4, "gradient_accumulation_steps": 4}
    quarters = run(stage_of(base, **SGD, **settings, **cut), pool, tmp_path / "quarters")
    assert difference(whole, quarters) < 2e-6  # float32, sums in another order
    assert len(moved(base, whole.policy)) > 50
    for one, other in zip(rows(whole), rows(quarters), strict=True):
        assert one[DIVERGENCE] == pytest.approx(other[DIVERGENCE], abs=1e-5)


@pytest.mark.parametrize("tuning", ["full", {"type": "lora", "r": 2}], ids=["full", "lora"])
def test_a_killed_stage_resumes_with_its_teacher(base: Path, pool: LocalPool, tmp_path: Path, tuning: Any):
    stage = stage_of(base, tuning, max_steps=4, save_steps=1, save_total_limit=4, learning_rate=1e-2, decay=0.7)
    whole, killed = run(stage, pool, tmp_path / "whole"), StageDir(tmp_path / "killed")
    with pytest.raises(Killed):
        train_stage(stage, start_folder=base, out=killed, pool=pool, on_step=die_at(4))
    averages = [
        load_file(killed.checkpoints / f"checkpoint-{step}" / "plugins" / "sdft" / "average.safetensors")
        for step in (1, 2)
    ]
    assert averages[0].keys() == averages[1].keys() and averages[0]
    assert all(not averages[0][name].equal(averages[1][name]) for name in averages[0] if "layers.0.mlp" in name)
    (killed.checkpoints / "checkpoint-3" / "plugins" / "sdft" / "average.safetensors").unlink()
    result = train_stage(stage, start_folder=base, out=killed, pool=pool)
    assert result.resumed_from == 2
    assert "plugins/sdft/average.safetensors is missing" in result.notes[0]
    assert digest(killed.policy) == digest(whole.policy)
    assert rows(killed) == rows(whole)


def test_the_teachers_average_by_hand(base: Path, pool: LocalPool, tmp_path: Path):
    stage = stage_of(base, max_steps=3, save_steps=1, save_total_limit=3, learning_rate=1e-2, decay=0.5)
    out = run(stage, pool, tmp_path)
    first, second = (out.checkpoints / f"checkpoint-{step}" for step in (1, 2))
    average = load_file(second / "plugins" / "sdft" / "average.safetensors")
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    saved = "model.layers.0.mlp.up_proj.weight"
    first, second = (load_file(folder / "trained.safetensors") for folder in (first, second))  # by names in memory
    expected = tensors(base)[saved] / 4 + first[name] / 4 + second[name] / 2
    torch.testing.assert_close(average[name], expected, rtol=0.0, atol=2e-7)


def test_replayed_questions_are_shown_with_their_own_answers(
    base: Path, pool: LocalPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With and without pictures, in micro-batches, beside a KL term and EWC."""
    from cpt.models.load import load_processor

    tokenizer, shown = load_processor(base).tokenizer, []
    watch(monkeypatch, lambda _, batch: shown.extend(tokenizer.batch_decode(batch.teacher.inputs["input_ids"])))
    recipe = {
        "version": 1,
        "name": "test",
        "model": {"name_or_path": str(base)},
        "tasks": ["count-colour", "parity"],
        "data": {"samples": 16},
        "drift": {"samples": 0},
        "arms": {
            "arm": {
                "method": SHARED | {"max_steps": 1, "gradient_accumulation_steps": 2},
                "replay": {"type": "buffer", "tasks": ["arithmetic"], "samples": 8, "ratio": 0.5},
                "kl": {"coefficient": 0.1},
                "regularisers": [{"type": "l2"}],
            }
        },
    }
    (first, _) = make_plan(Recipe.model_validate(recipe)).stages
    (row,) = rows(run(first, pool, tmp_path))
    assert row[DIVERGENCE] > 0 and abs(row["plugin/kl/kl"]) < 1e-6
    sums = [text for text in shown if "<|image_pad|>" not in text]
    assert len(shown) == 2 * ROWS and len(sums) == ROWS
    questions = {one.question: one.gold[0] for one in get_task("arithmetic").samples("train", 8)}
    for text in sums:
        (answer,) = [gold for question, gold in questions.items() if question.removesuffix(" ?") in text]
        assert f"<answer> {answer} </answer>" in text
