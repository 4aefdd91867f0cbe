"""A policy-gradient trainer on a table of logits, for unit tests; importing it imports TRL.

What TRL does for a stage (generate, the loss of one part) is here in a few lines; advantages, plug-ins and objectives
are the real ones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from toy_stage import stage_of

from cpt.train.worker import import_trainers

import_trainers()

from trl import GRPOTrainer  # noqa: E402

from cpt.methods.advantages import GROUP_MEAN  # noqa: E402
from cpt.methods.remax import ReMax  # noqa: E402
from cpt.methods.rloo import RLOO  # noqa: E402
from cpt.models.inputs import ModelInputs  # noqa: E402
from cpt.rollout.timing import Phases  # noqa: E402
from cpt.train.objectives import Objectives  # noqa: E402
from cpt.train.policy import StageGRPOTrainer  # noqa: E402
from rewards.score import Score  # noqa: E402

# Two prompts with four completions each. Of a completion the last token is the answer (1: right), the first the format.
SAID = [[1], [0, 1], [1, 1, 0], [0], [1, 0], [1, 1], [0, 0, 1], [1]]
GREEDY = [[1, 0], [0, 1]]
TASKS = ["which-row"] * 4 + ["count-colour"] * 4
LONGEST = 3


def score_of(text: str) -> Score:
    parts = {"accuracy": float(text[-1] == "1"), "format": float(text[0] == "1")}
    return Score(0.9 * parts["accuracy"] + 0.1 * parts["format"], parts)


class Table(torch.nn.Module):
    """Logits of the next token, by the last one: [2, 2]."""

    def __init__(self, logits: Any) -> None:
        super().__init__()
        self.table = torch.nn.Parameter(torch.tensor(logits))
        # A scale of logits: the plug-ins then take a forward pass of their own.
        self.config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(logit_scale=2.0))

    def forward(self, input_ids: Any, attention_mask: Any, logits_to_keep: int = 0) -> Any:
        return SimpleNamespace(logits=self.table[input_ids][:, -logits_to_keep:])


class FewLines(GRPOTrainer):
    """In TRL's place."""

    is_fsdp_enabled = is_deepspeed_enabled = False

    def add_callback(self, callback: Any) -> None:
        pass

    def _calculate_rewards(self, inputs: Any, *_: Any, **__: Any) -> Any:
        paid = self.reward_funcs[0](["".join(map(str, ids)) for ids in self.said], sample=[r["sample"] for r in inputs])
        return torch.tensor(paid)[:, None]

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        self._calculate_rewards(inputs)
        self._metrics["train"]["frac_reward_zero_std"].append(-1.0)
        ids = torch.tensor([ids + [0] * (LONGEST - len(ids)) for ids in self.said])
        mask = torch.tensor([[1] * len(ids) + [0] * (LONGEST - len(ids)) for ids in self.said])
        prompts = torch.zeros(len(inputs), 1, dtype=torch.long)
        output = {"prompt_ids": prompts, "prompt_mask": prompts + 1, "completion_ids": ids, "completion_mask": mask}
        with torch.no_grad():
            return output | {"old_per_token_logps": self._logps(self.model, output)}

    def _logps(self, model: Any, inputs: Any) -> Any:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
        logps = model(ids, None).logits[:, :-1].log_softmax(-1)
        return logps.gather(2, inputs["completion_ids"][:, :, None])[:, :, 0]

    def _compute_loss(self, model: Any, inputs: Any) -> Any:
        """Dr. GRPO's, with the ratio to the policy that sampled; unclipped."""
        ratio = (self._logps(model, inputs) - inputs["old_per_token_logps"]).exp()
        summed = (ratio * inputs["advantages"][:, None] * inputs["completion_mask"]).sum()
        return -summed / (len(ratio) * LONGEST) / self.current_gradient_accumulation_steps


BASELINES = {"group_mean": GROUP_MEAN, "others_mean": RLOO.baseline, "greedy": ReMax.baseline}


class Toy(StageGRPOTrainer, FewLines):
    """A trainer that was never started."""

    def __init__(self, parts: int, baseline: str, scale: str, objectives: Objectives | None) -> None:
        self.model = Table([[0.3, -0.2], [0.0, 0.5]])
        self.args = SimpleNamespace(steps_per_generation=parts)
        self.current_gradient_accumulation_steps = parts
        self.num_generations, self.baseline, self.scale_rewards = 4, BASELINES[baseline], scale
        self.state, self.phases, self._metrics = SimpleNamespace(global_step=0), Phases(), {"train": defaultdict(list)}
        self.accelerator = SimpleNamespace(
            process_index=0, num_processes=1, device=torch.device("cpu"), unwrap_model=lambda model: model
        )
        self.vllm_importance_sampling_correction = True
        self.objectives, self.rollout_log, self._parts, self._greedy_N = objectives, None, [], None
        self.processing_class = SimpleNamespace(batch_decode=lambda ids, **_: ["".join(map(str, one)) for one in ids])
        self.said, self._pending_metrics = SAID, defaultdict(list)
        self.inputs = ModelInputs(SimpleNamespace())
        self.reward_funcs = [self._pay]
        ended = SimpleNamespace(finish_reason="stop")
        self.vllm_generation = SimpleNamespace(
            latest=[ended] * 8,
            groups=[(0, 4), (4, 4)],
            greedy=[SimpleNamespace(token_ids=ids, finish_reason="stop") for ids in GREEDY],
        )

    def _pay(self, texts: Any, *, sample: Any, **_: Any) -> list[float]:
        scores = [score_of(text) for text in texts]
        if self.objectives is not None:
            pairs = zip(scores, sample, strict=True)
            scores = [self.objectives.see(one.task, score) for score, one in pairs]
        return [score.value for score in scores]


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
) -> Seen:
    """Three generations, each learned from `iterations` times in one optimizer step of `parts` micro-batches."""
    toy = kind(parts, baseline, scale, None if replay is None else Objectives(replay))
    start = Table([[0.0, 0.0], [0.0, 0.0]])
    stage = stage_of(toy.model, Path(), index=2, references={"stage_start": start})
    made = {setting.type: setting.plugin() for setting in plugins}
    toy.attach(made, frozenset(setting.type for setting in plugins if setting.needs_rollouts))
    for plugin in made.values():
        plugin.before_stage(stage)
    optimizer = torch.optim.SGD(toy.model.parameters(), lr=0.5)
    rows = [{"sample": SimpleNamespace(id=task, task=task)} for task in TASKS]
    seen = Seen(toy.model.table, toy)
    for _ in range(3):
        output = toy._generate_and_score_completions(rows)
        seen.advantages.append(output["advantages"].tolist())
        for _ in range(iterations):
            for rank in range(parts):
                part = slice(rank * 8 // parts, (rank + 1) * 8 // parts)
                toy._compute_loss(toy.model, {name: value[part] for name, value in output.items()}).backward()
            toy._finish_gradients()
            optimizer.step()
            optimizer.zero_grad()
            for plugin in made.values():
                plugin.after_step()
            toy.state.global_step += 1
    return seen
