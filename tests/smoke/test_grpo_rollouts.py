"""A trainer with completions from a pool: one policy on both sides, exact seeds, one clear error otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def pool(base: Path):
    """Random weights put probability on image tokens, too."""
    from cpt.rollout.engine import EngineSettings
    from cpt.rollout.local import LocalPool, build_engine

    return LocalPool(build_engine("hf", EngineSettings(str(base), max_model_len=128)))


def train(model: Path, pool: Any, out: Path, *, peft: Any = None, key: str | None = None, **arguments: Any) -> Any:
    """Two GRPO steps of 2 prompts x 4 completions; every step's logs and phases in `trainer.rows`."""
    from transformers import TrainerCallback, set_seed
    from trl import GRPOConfig

    from cpt.methods.advantages import GROUP_MEAN
    from cpt.models.inputs import ModelInputs
    from cpt.models.load import load_policy, load_processor
    from cpt.models.tuning.full import Full
    from cpt.models.tuning.lora import LoRA
    from cpt.rollout.sampler import PolicySampler
    from cpt.tasks import get_task
    from cpt.train.advantages import Estimator
    from cpt.train.data import as_dataset, policy_rows
    from cpt.train.gap import GapCheck
    from cpt.train.step import StageGRPOTrainer, StepTools

    def odd(completions: Any, *, completion_ids: Any, **_: Any) -> list[float]:
        return [sum(token % 2 for token in ids) / len(ids) for ids in completion_ids]

    class Rows(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in logs:
                trainer.rows.append({**logs, "phases": trainer.phases.take()})

    settings = {
        "output_dir": str(out), "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 8,
        "max_steps": 2, "learning_rate": 1e-2, "beta": 0.0, "loss_type": "grpo", "logging_steps": 1, "top_k": 0,
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "save_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "remove_unused_columns": False, "seed": 3,
    }  # fmt: skip
    set_seed(0)
    policy, args = load_policy(model), GRPOConfig(**settings | arguments)
    tools = StepTools(
        inputs=ModelInputs(load_processor(model), policy),
        sampler=PolicySampler(pool, key or "key", max_tokens=8, temperature=args.temperature, group=4),
        tensors=(Full(type="full") if peft is None else LoRA(type="lora")).tensors,
        reward=odd,
        estimator=Estimator(GROUP_MEAN, "group"),
        gap=GapCheck(1e-4, by_rounding=False),
    )
    samples = get_task("count-colour").samples("train", 4)
    trainer = StageGRPOTrainer(
        tools,
        model=policy,
        args=args,
        train_dataset=as_dataset(policy_rows(samples, "direct"), range(4)),
        peft_config=peft,
        callbacks=[Rows()],
    )
    trainer.rows = []
    trainer.train()
    return trainer


def weights(trainer: Any) -> dict[str, Any]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def gaps(trainer: Any) -> list[float]:
    name = "sampling/sampling_logp_difference/max"
    return [row[name] for row in trainer.rows if name in row]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"temperature": 0.7},
        {"beta": 0.1},
        {"vllm_importance_sampling_correction": False},
        {"num_iterations": 2, "max_steps": 3},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
    ],
    ids=lambda arguments: "-".join(arguments) or "plain",
)
def test_engine_and_trainer_agree_at_every_step(base, pool, tmp_path, arguments):
    trainer = train(base, pool, tmp_path, **arguments)
    assert max(gaps(trainer)) <= 1e-4
    assert len(gaps(trainer)) == 2  # one per rollout
    if arguments.get("beta"):
        assert abs(trainer.rows[0]["kl"]) <= 1e-6  # the reference excludes the same tokens


def test_the_time_of_a_step_is_told_by_phase(base, pool, tmp_path):
    for row in train(base, pool, tmp_path).rows:
        assert set(row["phases"]) == {"push", "rollout", "reward", "forward_backward", "optimizer", "rest"}
        assert all(seconds >= 0 for seconds in row["phases"].values())
        assert row["phases"]["rollout"] > 0


def test_the_same_key_gives_the_same_training_and_another_key_another(base, pool, tmp_path):
    import torch

    first, again, other = (weights(train(base, pool, tmp_path, key=key)) for key in ("a", "a", "b"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_adapters_are_pushed_merged(base, pool, tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    trainer = train(base, pool, tmp_path, peft=lora, learning_rate=0.1, max_steps=3)
    assert max(gaps(trainer)) <= 1e-4
    assert trainer.rows[-1]["grad_norm"] > 0


def test_an_engine_with_other_weights_stops_the_run(base, pool, tmp_path):
    class Forgetful:
        """Takes the first push and only pretends to take the later ones."""

        def __init__(self) -> None:
            self.settings = pool.settings
            self.versions: list[str] = []

        def push(self, named_tensors: Any, version: str) -> None:
            self.versions.append(version)
            if len(self.versions) == 1:
                pool.push(named_tensors, version)

        def generate(self, requests: Any, params: Any, *, version: str) -> Any:
            return pool.generate(requests, params, version=self.versions[0])

    with pytest.raises(ValueError, match=r"step 2: .*max_logprob_gap 0\.0001"):
        train(base, forgetful := Forgetful(), tmp_path)
    assert len(set(forgetful.versions)) == 2


def test_the_ban_leaves_the_saved_policy_alone(base, pool, tmp_path):
    from safetensors.torch import load_file

    trainer = train(base, pool, tmp_path, max_steps=1)
    trainer.model.save_pretrained(tmp_path / "policy")
    assert load_file(tmp_path / "policy" / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
