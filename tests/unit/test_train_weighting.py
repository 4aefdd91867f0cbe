"""Objectives of one stage: which weights are logged, and when they acted."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import pytest
from folders import second_stage

from cpt.methods.side_loss import SideLoss
from cpt.train.objectives import Objectives

GRPO = {"type": "grpo", "max_steps": 10, "per_device_train_batch_size": 64, "num_generations": 8}
ACCURACY, FORMAT, OLD = "which-row/accuracy", "which-row/format", "count-colour"


def both_kinds(folder: Path, mode: str) -> tuple[Objectives, dict[str, list[float]], Objectives]:
    """Three steps of rollouts and a supervised side loss, what is logged of them, and the same after a resume."""
    stage = second_stage(folder, GRPO, {"type": "recap", "mode": mode, "window": 1, "loss": "supervised"})
    objectives = Objectives(stage)
    assert objectives.names == [ACCURACY, FORMAT, OLD]
    logged: dict[str, list[float]] = defaultdict(list)
    side, trainer = SideLoss(1.0, lambda step: []), SimpleNamespace(_metrics={"train": logged})
    objectives.weigh_side_loss(side, trainer)
    for step, (accuracy, loss) in enumerate([(0.2, 2.0), (0.6, 1.0), (0.6, 1.0)]):
        objectives.log(trainer, {ACCURACY: accuracy, FORMAT: 0.5}, step, supervised=False)
        assert side.weight(OLD) == objectives.weight(OLD)
        side.observe({OLD: loss}, step)
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
