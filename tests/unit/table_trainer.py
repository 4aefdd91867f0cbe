"""A policy-gradient trainer on a table of logits, for unit tests; importing it imports TRL.

Everything of a step is the real one but what it runs on: two prompts of one token, completions that are given, a reward
of a line, and a model with four parameters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from toy_stage import stage_of

from cpt.run.worker import import_trainers

import_trainers()

from cpt.methods.advantages import GROUP_MEAN  # noqa: E402
from cpt.methods.policy_loss import LossSettings  # noqa: E402
from cpt.methods.remax import ReMax  # noqa: E402
from cpt.methods.rloo import RLOO  # noqa: E402
from cpt.models.inputs import ModelInputs  # noqa: E402
from cpt.rollout.timing import Phases  # noqa: E402
from cpt.train.advantages import Estimator  # noqa: E402
from cpt.train.batch import PolicyBatch  # noqa: E402
from cpt.train.gap import GapCheck  # noqa: E402
from cpt.train.plugin_terms import PluginTerms  # noqa: E402
from cpt.train.step import StageGRPOTrainer, StepTools  # noqa: E402
from cpt.train.weighting import Objectives  # noqa: E402
from cpt.types import Completion  # noqa: E402
from rewards.score import Score  # noqa: E402

# Two prompts with four completions each. Of a completion the last token is the answer (1: right), the first the format.
SAID = [[1], [0, 1], [1, 1, 0], [0], [1, 0], [1, 1], [0, 0, 1], [1]]
GREEDY = [[1, 0], [0, 1]]
TASKS = ["which-row", "count-colour"]
LONGEST = 3
START = [[0.3, -0.2], [0.0, 0.5]]


def score_of(text: str) -> Score:
    parts = {"accuracy": float(text[-1] == "1"), "format": float(text[0] == "1")}
    return Score(0.9 * parts["accuracy"] + 0.1 * parts["format"], parts)


def text_of(ids: list[int]) -> str:
    return "".join(map(str, ids))


@contextmanager
def with_trls_output_layer() -> Iterator[None]:
    """Whichever TRL is installed: the table below returns what a model with that layer does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cpt.train.output_layer.IN_TILES", True)
        yield


class Table(torch.nn.Module):
    """Logits of the next token, by the last one: [2, 2]. Counts its forward passes with gradients and without."""

    def __init__(self, logits: Any) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(logits))
        # A scale of logits: the plug-ins then take a forward pass of their own.
        self.config = SimpleNamespace(
            get_text_config=lambda: SimpleNamespace(logit_scale=2.0, max_position_embeddings=64)
        )
        self.passes = {True: 0, False: 0}

    def forward(
        self, input_ids: Any, attention_mask: Any, logits_to_keep: int = 0, labels: Any = None, **_: Any
    ) -> Any:
        logits = self.table[input_ids][:, -logits_to_keep:]
        if labels is None:
            return SimpleNamespace(logits=logits)
        self.passes[torch.is_grad_enabled()] += 1
        logps, said = logits[:, :-1].log_softmax(-1), labels[:, 1:]
        chosen = logps.gather(2, said.clamp(min=0)[:, :, None])[:, :, 0]
        return SimpleNamespace(log_probs=chosen * (said != -100), entropy=-(logps.exp() * logps).sum(-1))


class Processor:
    """Reads every chat as one token; counts what it reads."""

    bos_token = eos_token = eos_token_id = None
    pad_token_id = 0

    def __init__(self) -> None:
        self.read: list[str] = []

    def apply_chat_template(self, chats: Any, **_: Any) -> list[str]:
        return list(map(str, chats))

    def __call__(self, text: Any, **_: Any) -> Any:
        self.read += text
        return {"input_ids": [[0] for _ in text]}


BASELINES = {"group_mean": GROUP_MEAN, "others_mean": RLOO.baseline, "greedy": ReMax.baseline}


class Toy(StageGRPOTrainer):
    """A trainer that was never started. `said` are the completions, in their order."""

    def __init__(
        self, parts: int, baseline: Any, scale: Any, objectives: Objectives | None, iterations: int = 2
    ) -> None:
        self.model, self.ref_model = Table(START), None
        self.args = SimpleNamespace(
            steps_per_generation=parts, gradient_accumulation_steps=parts, num_iterations=iterations,
            gradient_checkpointing=False, per_device_train_batch_size=8 // parts, num_generations=4, beta=0.0,
            temperature=1.0, max_completion_length=LONGEST, mask_truncated_completions=False,
            vllm_importance_sampling_correction=True, vllm_importance_sampling_mode="token_truncate",
            vllm_importance_sampling_clip_min=None,
            vllm_importance_sampling_clip_max=3.0,
        )  # fmt: skip
        self.loss_settings = LossSettings(
            loss_type="dr_grpo", max_completion_length=LONGEST, steps_per_generation=parts
        )
        self.current_gradient_accumulation_steps = parts
        self.state = SimpleNamespace(global_step=0, num_input_tokens_seen=0)
        self.phases, self._metrics = Phases(), {"train": defaultdict(list)}
        self.accelerator = SimpleNamespace(
            device=torch.device("cpu"), unwrap_model=lambda model: model, autocast=nullcontext
        )
        self.plugins, self.objectives = PluginTerms({}), objectives
        self.said, self.processor = SAID, Processor()
        self.tools = StepTools(
            inputs=ModelInputs(self.processor, None),
            sampler=SimpleNamespace(push=lambda tensors, step: None, sample=self._sample),
            tensors=lambda model: model.named_parameters(),
            reward=self.reward,
            estimator=Estimator(BASELINES[baseline], scale),
            gap=GapCheck(1e-6, by_rounding=False),
        )

    def _sample(self, prompts: Any, images: Any) -> Any:
        """As an engine that has just these weights."""
        assert (prompts, images) == ([[0], [0]], [(), ()])
        logps = self.model.table.detach().log_softmax(-1)

        def completion(ids: list[int]) -> Completion:
            return Completion(ids, [float(logps[a, b]) for a, b in pairwise([0, *ids])], text_of(ids), "stop")

        greedy = GREEDY if self.tools.estimator.baseline.needs_greedy else []
        return list(map(completion, self.said)), list(map(completion, greedy))

    def reward(self, texts: Any, *, sample: Any, noted: Any = None, **_: Any) -> list[float]:
        scores = [score_of(text) for text in texts]
        if noted is not None:
            noted += [(one.task, score.parts) for score, one in zip(scores, sample, strict=True)]
        return [score.value for score in scores]

    def generate(self) -> PolicyBatch:
        """A batch of rollouts, as TRL asks for it."""
        rows = [{"sample": SimpleNamespace(id=task, task=task), "prompt": task, "images": []} for task in TASKS]
        return PolicyBatch(**self._generate_and_score_completions([row for row in rows for _ in range(4)]))

    def learn(self, batch: PolicyBatch, optimizer: Any) -> None:
        """An optimizer step on all of it."""
        for part in batch.cut(8 // self.args.steps_per_generation):
            self._compute_loss(self.model, part.columns()).backward()
        self.record(self.plugins.after_backward())
        optimizer.step()
        optimizer.zero_grad()
        self.plugins.after_step()
        self.state.global_step += 1
        if self.objectives is not None:
            self.record(self.objectives.take_metrics())

    @property
    def logged(self) -> dict[str, list[float]]:
        return self._metrics["train"]


@dataclass
class Seen:
    """What became of a stage: the table, and for every generation its advantages."""

    table: Any
    trainer: Toy
    advantages: list[list[float]] = field(default_factory=list)


def trained(
    parts: int,
    baseline: str,
    scale: str = "none",
    plugins: Any = (),
    replay: Any = None,
    iterations: int = 2,
    kind: type[Toy] = Toy,
    generations: int = 3,
) -> Seen:
    """Each generation is learned from `iterations` times in one optimizer step of `parts` micro-batches."""
    toy = kind(parts, baseline, scale, None if replay is None else Objectives(replay), iterations)
    start = Table([[0.0, 0.0], [0.0, 0.0]])
    stage = stage_of(toy.model, Path(), index=2, references={"stage_start": start})
    made = {setting.type: setting.plugin() for setting in plugins}
    toy.plugins = PluginTerms(made, frozenset(setting.type for setting in plugins if setting.changes_reward))
    for plugin in made.values():
        plugin.before_stage(stage)
    optimizer = torch.optim.SGD(toy.model.parameters(), lr=0.5)
    seen = Seen(toy.model.table, toy)
    for _ in range(generations):
        batch = toy.generate()
        seen.advantages.append(batch.advantages.tolist())
        for _ in range(iterations):
            toy.learn(batch, optimizer)
    return seen
