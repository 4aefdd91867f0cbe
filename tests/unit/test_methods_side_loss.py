"""The supervised side loss: its value by hand, and which rows a step has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from rehearsal import GRPO, Lookup, rehearsing, replaying
from toys import TABLE

from cpt.methods.side_loss import SideLoss
from cpt.train.side_loss import rows_per_step, side_loss


def test_the_side_loss_is_the_weighed_mean_likelihood(tmp_path: Path):
    # From (1, 2): −log p(1) = log(1 + 1/e), −log p(0) = that + 1. From (0, 3), token 1: log(1 + e⁻³).
    model = Lookup(TABLE)
    rows = [("a", 0), ("b", 4), ("b", 5)]
    contents = {("a", 0): (0, 1), ("b", 4): (0, 0), ("b", 5): (0, 1, 1)}
    first, third = math.log(1 + math.exp(-1)), math.log(1 + math.exp(-3))
    found = {"a": first, "b": (first + 1 + (first + third) / 2) / 2}
    side = SideLoss(0.5, lambda step: rows)
    side.before_stage(rehearsing(model, tmp_path, contents))
    assert side.penalty().item() == pytest.approx(0.5 * (found["a"] + 2 * found["b"]) / 3, rel=1e-6)

    told: list[tuple[Mapping[str, float], int]] = []
    weights = {"a": 1.0, "b": 1.0}
    side.weight = weights.__getitem__

    def observe(values: Mapping[str, float], step: int) -> None:
        """Weights that a step's values move act on that step."""
        told.append((values, step))
        weights.update(a=2.0, b=0.25)

    side.observe = observe
    loss = side.penalty()
    assert loss.item() == pytest.approx(0.5 * (2 * found["a"] + 0.25 * 2 * found["b"]) / 3, rel=1e-6)
    assert side.metrics() == {"nll": pytest.approx((found["a"] + 2 * found["b"]) / 3, rel=1e-6)}
    assert told == [({"a": pytest.approx(found["a"], rel=1e-6), "b": pytest.approx(found["b"], rel=1e-6)}, 1)]
    loss.backward()
    # Gradient of −log p at the first row: a: (1 − q, q − 1); b/4: (−q, q); b/5: half of a's. q = p(1) = e / (1 + e).
    q = math.e / (1 + math.e)
    expected = 0.5 / 3 * (2 * (1 - q) + 0.25 * -q + 0.25 * (1 - q) / 2)
    assert model.table.grad[0].tolist() == pytest.approx([expected, -expected], rel=1e-5)


@pytest.mark.parametrize(
    ("method", "ratio", "rows"),
    [
        (GRPO, 0.5, 4),
        (GRPO, 0.2, 2),  # 1.6 rounded
        (GRPO.replace("}", ", gradient_accumulation_steps: 2}"), 0.5, 8),
        (GRPO.replace("}", ", num_iterations: 2}"), 0.5, 4),
        (GRPO.replace("}", ", steps_per_generation: 4}"), 0.5, 4),  # 32 prompts that serve four steps
        ("{type: remax, max_steps: 6, per_device_train_batch_size: 8}", 0.5, 4),
    ],
)
def test_rows_of_a_step_are_a_share_of_its_prompts(tmp_path: Path, method: str, ratio: float, rows: int):
    second = replaying(tmp_path, f"type: buffer, loss: supervised, ratio: {ratio}", method)[1]
    assert rows_per_step(second) == rows
    side = side_loss(second)
    assert [len(side.draw(step)) for step in range(6)] == [rows] * 6


def test_sources_are_drawn_from_together(tmp_path: Path):
    replay = "type: buffer, loss: supervised, ratio: 0.5, budget: 10, tasks: [exists], samples: 2"
    side = side_loss(replaying(tmp_path, replay)[1])
    steps = [side.draw(step) for step in range(6)]
    epoch = [row for rows in steps[:3] for row in rows]
    assert len(set(epoch)) == 12  # every one of ten and two once
    assert {number for task, number in epoch if task == "exists"} == {0, 1}
    assert sorted(row for rows in steps[3:] for row in rows) == sorted(epoch)
    assert steps[3:] != steps[:3]


def test_uniform_sources_take_turns(tmp_path: Path):
    replay = "type: buffer, loss: supervised, sampler: uniform, tasks: [exists, colour], samples: 6"
    second = replaying(tmp_path, replay)[1]
    steps = [side_loss(second).draw(step) for step in range(6)]
    assert [{task for task, _ in rows} for rows in steps] == [{"count-colour"}, {"exists"}, {"colour"}] * 2
    assert not set(steps[0]) & set(steps[3])  # the next ones of its permutation


def test_trainings_of_one_stage_have_orders_of_their_own(tmp_path: Path):
    second = replaying(tmp_path, "type: buffer, loss: supervised, tasks: [exists]", arm="merge: warp")[1]
    first, last = ([side_loss(one).draw(step) for step in range(6)] for one in second.trainings)
    assert first != last
    assert first == [side_loss(second).draw(step) for step in range(6)]  # the one that it would be without merging


def test_no_side_loss_where_there_is_nothing_to_replay_or_it_is_not_asked_for(tmp_path: Path):
    assert side_loss(replaying(tmp_path, "type: buffer, loss: supervised")[0]) is None
    assert side_loss(replaying(tmp_path, "type: buffer, loss: supervised, tasks: [exists]")[0]) is not None
    assert side_loss(replaying(tmp_path, "type: buffer")[1]) is None
