"""Policy gradients of StageGRPOTrainer on a table of logits: a batch in one part or in four, once or more often."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import second_stage

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from cpt.methods.kl import KL  # noqa: E402
from cpt.methods.rapo import RaPO  # noqa: E402
from cpt.plan.stages import StagePlan  # noqa: E402
from cpt.train.objectives import Objectives  # noqa: E402
from rewards.score import Score  # noqa: E402


@pytest.fixture(scope="module")
def tables() -> Any:
    """The toy trainer's module; not imported with this one, because TRL takes seconds."""
    import table_trainer

    return table_trainer


RAPO = RaPO(type="rapo", coefficient=0.5, sharpness=2.0, decay=0.5)
RLOO_RAPO = RAPO.model_copy(update={"normalise": "method"})
AVERAGE = KL.model_validate({"reference": "ema", "decay": 0.5, "coefficient": 0.5})
PAID = KL.model_validate({"in": "reward", "estimator": "k1", "coefficient": 0.5})


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize(
    ("baseline", "scale", "plugins"),
    [
        ("others_mean", "none", [RLOO_RAPO, AVERAGE]),
        ("others_mean", "none", [PAID]),
        ("greedy", "none", [AVERAGE]),
        ("group_mean", "group", [RAPO]),
        ("group_mean", "batch", [PAID]),
    ],
)
def test_four_quarters_are_one_batch(tables: Any, baseline: str, scale: str, plugins: Any, iterations: int):
    whole, quarters, plain = (
        tables.trained(parts, baseline, scale, some, iterations=iterations)
        for parts, some in ((1, plugins), (4, plugins), (1, []))
    )
    assert torch.allclose(whole.table, quarters.table, rtol=0, atol=1e-6)
    for ours, theirs in zip(whole.advantages, quarters.advantages, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert not torch.allclose(whole.table, plain.table, rtol=0, atol=1e-4)  # the plug-ins have done something


@pytest.mark.parametrize(("parts", "iterations", "once"), [(1, 1, True), (1, 2, False), (4, 1, False)])
def test_the_graph_of_the_scoring_pass_is_kept_for_one_backward_pass_alone(
    tables: Any, parts: int, iterations: int, once: bool
):
    toy = tables.Toy(parts, "others_mean", "none", None)
    toy.args.gradient_accumulation_steps, toy.args.gradient_checkpointing = parts, False
    toy.num_iterations, toy.accelerator.num_processes = iterations, 1
    assert toy._one_pass is once


def recap(folder: Path, weigh: str) -> StagePlan:
    """A second stage under RECAP."""
    method = {"type": "grpo", "max_steps": 6, "per_device_train_batch_size": 8, "num_generations": 4}
    return second_stage(folder, method, {"type": "recap", "weigh": weigh, "window": 1, "temperature": 0.5})


@pytest.mark.parametrize("weigh", ["rewards", "advantages"])
def test_recaps_weights_do_not_know_how_a_batch_is_cut(
    tables: Any, weigh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plan = recap(tmp_path, weigh)
    said = tables.Toy._generate_and_score_completions

    def later(self: Any, inputs: Any) -> Any:
        """The policy gets better at one thing: rewards, and so weights, move."""
        if self.state.global_step:
            self.said = [*tables.SAID[:3], [0, 1], *tables.SAID[4:]]
        return said(self, inputs)

    monkeypatch.setattr(tables.Toy, "_generate_and_score_completions", later)
    whole, quarters = (tables.trained(parts, "group_mean", "group", replay=plan) for parts in (1, 4))
    assert torch.allclose(whole.table, quarters.table, rtol=0, atol=1e-6)
    assert whole.advantages == quarters.advantages
    logged = [seen.trainer._metrics["train"] for seen in (whole, quarters)]
    assert logged[0] == logged[1]
    # In the second generation accuracy's loss fell from 1/2 to 1/4: c = 2, i = (1/4)/√2 over 3/4; in the others c = 1,
    # i = 0. λ = 4 · softmax(s / 0.5) acts on that very generation. In the third all losses stand still. There is one
    # number for a generation, not one for a step.
    s = 2 + 1 / (3 * math.sqrt(2))
    moved = 4 * math.exp(2 * s) / (math.exp(2 * s) + 3 * math.exp(2))
    assert logged[0]["objective/which-row/accuracy/weight"] == pytest.approx([1.0, moved, 1.0])
    if weigh == "rewards":  # a right completion of which-row earned λ · 1 and, in the format, λ' · 1 beside it
        other = 4 * math.exp(2) / (math.exp(2 * s) + 3 * math.exp(2))
        rewards = [moved * right + other * form for right, form in ((1, 1), (1, 0), (0, 1), (1, 0))]
        mean = sum(rewards) / 4
        deviation = math.sqrt(sum((one - mean) ** 2 for one in rewards) / 3)
        assert whole.advantages[1][:4] == pytest.approx(
            [(one - mean) / (deviation + 1e-4) for one in rewards], abs=1e-5
        )


def test_rapos_coefficient_counts_in_a_group_of_equal_task_rewards(tables: Any):
    """Under the group's own deviation it would cancel."""

    class Even(tables.Toy):
        def _pay(self, texts: Any, **_: Any) -> list[float]:
            return [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]

    def sizes(**changes: Any) -> float:
        seen = tables.trained(1, "group_mean", "group", [RAPO.model_copy(update=changes)], kind=Even)
        return sum(abs(one) for one in seen.advantages[0][:4]) / 4

    full, tenth = sizes(coefficient=0.01), sizes(coefficient=0.001)
    assert full / tenth == pytest.approx(10, rel=0.05)
    cancelled = [sizes(coefficient=one, normalise="method") for one in (0.5, 0.05)]
    assert cancelled[0] == pytest.approx(cancelled[1], rel=0.02)


def test_rloo_compares_with_what_the_others_were_paid_in_all(tables: Any):
    first = tables.trained(4, "others_mean", plugins=[RLOO_RAPO]).advantages[0]
    logps = torch.tensor([[0.3, -0.2], [0.0, 0.5]]).log_softmax(-1)
    paid = []
    for ids in tables.SAID:
        gained = [float(logps[last, token]) - math.log(0.5) for last, token in pairwise([0, *ids])]
        bonus = 0.5 * math.exp(-2.0 * max(0.0, sum(gained) / len(ids)))
        paid.append(tables.score_of("".join(map(str, ids))).value + bonus)
    expected = [one - (sum(group) - one) / 3 for group in (paid[:4], paid[4:]) for one in group]
    assert first == pytest.approx(expected, abs=1e-5)


def test_remax_compares_with_the_greedy_completion_of_the_prompt(tables: Any):
    seen = tables.trained(4, "greedy", plugins=[AVERAGE])
    paid = [1.0, 0.9, 0.1, 0.0, 0.1, 1.0, 0.9, 1.0]
    assert seen.advantages[0] == pytest.approx([one - 0.1 for one in paid[:4]] + [one - 0.9 for one in paid[4:]])
    # [1, 1, 0] earns what the greedy [1, 0] does, [0, 0, 1] what [0, 1] does
    assert seen.trainer._metrics["train"]["frac_reward_zero_std"] == [0.25] * 3


def test_a_group_is_wasted_if_no_component_tells_its_completions_apart(tables: Any, tmp_path: Path):
    class Even(tables.Toy):
        def _pay(self, texts: Any, *, sample: Any, **_: Any) -> list[float]:
            """The first group's two components make up for each other, the second group's do not move."""
            parts = [(1.0, 0.0), (0.0, 1.0)] * 2 + [(1.0, 1.0)] * 4
            scores = [Score(0.5 * a + 0.5 * b, {"accuracy": a, "format": b}) for a, b in parts]
            pairs = zip(scores, sample, strict=True)
            return [self.objectives.see(one.task, score).value for score, one in pairs]

    def share(weigh: str) -> float:
        toy = Even(1, "group_mean", "group", Objectives(recap(tmp_path / weigh, weigh)))
        toy._generate_and_score_completions([{"sample": SimpleNamespace(id=task, task=task)} for task in tables.TASKS])
        (found,) = toy._metrics["train"]["frac_reward_zero_std"]
        return found

    assert share("advantages") == 0.5
    assert share("rewards") == -1.0  # TRL's own number is right
