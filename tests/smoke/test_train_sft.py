"""Supervised fine-tuning of a stage on the built-in architecture: what is learnt, what is left, how it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from stages import Killed, die_at, digest, moved, on_task, planned, rows, tensors

from cpt.models.export import save_policy
from cpt.models.load import load_policy, load_processor
from cpt.models.locate import model_bytes
from cpt.plan.disk import policy_bytes
from cpt.store.folder import StageDir
from cpt.train.result import drop_checkpoints
from cpt.train.stage import train_stage

pytestmark = pytest.mark.smoke
SFT = {"type": "sft", "learning_rate": 1e-2, "max_steps": 4, "per_device_train_batch_size": 8}


def test_a_stage_learns_and_leaves_a_plain_folder(base: Path, tmp_path: Path):
    (stage,) = planned(base, SFT)
    out = StageDir(tmp_path / "stage")
    seen = []
    result = train_stage(stage, start_folder=base, out=out, on_step=seen.append)
    assert (result.steps, result.resumed_from, result.policy) == (4, 0, out.policy)
    assert [row["step"] for row in seen] == [row["step"] for row in rows(out)] == [1, 2, 3, 4]
    assert seen[-1]["loss"] < seen[0]["loss"]
    assert {"grad_norm", "learning_rate", "entropy", "token_accuracy", "tokens", "tokens_per_s"} <= set(seen[0])
    assert seen[0]["tokens"] > 8 * 20
    # Names as on the Hub, and everything but the weights as in the start folder.
    assert {k: v.shape for k, v in tensors(out.policy).items()} == {k: v.shape for k, v in tensors(base).items()}
    assert any(name.startswith("visual.") for name in tensors(out.policy))
    for file in ("config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"):
        assert (out.policy / file).read_text() == (base / file).read_text()
    assert digest(out.policy) != digest(base)
    load_policy(out.policy)
    load_processor(out.policy)
    drop_checkpoints(out)
    assert not out.checkpoints.exists()


@pytest.mark.parametrize("task", ["count-colour", "arithmetic"])
def test_the_loss_covers_the_whole_completion_and_nothing_else(base: Path, tmp_path: Path, task: str):
    from cpt.tasks import get_task
    from cpt.train.data import own_samples
    from cpt.train.sft import sft_trainer

    (stage,) = planned(base, SFT, prompt="think")
    stage = on_task(stage, task)
    processor = load_processor(base)
    sample = get_task(task).samples("train", 24)
    trainer = sft_trainer(stage, own_samples(stage), load_policy(base), processor, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    targets = {f"{get_task(task).target(s, 'policy', 'think')} <|im_end|>" for s in sample}
    for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True):
        assert processor.tokenizer.decode(labels[labels != -100]).strip() in targets
        assert processor.tokenizer.decode(ids).count("<|vision_start|>") == len(sample[0].images)
    assert ("pixel_values" in batch) is bool(sample[0].images)


@pytest.mark.parametrize(
    ("tuning", "settings"),
    [
        ("full", {"lr_scheduler_type": "cosine", "gradient_accumulation_steps": 2, "optim": "adamw_torch_fused"}),
        ({"type": "lora", "r": 2, "alpha": 4, "dropout": 0.2, "between_stages": "continue"}, {"weight_decay": 0.1}),
    ],
)
def test_a_killed_stage_resumes_to_the_same_weights(base: Path, tmp_path: Path, tuning: object, settings: dict):
    method = SFT | {"max_steps": 6, "save_steps": 2, "save_total_limit": 2, "per_device_train_batch_size": 4}
    (stage,) = planned(base, method | settings, tuning=tuning, samples=10)
    whole, killed = StageDir(tmp_path / "whole"), StageDir(tmp_path / "killed")
    train_stage(stage, start_folder=base, out=whole)
    with pytest.raises(Killed):
        train_stage(stage, start_folder=base, out=killed, on_step=die_at(5))
    damaged = killed.checkpoints / "checkpoint-4" / "optimizer.pt"
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))  # as a power cut may leave it
    result = train_stage(stage, start_folder=base, out=killed)
    assert result.resumed_from == 2
    assert "optimizer.pt is not what the run wrote" in result.notes[0]
    assert digest(killed.policy) == digest(whole.policy)
    assert rows(killed) == rows(whole)


@pytest.mark.parametrize("tuning", ["full", {"type": "lora", "r": 2, "alpha": 4}])
def test_frozen_parts_stay_as_they_are(base: Path, tmp_path: Path, tuning: object):
    (stage,) = planned(base, SFT | {"max_steps": 2}, tuning=tuning, freeze=["vision_tower", "projector"])
    out = StageDir(tmp_path)
    train_stage(stage, start_folder=base, out=out)
    changed = moved(base, out.policy)
    assert not any(name.startswith("visual.") for name in changed)
    assert "model.layers.0.self_attn.q_proj.weight" in changed


def test_the_projector_can_be_frozen_alone(base: Path, tmp_path: Path):
    (stage,) = planned(base, SFT | {"max_steps": 1}, freeze=["projector"])
    out = StageDir(tmp_path)
    train_stage(stage, start_folder=base, out=out)
    changed = moved(base, out.policy)
    assert not any(name.startswith("visual.merger.") for name in changed)
    assert any(name.startswith("visual.blocks.") for name in changed)


@pytest.mark.parametrize(
    ("tuning", "dtype"), [("full", torch.float32), ({"type": "lora", "r": 2, "alpha": 4}, torch.bfloat16)]
)
def test_a_bfloat16_model_s_policy_takes_the_room_that_is_planned(
    base: Path, tmp_path: Path, tuning: object, dtype: torch.dtype
):
    model, out = tmp_path / "model", StageDir(tmp_path / "stage")
    save_policy(load_policy(base, dtype="bfloat16"), base, model)
    (stage,) = planned(model, SFT | {"max_steps": 1}, tuning=tuning)
    assert stage.model.dtype == "bfloat16"
    train_stage(stage, start_folder=model, out=out)
    assert {tensor.dtype for tensor in tensors(out.policy).values()} == {dtype}
    assert model_bytes(out.policy) == pytest.approx(policy_bytes(stage.model, stage.weights_dtype), rel=0.01)


@pytest.mark.parametrize(("between", "rank"), [("merge", 4), ("continue", 2)])
def test_adapters_between_stages(base: Path, tmp_path: Path, between: str, rank: int):
    """Two stages of rank 2: merged adapters add up to rank 4, a continued one is still of rank 2."""
    tuning = {"type": "lora", "r": 2, "alpha": 4, "between_stages": between, "target_modules": ["q_proj"]}
    first, second = planned(base, SFT | {"max_steps": 2}, tuning=tuning, tasks=["count-colour", "which-row"])
    outs = StageDir(tmp_path / "1"), StageDir(tmp_path / "2")
    train_stage(first, start_folder=base, out=outs[0])
    train_stage(second, start_folder=outs[0].policy, out=outs[1])
    name = "model.layers.0.self_attn.q_proj.weight"
    start, *after = (tensors(folder)[name].double() for folder in (base, outs[0].policy, outs[1].policy))
    assert torch.linalg.matrix_rank(after[0] - start, rtol=1e-4) == 2
    assert torch.linalg.matrix_rank(after[1] - start, rtol=1e-4) == rank
    assert (outs[1].root / "adapter" / "adapter_model.safetensors").exists() is (between == "continue")
    assert not any("lora" in name for name in tensors(outs[1].policy))


def test_settings_the_model_does_not_allow(base: Path, tmp_path: Path):
    lora = {"type": "lora", "target_modules": ["q_prj"]}
    (stage,) = planned(base, SFT, tuning=lora)
    with pytest.raises(ValueError, match=r"target_modules.*q_proj"):
        train_stage(stage, start_folder=base, out=StageDir(tmp_path))
    (stage,) = planned(base, {"type": "grpo"})
    with pytest.raises(ValueError, match="needs a rollout pool"):
        train_stage(stage, start_folder=base, out=StageDir(tmp_path))


def test_divergence_ends_the_stage(base: Path, tmp_path: Path):
    (stage,) = planned(base, SFT | {"learning_rate": 100.0, "max_grad_norm": 1e9})
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        train_stage(stage, start_folder=base, out=StageDir(tmp_path))


def test_merged_weights_are_read_without_touching_the_base(base: Path):
    import torch
    from peft import get_peft_model

    (stage,) = planned(base, SFT, tuning={"type": "lora", "r": 2, "alpha": 4})
    policy = load_policy(base)
    names = [name for name, _ in policy.named_parameters()]
    model = get_peft_model(policy, stage.tuning.attach(policy, ["vision_tower"], None).peft_config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = dict(stage.tuning.tensors(model))
    assert list(found) == names
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    for name, parameter in stage.tuning.plain(model).named_parameters():
        torch.testing.assert_close(found[name], parameter.detach())
