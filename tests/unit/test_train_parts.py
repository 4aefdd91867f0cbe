"""Policy gradients of StageGRPOTrainer on a table of logits: a batch in one part or in four, once or more often.

What TRL does for it (generate, the loss of one part) is here in a few lines; advantages, plug-ins and objectives are
the real ones.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import model_folder
from toy_stage import stage_of

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from cpt.train.worker import import_trainers  # noqa: E402

import_trainers()

from trl import GRPOTrainer  # noqa: E402

from cpt.methods.kl import KL  # noqa: E402
from cpt.methods.rapo import RaPO  # noqa: E402
from cpt.plan import make_plan  # noqa: E402
from cpt.recipe import Recipe  # noqa: E402
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

    def forward(self, input_ids: Any, attention_mask: Any) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])


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


class Toy(StageGRPOTrainer, FewLines):
    """A trainer that was never started."""

    def __init__(self, parts: int, baseline: str, scale: str, objectives: Objectives | None) -> None:
        self.model = Table([[0.3, -0.2], [0.0, 0.5]])
        self.args = SimpleNamespace(steps_per_generation=parts)
        self.current_gradient_accumulation_steps = parts
        self.num_generations, self.baseline, self.scale_rewards = 4, baseline, scale
        self.state, self.phases, self._metrics = SimpleNamespace(global_step=0), Phases(), {"train": defaultdict(list)}
        self.accelerator = SimpleNamespace(
            process_index=0, device=torch.device("cpu"), unwrap_model=lambda model: model
        )
        self.vllm_importance_sampling_correction = True
        self.objectives, self.rollout_log, self._parts, self._greedy_N = objectives, None, [], None
        self.processing_class = SimpleNamespace(batch_decode=lambda ids, **_: ["".join(map(str, one)) for one in ids])
        self.said, self._pending_metrics = SAID, defaultdict(list)
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
            scores = [self.objectives.pay(one.task, score) for score, one in pairs]
        return [score.value for score in scores]


@dataclass
class Seen:
    """What became of a stage: the table, and for every generation its advantages."""

    table: Any
    trainer: Toy
    advantages: list[list[float]] = field(default_factory=list)


def trained(
    parts: int, baseline: str, scale: str = "none", plugins: Any = (), replay: Any = None, iterations: int = 2
) -> Seen:
    """Three generations, each learned from `iterations` times in one optimizer step of `parts` micro-batches."""
    toy = Toy(parts, baseline, scale, None if replay is None else Objectives(replay))
    start = Table([[0.0, 0.0], [0.0, 0.0]])
    stage = stage_of(toy.model, Path(), references={"stage_start": start})
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


RAPO = RaPO(type="rapo", coefficient=0.5, sharpness=2.0)
AVERAGE = KL.model_validate({"reference": "ema", "decay": 0.5, "coefficient": 0.5})
PAID = KL.model_validate({"in": "reward", "estimator": "k1", "coefficient": 0.5})


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize(
    ("baseline", "scale", "plugins"),
    [
        ("others_mean", "none", [RAPO, AVERAGE]),
        ("others_mean", "none", [PAID]),
        ("greedy", "none", [AVERAGE]),
        ("group_mean", "group", [RAPO]),
        ("group_mean", "batch", [PAID]),
    ],
)
def test_four_quarters_are_one_batch(baseline: str, scale: str, plugins: Any, iterations: int):
    whole, quarters, plain = (
        trained(parts, baseline, scale, some, iterations=iterations)
        for parts, some in ((1, plugins), (4, plugins), (1, []))
    )
    assert torch.allclose(whole.table, quarters.table, rtol=0, atol=1e-6)
    for ours, theirs in zip(whole.advantages, quarters.advantages, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert not torch.allclose(whole.table, plain.table, rtol=0, atol=1e-4)  # the plug-ins have done something


@pytest.mark.parametrize(("parts", "iterations", "once"), [(1, 1, True), (1, 2, False), (4, 1, False)])
def test_the_graph_of_the_scoring_pass_is_kept_for_one_backward_pass_alone(parts: int, iterations: int, once: bool):
    toy = Toy(parts, "others_mean", "none", None)
    toy.args.gradient_accumulation_steps, toy.args.gradient_checkpointing = parts, False
    toy.num_iterations, toy.accelerator.num_processes = iterations, 1
    assert toy._one_pass is once


def stage(folder: Path, weigh: str) -> Any:
    """The second stage of count-colour and which-row, under RECAP."""
    recap = {"type": "recap", "weigh": weigh, "window": 1, "temperature": 0.5}
    method = {"type": "grpo", "max_steps": 6, "per_device_train_batch_size": 8, "num_generations": 4}
    content = {
        "version": 1,
        "name": "test",
        "model": {"name_or_path": str(model_folder(folder / "model"))},
        "tasks": ["count-colour", "which-row"],
        "arms": {"arm": {"method": method, "replay": recap}},
    }
    return make_plan(Recipe.model_validate(content)).stages[1]


@pytest.mark.parametrize("weigh", ["rewards", "advantages"])
def test_recaps_weights_do_not_know_how_a_batch_is_cut(weigh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan = stage(tmp_path, weigh)
    said = Toy._generate_and_score_completions

    def later(self: Any, inputs: Any) -> Any:
        """The policy gets better at one thing: rewards, and so weights, move."""
        if self.state.global_step:
            self.said = [*SAID[:3], [0, 1], *SAID[4:]]
        return said(self, inputs)

    monkeypatch.setattr(Toy, "_generate_and_score_completions", later)
    whole, quarters = (trained(parts, "group_mean", "group", replay=plan) for parts in (1, 4))
    assert torch.allclose(whole.table, quarters.table, rtol=0, atol=1e-6)
    assert whole.advantages == quarters.advantages
    logged = [seen.trainer._metrics["train"] for seen in (whole, quarters)]
    assert logged[0] == logged[1]
    # Accuracy's loss fell from 1/2 to 1/4, so c = 1/2, in the others c = 1: λ = 4 · softmax(0.5, 1, 1, 1). It acts on
    # the third generation; there is one number for a generation, not one for a step.
    moved = 4 * math.exp(0.5) / (math.exp(0.5) + 3 * math.e)
    assert logged[0]["objective/which-row/accuracy/weight"] == [1.0, pytest.approx(1.0), pytest.approx(moved)]


def test_rloo_compares_with_what_the_others_were_paid_in_all():
    first = trained(4, "others_mean", plugins=[RAPO]).advantages[0]
    logps = torch.tensor([[0.3, -0.2], [0.0, 0.5]]).log_softmax(-1)
    paid = []
    for ids in SAID:
        gained = [float(logps[last, token]) - math.log(0.5) for last, token in pairwise([0, *ids])]
        bonus = 0.5 * math.exp(-2.0 * max(0.0, sum(gained) / len(ids)))
        paid.append(score_of("".join(map(str, ids))).value + bonus)
    expected = [one - (sum(group) - one) / 3 for group in (paid[:4], paid[4:]) for one in group]
    assert first == pytest.approx(expected, abs=1e-5)


def test_remax_compares_with_the_greedy_completion_of_the_prompt():
    seen = trained(4, "greedy", plugins=[AVERAGE])
    paid = [1.0, 0.9, 0.1, 0.0, 0.1, 1.0, 0.9, 1.0]
    assert seen.advantages[0] == pytest.approx([one - 0.1 for one in paid[:4]] + [one - 0.9 for one in paid[4:]])
    # [1, 1, 0] earns what the greedy [1, 0] does, [0, 0, 1] what [0, 1] does
    assert seen.trainer._metrics["train"]["frac_reward_zero_std"] == [0.25] * 3


def test_a_group_is_wasted_if_no_component_tells_its_completions_apart(tmp_path: Path):
    class Even(Toy):
        def _pay(self, texts: Any, *, sample: Any, **_: Any) -> list[float]:
            """The first group's two components make up for each other, the second group's do not move."""
            parts = [(1.0, 0.0), (0.0, 1.0)] * 2 + [(1.0, 1.0)] * 4
            scores = [Score(0.5 * a + 0.5 * b, {"accuracy": a, "format": b}) for a, b in parts]
            pairs = zip(scores, sample, strict=True)
            return [self.objectives.pay(one.task, score).value for score, one in pairs]

    def share(weigh: str) -> float:
        toy = Even(1, "group_mean", "group", Objectives(stage(tmp_path / weigh, weigh)))
        toy._generate_and_score_completions([{"sample": SimpleNamespace(id=task, task=task)} for task in TASKS])
        (found,) = toy._metrics["train"]["frac_reward_zero_std"]
        return found

    assert share("advantages") == 0.5
    assert share("rewards") == -1.0  # TRL's own number is right
