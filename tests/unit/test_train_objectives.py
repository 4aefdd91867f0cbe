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


def test_of_two_in_one_step_each_logs_the_weights_that_acted_on_it(tmp_path: Path):
    setting = {"type": "recap", "loss": "supervised", "ratio": 0.25}
    stage = second_stage(tmp_path, GRPO, setting)
    objectives = Objectives(stage)
    assert objectives.names == [ACCURACY, FORMAT, OLD]
    logged: dict[str, list[float]] = defaultdict(list)
    side, trainer = SideLoss(1.0, lambda step: []), SimpleNamespace(_metrics={"train": logged})
    objectives.weigh_side_loss(side, trainer)
    for step, accuracy in enumerate((0.2, 0.6)):
        objectives.log(trainer, {ACCURACY: accuracy, FORMAT: 0.5}, step, supervised=False)
        assert side.weight(OLD) == objectives.weight(OLD)
        side.observe({OLD: 2.0}, step + 1)
    # Step 2: the losses 1 − r of accuracy are 0.8 and then 0.4, so c = 1/2; all others stand still, c = 1. α = 1/2 and
    # T = 5: λ = 3 · softmax(0.05, 0.1, 0.1), which the side loss has and the rollouts do not have yet.
    found = {name.removeprefix("objective/"): values for name, values in logged.items()}
    assert found[f"{ACCURACY}/weight"] == found[f"{FORMAT}/weight"] == [1.0, 1.0]
    moved = 3 * math.exp(0.1) / (math.exp(0.05) + 2 * math.exp(0.1))
    assert found[f"{OLD}/weight"] == [1.0, pytest.approx(moved)]
    assert found[f"{ACCURACY}/convergence"] == [1.0, pytest.approx(0.5)]
    assert found[f"{OLD}/convergence"] == [1.0, pytest.approx(1.0)]
    assert found[f"{OLD}/value"] == [2.0, 2.0]
    again = Objectives(stage)
    again.restore(
        {"step": i + 1} | {name: values[i] for name, values in logged.items() if name.endswith("value")}
        for i in range(2)
    )
    assert [again.weight(name) for name in again.names] == [objectives.weight(name) for name in objectives.names]
