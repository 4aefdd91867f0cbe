"""What `trainer_args` passes through: every argument that is allowed acts, and the others are refused with a reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from demo_recipe import load_text, problems

from cpt.methods.trl_fields import ALLOWED, config_fields, refusal
from cpt.plan.make import make_plan
from cpt.run.worker import import_trainers

import_trainers()

from cpt.tasks.world.tiny import make_model, make_processor  # noqa: E402
from cpt.train.batch import PolicyBatch  # noqa: E402
from cpt.train.data import own_samples  # noqa: E402
from cpt.train.grpo import grpo_trainer  # noqa: E402
from cpt.train.sft import sft_trainer  # noqa: E402

POOL: Any = SimpleNamespace(settings=SimpleNamespace(dtype="float32"))  # that is asked for nothing
RECIPE = """\
version: 1
name: demo
model: {name_or_path: builtin/tiny-qwen2_5-vl}
tasks: [count-colour]
data: {samples: 8}
arms:
  sft: {method: {type: sft, max_steps: 10, per_device_train_batch_size: 2, learning_rate: 1.0e-3}}
  grpo: {method: {type: grpo, max_steps: 10, per_device_train_batch_size: 4, num_generations: 2}}
"""


@pytest.fixture
def load(tmp_path: Path):
    return partial(load_text, tmp_path, text=RECIPE)


@pytest.fixture(scope="module")
def processor():
    return make_processor()


@pytest.fixture
def trainer(load, tmp_path: Path, processor):
    """Of the arm, with these arguments passed through and these settings of its method; nothing is trained yet."""

    def make(arm: str, arguments: dict[str, Any], **method: Any) -> Any:
        settings = [f"arms.{arm}.method.{key}={value}" for key, value in method.items()]
        recipe = load(*settings, *(f"arms.{arm}.trainer_args.{key}={value}" for key, value in arguments.items()))
        (stage,) = make_plan(recipe, [arm]).stages
        torch.manual_seed(0)
        model = make_model(processor.tokenizer)
        made = (stage, own_samples(stage), model, processor, tmp_path / "checkpoints")
        return sft_trainer(*made) if arm == "sft" else grpo_trainer(*made, pool=POOL)

    return make


def first_loss(trainer: Any) -> float:
    trainer.train()
    return float(trainer.state.log_history[0]["loss"])


def gradient_checkpointing(trainer: Any, monkeypatch: Any) -> None:
    for value in ("false", "true"):
        found = trainer("sft", {"gradient_checkpointing": value}, max_steps=1)
        first_loss(found)
        assert found.model.is_gradient_checkpointing is (value == "true")


def gradient_checkpointing_kwargs(trainer: Any, monkeypatch: Any) -> None:
    arguments = {"gradient_checkpointing": "true", "gradient_checkpointing_kwargs": "{use_reentrant: true}"}
    found = trainer("sft", arguments, max_steps=1)
    asked: list[Any] = []
    enable = found.model.gradient_checkpointing_enable
    monkeypatch.setattr(
        found.model, "gradient_checkpointing_enable", lambda **given: (asked.append(given), enable(**given))
    )
    first_loss(found)
    assert asked[-1]["gradient_checkpointing_kwargs"] == {"use_reentrant": True}


def lr_scheduler_kwargs(trainer: Any, monkeypatch: Any) -> None:
    """Half-way a cosine of half a period is at half the rate, one of a whole period at none."""
    for arguments, rate in (({}, 5e-4), ({"lr_scheduler_kwargs": "{num_cycles: 1.0}"}, 0.0)):
        found = trainer("sft", arguments, lr_scheduler_type="cosine")
        found.create_optimizer_and_scheduler(10)
        for _ in range(5):
            found.optimizer.step()
            found.lr_scheduler.step()
        assert found.lr_scheduler.get_last_lr()[0] == pytest.approx(rate, abs=1e-12)


def optim_args(trainer: Any, monkeypatch: Any) -> None:
    for arguments, momentum in (({}, 0), ({"optim_args": "'momentum=0.9, nesterov=true'"}, 0.9)):
        found = trainer("sft", arguments, optim="sgd")
        group = found.create_optimizer().param_groups[0]
        assert (group["momentum"], group["nesterov"]) == (momentum, momentum > 0)


def torch_empty_cache_steps(trainer: Any, monkeypatch: Any) -> None:
    counted: list[int] = []
    monkeypatch.setattr("transformers.trainer.clear_device_cache", lambda: counted.append(1))
    found = trainer("sft", {"torch_empty_cache_steps": 2}, max_steps=3)
    first_loss(found)
    assert len(counted) == 2  # before steps 0 and 2


def loaders(arm: str, trainer: Any, **arguments: Any) -> Any:
    found = trainer(arm, {f"dataloader_{key}": value for key, value in arguments.items()})
    return found.get_train_dataloader()


def dataloader_num_workers(trainer: Any, monkeypatch: Any) -> None:
    assert loaders("grpo", trainer, num_workers=1).num_workers == 1
    own, other = (loaders("sft", trainer, num_workers=count) for count in (0, 1))
    assert [own.num_workers, other.num_workers] == [0, 1]
    rows = [next(iter(one))["input_ids"] for one in (own, other)]
    assert rows[0].equal(rows[1])  # the same samples in the same order


def dataloader_prefetch_factor(trainer: Any, monkeypatch: Any) -> None:
    assert loaders("sft", trainer, num_workers=1, prefetch_factor=3).prefetch_factor == 3


def dataloader_persistent_workers(trainer: Any, monkeypatch: Any) -> None:
    assert loaders("sft", trainer, num_workers=1, persistent_workers="true").persistent_workers


def neftune_noise_alpha(trainer: Any, monkeypatch: Any) -> None:
    plain, noisy = (first_loss(trainer("sft", given, max_steps=1)) for given in ({}, {"neftune_noise_alpha": 50.0}))
    assert abs(plain - noisy) > 1e-3


def grpo_loss(trainer: Any, **arguments: Any) -> float:
    """The loss of two completions of two tokens, with advantages 1 and −1 and the policy's own log-probabilities.

    Entropies are 1, 2 and 3, 4; the engine thought the second completion likelier, by e per token.
    """
    found = trainer("grpo", arguments)
    ids, zeros = torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2)
    batch = PolicyBatch(
        prompt_ids=ids, prompt_mask=ids + 1, completion_ids=ids, completion_mask=ids + 1, pictures=[],
        engine_logps=torch.tensor([[0.0, 0.0], [1.0, 1.0]]), step=torch.tensor(0), tokens=torch.tensor(4),
        advantages=torch.tensor([1.0, -1.0]), old_logps=zeros, importance=torch.ones(2, 2),
        logps=zeros, entropies=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
    )  # fmt: skip
    found.current_gradient_accumulation_steps = 1
    return float(found._compute_loss(found.model, batch.columns()))


def entropy_coef(trainer: Any, monkeypatch: Any) -> None:
    assert grpo_loss(trainer) == 0.0  # the mean of −1 and 1
    assert grpo_loss(trainer, entropy_coef=0.5) == pytest.approx(-0.5 * 2.5)


def top_entropy_quantile(trainer: Any, monkeypatch: Any) -> None:
    """The upper half of the tokens is the second completion: (0 + 1) / 2."""
    assert grpo_loss(trainer, top_entropy_quantile=0.5) == pytest.approx(0.5)


def off_policy_mask_threshold(trainer: Any, monkeypatch: Any) -> None:
    """The second completion has a negative advantage and is off by 1: (−1 + 0) / 2."""
    assert grpo_loss(trainer, off_policy_mask_threshold=0.5) == pytest.approx(-0.5)
    assert grpo_loss(trainer, off_policy_mask_threshold=1.5) == pytest.approx(0.0)


ACTS: dict[str, Callable[[Any, Any], None]] = {
    act.__name__: act
    for act in (
        gradient_checkpointing, gradient_checkpointing_kwargs, lr_scheduler_kwargs, optim_args,
        torch_empty_cache_steps, dataloader_num_workers, dataloader_prefetch_factor, dataloader_persistent_workers,
        neftune_noise_alpha, entropy_coef, top_entropy_quantile, off_policy_mask_threshold,
    )
}  # fmt: skip


@pytest.mark.parametrize("name", ACTS)
def test_what_is_allowed_acts(name, trainer, monkeypatch):
    ACTS[name](trainer, monkeypatch)


def test_nothing_else_is_allowed():
    assert set(ACTS) == set(ALLOWED)


def test_every_argument_of_the_trainers_is_allowed_ours_or_refused_with_a_reason(load):
    """Whatever TRL and transformers have: no argument is passed on in silence."""
    for name, arm in load().arms.items():
        known = config_fields(*arm.method.trl_config)
        assert len(known) > 100
        passed = {key for key in known if refusal(key, {key: object()}, arm.method) is None}
        assert passed == set(), name  # an object() is no value of any
        for key in known - set(ALLOWED):
            reason = refusal(key, {key: True}, arm.method)
            assert reason and not reason.endswith(("; ", ": ")), key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.sft.trainer_args.fsdp=full_shard", "fsdp: is not supported: a stage is trained by one process"),
        ("arms.sft.trainer_args.deepspeed=x.json", "deepspeed: is not supported: a stage is trained by one process"),
        ("trainer_args.report_to=[tensorboard]", "trainer_args.report_to: cpt sets this; what it writes would go with"),
        ("arms.sft.trainer_args.torch_compile=true", "torch_compile: is not supported: a compiled model's"),
        ("arms.sft.trainer_args.use_liger_kernel=true", "is not supported: its loss keeps no logits"),
        ("arms.sft.trainer_args.ddp_timeout=1", "is not supported: a stage is trained by one process"),
        ("arms.sft.trainer_args.skip_memory_metrics=true", "does nothing in cpt's training; allowed are gradient_"),
        ("arms.sft.trainer_args.gradient_checkpointing=1", "must be a valid boolean, not 1"),
        ("arms.sft.trainer_args.neftune_noise_alpha=1e99", "must be less than or equal to 1000000000, not 1e+99"),
        ("arms.sft.trainer_args.neftune_noise_alpha=1e999", "1e999 is larger than any number a computer has"),
        ("arms.grpo.trainer_args.neftune_noise_alpha=5", "does nothing in grpo; set it in the arms that it is for"),
        ("arms.sft.trainer_args.optim_args=momentum=0.9", "optim_args: does nothing without method.optim: sgd"),
        ("arms.sft.trainer_args.dataloader_prefetch_factor=2", "does nothing without trainer_args.dataloader_num_work"),
        ("arms.sft.trainer_args.lr_scheduler_kwargs={num_cycles: x}", "num_cycles: must be a valid number, not 'x'"),
    ],
)
def test_what_would_do_nothing_or_harm_is_refused(load, override, message):
    (problem, *_) = problems(load, override)
    assert message in problem
