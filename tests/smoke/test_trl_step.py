"""TRL as the oracle of a whole step: its GRPOTrainer and ours, on the same completions, make the same policy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stages import planned, replace_tasks

from cpt.models.load import load_policy, load_processor
from cpt.rollout.sampling import ban_tokens
from cpt.tasks import get_task
from cpt.types import Completion
from rewards.score import Score

pytestmark = pytest.mark.smoke
TASK = get_task("count-colour")

SHARED = {
    "learning_rate": 0.05, "optim": "sgd", "max_steps": 4, "per_device_train_batch_size": 4, "num_generations": 4,
    "max_completion_length": 6,
}  # fmt: skip
# A prompt's four completions are a micro-batch. The first takes two steps of two on a generation, and both twice; the
# second two steps, uncorrected; the third one, whose forward pass is shared.
CASES: dict[str, dict[str, Any]] = {
    "grpo": {
        "type": "grpo", "beta": 0.04, "num_iterations": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 4,
    },
    "dapo": {
        "type": "dapo", "gradient_accumulation_steps": 2, "steps_per_generation": 4,
        "vllm_importance_sampling_correction": False,
    },
    "gspo": {"type": "gspo", "vllm_importance_sampling_mode": "sequence_truncate", "mask_truncated_completions": True},
}  # fmt: skip
# Of a row of the log: what the clock decides.
CLOCK = {"step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second"}


def rewarded(text: str) -> float:
    return len(text) % 5 / 4


class Rewarded:
    """Questions about pictures, and a reward for the length of the text."""

    name = "count-colour"

    def __init__(self) -> None:
        self.task = TASK

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def reward(self, sample: Any, completion: str, prompt: Any) -> Score:
        return Score(rewarded(completion), {}, completion)


class Script:
    """Stands for the engines: completions and log-probabilities by the prompt and the number of the call."""

    def __init__(self, processor: Any) -> None:
        self.processor, self.calls, self.settings = processor, 0, SimpleNamespace(dtype="float32")

    def said(self, prompts: Sequence[Sequence[int]], size: int) -> list[list[Completion]]:
        self.calls += 1
        return [[self._one(prompt, row) for row in range(size)] for prompt in prompts]

    def _one(self, prompt: Sequence[int], row: int) -> Completion:
        dice = random.Random(f"{list(prompt)} {row} {self.calls}")
        ids = [dice.randrange(8, 40) for _ in range(dice.randint(1, 6))]
        whole = len(ids) < 6
        ids += [self.processor.tokenizer.eos_token_id] * whole
        text = self.processor.decode(ids, skip_special_tokens=True)
        return Completion(ids, [dice.uniform(-8, -1) for _ in ids], text, "stop" if whole else "length")

    def push(self, tensors: Any, version: str) -> None:
        assert len(dict(tensors)) > 10

    def generate(self, requests: Any, params: Any, *, version: str) -> list[list[Completion]]:
        return self.said([request.prompt_ids for request in requests], params.n)


@pytest.mark.parametrize("name", CASES)
def test_the_same_completions_make_the_same_policy(
    name: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import torch
    from transformers import set_seed
    from trl import GRPOTrainer

    from cpt.train.data import as_dataset, own_samples, policy_rows, stage_data
    from cpt.train.grpo import grpo_arguments, grpo_trainer

    replace_tasks(monkeypatch, lambda _: Rewarded())
    monkeypatch.setattr("cpt.train.gap.check_gap", lambda *_: None)  # the script knows no policy
    (stage,) = planned(base, SHARED | CASES[name])
    processor, samples = load_processor(base), own_samples(stage)

    class Stock(GRPOTrainer):
        """TRL's trainer with completions of the script."""

        def _generate_single_turn(self, prompt_ids: list[list[int]], *args: Any, **kwargs: Any) -> Any:
            groups = script.said(prompt_ids[:: self.num_generations], self.num_generations)
            rows = [one for group in groups for one in group]
            return [one.token_ids for one in rows], [one.logprobs for one in rows]

    script = Script(processor)
    processor.tokenizer.padding_side = "left"  # or TRL would mark the pictures' tokens in the wrong places
    arguments = grpo_arguments(stage, tmp_path)
    data = stage_data(stage, samples, 1)
    stock = Stock(
        model=load_policy(base),
        args=arguments,
        reward_funcs=lambda completions, **_: [rewarded(turn[0]["content"]) for turn in completions],
        train_dataset=as_dataset(policy_rows(data.samples, stage.prompt), data.order),
        processing_class=processor,
    )
    stock.use_vllm = True  # the script's log-probabilities are an engine's
    for model in (stock.model, stock.ref_model):
        if model is not None:
            ban_tokens(model)
    own = grpo_trainer(stage, samples, load_policy(base), processor, tmp_path, Script(processor))
    start = {key: value.clone() for key, value in own.model.named_parameters()}
    for trainer in (stock, own):
        set_seed(0)  # TRL shuffles what it has generated
        trainer.train()

    assert script.calls == own.tools.sampler.pool.calls
    theirs = dict(stock.model.named_parameters())
    for key, ours in own.model.named_parameters():
        torch.testing.assert_close(ours, theirs[key], rtol=1e-6, atol=1e-6)
    assert any((value - start[key]).abs().max() > 1e-4 for key, value in own.model.named_parameters())
    for ours, logged in zip(own.state.log_history, stock.state.log_history, strict=True):
        shared = (set(ours) & set(logged)) - CLOCK
        assert "train_loss" in shared or {"loss", "grad_norm", "entropy", "clip_ratio/high_max"} <= shared
        assert {key: ours[key] for key in shared} == pytest.approx(
            {key: logged[key] for key in shared}, rel=1e-5, abs=1e-6
        )
