"""Objectives of one stage: which weights are logged, and when they acted."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import second_stage

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from cpt.methods.side_loss import SideLoss  # noqa: E402
from cpt.train.side_loss import side_loss  # noqa: E402
from cpt.train.weighting import Objectives, SourceWeights  # noqa: E402

SFT = {"type": "sft", "max_steps": 10, "per_device_train_batch_size": 4}
GRPO = {"type": "grpo", "max_steps": 10, "per_device_train_batch_size": 64, "num_generations": 8}
ACCURACY, FORMAT, OLD = "which-row/accuracy", "which-row/format", "count-colour"


def both_kinds(folder: Path, mode: str) -> tuple[Objectives, dict[str, list[float]], Objectives]:
    """Three steps of rollouts and a supervised side loss, what is logged of them, and the same after a resume."""
    stage = second_stage(folder, GRPO, {"type": "recap", "mode": mode, "window": 1, "loss": "supervised"})
    objectives = Objectives(stage)
    assert objectives.names == [ACCURACY, FORMAT, OLD]
    logged: dict[str, list[float]] = defaultdict(list)
    side = side_loss(stage, objectives)
    assert isinstance(side, SideLoss)
    for step, (accuracy, loss) in enumerate([(0.2, 2.0), (0.6, 1.0), (0.6, 1.0)]):
        objectives.observe({ACCURACY: accuracy, FORMAT: 0.5}, step, supervised=False)
        assert side.weight(OLD) == objectives.weight(OLD)
        side.observe({OLD: loss}, step)
        for name, value in objectives.take_metrics().items():
            logged[name].append(value)
    assert objectives.take_metrics() == {}
    again = Objectives(stage)
    again.restore(
        {"step": i + 1} | {name: values[i] for name, values in logged.items() if name.endswith("value")}
        for i in range(3)
    )
    return objectives, {name.removeprefix("objective/"): values for name, values in logged.items()}, again


def shares(*scores: float) -> list[float]:
    """3 · softmax(s/5)."""
    powers = [math.exp(score / 5) for score in scores]
    return [pytest.approx(3 * power / sum(powers)) for power in powers]


def test_each_kind_moves_the_weights_before_they_act_on_it(tmp_path: Path):
    objectives, found, again = both_kinds(tmp_path, "paper")
    # Losses of accuracy 0.8, 0.4, 0.4, of the format 0.5 throughout, of the replayed task 2, 1, 1. Where a loss halves,
    # s = 2 + (its half/√2)/(1.5 times it) = 2 + 1/(3·√2); where it stands, s = 1.
    fallen = 2 + 1 / (3 * math.sqrt(2))
    assert found[f"{OLD}/weight"] == [1.0, shares(fallen, 1, fallen)[2], shares(1, 1, 1)[2]]
    # In step 2 the side loss has one value when the rollouts are weighed: all is 1. In step 3 it has two.
    assert found[f"{ACCURACY}/weight"] == [1.0, 1.0, shares(1, 1, fallen)[0]]
    assert found[f"{FORMAT}/weight"] == [1.0, 1.0, shares(1, 1, fallen)[1]]
    assert found[f"{ACCURACY}/convergence"] == [1.0, pytest.approx(2), pytest.approx(1)]
    assert found[f"{OLD}/value"] == [2.0, 1.0, 1.0]
    assert [again.weight(name) for name in again.names] == [objectives.weight(name) for name in objectives.names]


def test_a_static_weight_may_be_that_of_its_source(tmp_path: Path):
    objectives = Objectives(
        second_stage(tmp_path, GRPO, {"type": "static", "weights": {"which-row": 2.0, "which-row/format": 0.5}})
    )
    old = {f"{OLD}/accuracy": 1.0, f"{OLD}/format": 1.0}
    assert {name: objectives.weight(name) for name in objectives.names} == {ACCURACY: 2.0, FORMAT: 0.5} | old


def test_the_released_orientation_is_that_of_the_step_it_acts_on(tmp_path: Path):
    _, found, _ = both_kinds(tmp_path, "released")
    # Raw values: rewards 0.2, 0.6; cross-entropies 2, 1. A step of RL has c = older/newer, a supervised one the other.
    assert found[f"{ACCURACY}/convergence"][1] == pytest.approx(0.2 / 0.6)
    assert found[f"{OLD}/convergence"][1] == pytest.approx(1 / 2)
    # When the rollouts of step 2 are weighed, OLD has one value (c = 1, i = 0); accuracy i = 0.2/0.4.
    first, second = shares(1 / 3, 1, 1), shares(0.5, 0, 0)
    assert found[f"{ACCURACY}/weight"][1] == pytest.approx((first[0].expected + second[0].expected) / 2)
    # When its side loss is, accuracy's c is 3 and OLD's 1/2 with i = 0.5/1.5.
    first, second = shares(3, 1, 0.5), shares(0.5, 0, 1 / 3)
    assert found[f"{OLD}/weight"][1] == pytest.approx((first[2].expected + second[2].expected) / 2)


def outputs(*rows: list[float]) -> SimpleNamespace:
    """What a model with TRL's output layer returns: log-probabilities of targets, 0 where there is none."""
    logps = torch.tensor(rows, requires_grad=True)
    return SimpleNamespace(log_probs=logps, label_mask=logps != 0)


class Answers(torch.nn.Module):
    """Gives its arguments back as outputs."""

    device = torch.device("cpu")

    def forward(self, logps: torch.Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(log_probs=logps, label_mask=logps != 0)


def test_the_loss_of_each_row_has_the_weight_of_its_task(tmp_path: Path):
    stage = second_stage(tmp_path, SFT, {"type": "static", "weights": {"which-row": 3.0}})
    objectives = Objectives(stage)
    assert objectives.names == ["which-row", OLD]
    weights = SourceWeights(objectives)
    collated = weights.collator(lambda rows: {"n": len(rows)})([{"task": OLD}, {"task": "which-row"}])
    assert collated["n"] == 2 and collated["source"].tolist() == [1, 0]
    found = outputs([-1.0, -2.0], [-4.0, 0.0])
    # The second row is weighed 3: twice its 4 nats are added, over the 3 tokens of the batch or the 8 of the step.
    weights.tell(None, [collated], step=0)
    assert weights.more(found, collated["source"], None, step=0).item() == pytest.approx(2 * 4 / 3)
    more = weights.more(found, collated["source"], torch.tensor(8), step=0)
    assert more.item() == pytest.approx(2 * 4 / 8)
    more.backward()
    assert found.log_probs.grad.tolist() == [[0.0, 0.0], [-0.25, -0.25]]
    assert objectives.take_metrics() == {
        "objective/which-row/value": 4.0, "objective/count-colour/value": 1.5,
        "objective/which-row/weight": 3.0, "objective/count-colour/weight": 1.0,
    }  # fmt: skip


def test_several_micro_batches_tell_their_losses_beforehand(tmp_path: Path):
    objectives = Objectives(second_stage(tmp_path, SFT, {"type": "static", "weights": {"which-row": 1.0}}))
    weights = SourceWeights(objectives)
    batches = [
        {"logps": torch.tensor([[-1.0], [-2.0]]), "labels": None, "source": torch.tensor([0, 1])},
        {"logps": torch.tensor([[-5.0], [-3.0]]), "labels": None, "source": torch.tensor([0, 0])},
    ]
    weights.tell(Answers(), batches, step=4)
    told = objectives.take_metrics()
    assert told["objective/which-row/value"] == 3.0 and told[f"objective/{OLD}/value"] == 2.0
    assert weights.more(outputs([-9.0]), torch.tensor([0]), None, step=4).item() == 0.0  # a weight of 1
    assert objectives.take_metrics() == {}  # the step has told its losses
