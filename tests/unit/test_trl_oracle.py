"""TRL as the oracle of our loss: on the same batch, the same loss, gradient and metrics as its GRPOTrainer's."""

from __future__ import annotations

import math
from collections import defaultdict
from functools import cache
from itertools import combinations, product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor

from cpt.methods.advantages import against_group_mean
from cpt.methods.engine_weights import engine_weights
from cpt.methods.policy_loss import LossSettings, policy_loss
from cpt.run.worker import import_trainers

import_trainers()

from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from cpt.tasks.world.tiny import make_model, make_processor  # noqa: E402

ROWS, TOKENS, VOCABULARY, LONGEST = 8, 5, 7, 6
LOSSES = {
    "grpo": {"loss_type": "grpo"},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "bnpo": {"loss_type": "bnpo"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.1},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.2},
}
# What TRL's loss reads from the trainer and its constructor takes from the arguments.
READ = [
    "beta", "loss_type", "importance_sampling_level", "off_policy_mask_threshold", "top_entropy_quantile",
    "entropy_coef", "use_adaptive_entropy", "max_completion_length", "vllm_importance_sampling_correction",
]  # fmt: skip


class Stock(GRPOTrainer):
    """As much of TRL's trainer as its loss needs: the arguments, and log-probabilities of the logits it is given."""

    def __init__(self, arguments: GRPOConfig, micro_batches: int) -> None:
        self.args, self.model = arguments, SimpleNamespace(training=True)
        for name in READ:
            setattr(self, name, getattr(arguments, name))
        self.epsilon_low = arguments.epsilon
        self.epsilon_high = arguments.epsilon if arguments.epsilon_high is None else arguments.epsilon_high
        self.use_vllm, self.aux_loss_enabled = True, False
        self._entropy_bonus_enabled = bool(self.entropy_coef)
        self.current_gradient_accumulation_steps = micro_batches
        self._metrics = {"train": defaultdict(list)}
        self.accelerator: Any = SimpleNamespace(
            num_processes=1,
            sync_gradients=False,
            gather=lambda value: value,
            reduce=lambda value, reduction: value,
            pad_across_processes=lambda value, **_: value,
        )

    def _get_per_token_logps_and_entropies(self, model: Any, input_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
        return (*scored(model, input_ids[:, -TOKENS:]), None)


def scored(logits_BTV: Tensor, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the ids and entropies, each [B, T]."""
    logps_BTV = logits_BTV.log_softmax(-1)
    entropies_BT = -(logps_BTV.exp() * logps_BTV).sum(-1)
    return logps_BTV.gather(-1, ids_BT.unsqueeze(-1)).squeeze(-1), entropies_BT


@cache
def batch() -> dict[str, Tensor]:
    """Rollouts whose ratios lie within and outside every clip range; one completion was masked as truncated."""
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(ROWS, TOKENS, VOCABULARY, generator=random)
    ids = torch.randint(VOCABULARY, (ROWS, TOKENS), generator=random)
    lengths = torch.tensor([5, 1, 3, 0, 4, 2, 5, 5])
    now, _ = scored(logits, ids)

    def moved(by: float) -> Tensor:
        return now + by * torch.randn(ROWS, TOKENS, generator=random)

    mask = (torch.arange(TOKENS) < lengths[:, None]).long()
    return {
        "logits": logits,
        "prompt_ids": torch.zeros(ROWS, 1, dtype=torch.long),
        "prompt_mask": torch.ones(ROWS, 1, dtype=torch.long),
        "completion_ids": ids,
        "completion_mask": mask,
        "advantages": torch.randn(ROWS, generator=random),
        "old_per_token_logps": moved(0.4),
        "ref_per_token_logps": moved(0.5),
        "sampling_per_token_logps": moved(0.6),
    }


def arguments(micro_batches: int, **settings: Any) -> GRPOConfig:
    return GRPOConfig(
        output_dir="unused",
        use_cpu=True,
        bf16=False,
        report_to="none",
        num_generations=2,
        per_device_train_batch_size=ROWS // micro_batches,
        gradient_accumulation_steps=micro_batches,
        max_completion_length=LONGEST,
        **settings,
    )


Step = tuple[list[Tensor], Tensor, list[dict[str, float]]]
"""Loss and metrics of every micro-batch, and the step's gradient of the logits."""


def rows_of(given: dict[str, Tensor], micro_batches: int) -> list[dict[str, Tensor]]:
    parts = {name: value.chunk(micro_batches) for name, value in given.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(micro_batches)]


def trls(config: GRPOConfig, given: dict[str, Tensor], micro_batches: int) -> Step:
    trainer, logits = Stock(config, micro_batches), given["logits"].clone().requires_grad_()
    losses, metrics = [], []
    tokens = given["completion_mask"].sum()
    for part, part_logits in zip(rows_of(given, micro_batches), logits.chunk(micro_batches), strict=True):
        trainer._metrics["train"].clear()
        losses.append(trainer._compute_loss(part_logits, part | {"num_items_in_batch": tokens}))
        metrics.append({name: value for name, (value,) in trainer._metrics["train"].items()})
    torch.stack(losses).sum().backward()
    return losses, logits.grad, metrics


def ours(config: GRPOConfig, given: dict[str, Tensor], micro_batches: int) -> Step:
    settings, logits = LossSettings.of(config), given["logits"].clone().requires_grad_()
    losses, metrics = [], []
    for part, part_logits in zip(rows_of(given, micro_batches), logits.chunk(micro_batches), strict=True):
        found = policy_loss(
            settings,
            *scored(part_logits, part["completion_ids"]),
            mask_BT=part["completion_mask"],
            advantages_B=part["advantages"],
            old_logps_BT=part.get("old_per_token_logps"),
            reference_logps_BT=part.get("ref_per_token_logps"),
            engine_logps_BT=part.get("sampling_per_token_logps"),
            weights=part.get("importance_sampling_ratio"),
            batch_tokens=given["completion_mask"].sum(),
            micro_batches=micro_batches,
        )
        losses.append(found.loss)
        metrics.append({name: value.item() for name, value in found.metrics.items()})
    torch.stack(losses).sum().backward()
    return losses, logits.grad, metrics


def compare(settings: dict[str, Any], micro_batches: int, iterations: int = 1, corrected: bool = True) -> Step:
    """Assert that TRL and we agree, and return what both found."""
    config = arguments(
        micro_batches, num_iterations=iterations, vllm_importance_sampling_correction=corrected, **settings
    )
    given = dict(batch())
    if corrected:
        logps = given["old_per_token_logps"], given["sampling_per_token_logps"], given["completion_mask"]
        given["importance_sampling_ratio"], _ = engine_weights(*logps, "token_truncate", None, 3.0)
    if iterations == 1:
        del given["old_per_token_logps"]
    theirs, own = trls(config, given, micro_batches), ours(config, given, micro_batches)
    for their_loss, our_loss in zip(theirs[0], own[0], strict=True):
        torch.testing.assert_close(our_loss, their_loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(own[1], theirs[1], rtol=1e-6, atol=1e-6)
    for their_metrics, our_metrics in zip(theirs[2], own[2], strict=True):
        their_metrics.pop("entropy_coef", None)
        assert list(our_metrics) == list(their_metrics)
        assert our_metrics == pytest.approx(their_metrics, rel=1e-6, abs=1e-6, nan_ok=True)
    return own


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_equal_trls(name: str):
    """With and without a KL term, iterated once and twice, corrected for the engine or not, in one and four parts."""
    cases = list(product((0.0, 0.04), (1, 2), (True, False), (1, 4)))
    gradients = [compare(LOSSES[name] | {"beta": beta}, cut, count, fix)[1] for beta, count, fix, cut in cases]
    # None of the settings is ignored by both; only how a step is cut does not matter, but to the mean over tokens.
    for i, j in combinations(range(len(cases)), 2):
        same = torch.allclose(gradients[i], gradients[j], rtol=1e-5, atol=1e-6)
        assert same is (cases[i][:3] == cases[j][:3] and name != "bnpo"), (cases[i], cases[j])


@pytest.mark.parametrize(
    "settings",
    [
        {"delta": 1.5},
        {"beta": 0.04, "use_bias_correction_kl": True},
        {"top_entropy_quantile": 0.5},
        {"off_policy_mask_threshold": 0.1},
        {"entropy_coef": 0.01},
        {"entropy_coef": 0.01, "top_entropy_quantile": 0.5},
    ],
    ids=lambda settings: "+".join(settings),
)
@pytest.mark.parametrize("name", LOSSES)
def test_what_else_a_recipe_may_set(name: str, settings: dict[str, Any]):
    _, plain, _ = ours(arguments(2, **LOSSES[name]), dict(batch()), 2)
    _, gradient, _ = compare(LOSSES[name] | settings, 2, iterations=2)
    assert not torch.allclose(gradient, plain)


class Scripted(GRPOTrainer):
    """TRL's whole trainer, but for completions and the engine's log-probabilities, which are given."""

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        return self.said


@pytest.fixture(scope="module")
def scripted() -> Scripted:
    """Two prompts with four completions each, by the built-in model with random weights."""
    torch.manual_seed(0)
    processor = make_processor()
    trainer = Scripted(
        model=make_model(processor.tokenizer),
        args=arguments(1, vllm_importance_sampling_mode="token_truncate"),
        reward_funcs=[lambda completions, **_: trainer.paid],
        train_dataset=Dataset.from_list([{"prompt": [{"role": "user", "content": "how many"}]}]),
        processing_class=processor,
    )
    trainer.num_generations, trainer.use_vllm = 4, True
    random = torch.Generator().manual_seed(5)
    lengths = [5, 1, 3, 2, 4, 2, 5, 5]
    ids = [torch.randint(8, 40, (n,), generator=random).tolist() for n in lengths]
    trainer.said = ids, [(-3 + 2 * torch.randn(n, generator=random)).tolist() for n in lengths]
    trainer.paid = [1.0, 0.0, 0.5, None, 1.0, 1.0, 1.0, 1.0]
    return trainer


def made(trainer: Scripted) -> dict[str, Any]:
    trainer._metrics["train"].clear()
    prompts = [{"prompt": [{"role": "user", "content": text}]} for text in ["how many"] * 4 + ["which"] * 4]
    return trainer._generate_and_score_completions(prompts)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_equal_trls(scripted: Scripted, scale: Any):
    scripted.scale_rewards = scale
    rewards = torch.tensor([math.nan if paid is None else paid for paid in scripted.paid]).view(2, 4)
    assert against_group_mean(rewards, scale).reshape(-1).equal(made(scripted)["advantages"])


@pytest.mark.parametrize("low", [None, 0.5])
@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
def test_engine_weights_equal_trls(scripted: Scripted, mode: Any, low: float | None):
    scripted.vllm_importance_sampling_mode, scripted.vllm_importance_sampling_clip_min = mode, low
    found = made(scripted)
    logps = found["old_per_token_logps"], found["sampling_per_token_logps"], found["completion_mask"]
    weights, metrics = engine_weights(*logps, mode, low, 3.0)
    assert weights.equal(found["importance_sampling_ratio"])
    logged = {name: value for name, (value,) in scripted._metrics["train"].items() if name.startswith("sampling/")}
    assert {name: value.item() for name, value in metrics.items()} == logged
    assert list(metrics) == list(logged)
