"""Penalties on weights, by hand: EWC, MAS, L2 and CPO, and what they hand from stage to stage."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_stage import stage_of
from toys import TABLE, Lookup, Toy, batch, finished, gradients, move, plugin

from cpt.methods.masks import largest
from cpt.methods.plugin import Batch

# ---- anchors: EWC and MAS


def ended(tmp_path: Path, settings: dict[str, Any], *batches: Batch) -> tuple[Lookup, Path]:
    """A first stage with EWC or MAS over a lookup table, and what it left."""
    model = Lookup(TABLE)
    first = plugin(**settings)
    stage = stage_of(model, tmp_path / "1", batches=batches)
    first.before_stage(stage)
    assert first.penalty() is None  # nothing to remember
    first.after_stage(stage)
    return model, tmp_path / "1"


def test_mas_importance_is_the_sensitivity_of_the_squared_norm(tmp_path: Path):
    # Token 1 after token 0: f = (1, 2), ‖f‖² = 5, its gradient (2, 4).
    # Token 0 after token 1: f = (0, 3), gradient (0, 6). Mean over the two samples: [[1, 2], [0, 3]].
    settings = {"type": "mas", "coefficient": 4.0, "samples": 2}
    model, left = ended(tmp_path, settings, batch([0, 1]), batch([1, 0]), batch([1, 1]))
    second = plugin(**settings)
    second.before_stage(stage_of(model, tmp_path / "2", 2, left))
    assert second.penalty().item() == 0.0
    move(model, table=[[2.0, 2.0], [5.0, 1.0]])  # shifts [[1, 0], [5, -2]]
    loss = second.penalty()
    assert loss.item() == pytest.approx(4 / 2 * (1 * 1 + 0 * 25 + 3 * 4))
    assert gradients(model, loss) == {"table": [[4.0, 0.0], [0.0, -24.0]]}  # λ Ω (θ − θ*)
    assert second.metrics() == {"penalty": pytest.approx(26.0)}


def test_mas_takes_the_mean_over_a_targets_tokens(tmp_path: Path):
    # Two completion tokens after 0 and after 1: ‖f‖² = (5 + 9) / 2; the gradient of row 0 is (1, 2), of row 1 (0, 3).
    model, left = ended(tmp_path, {"type": "mas", "coefficient": 2.0, "samples": 1}, batch([0, 1, 0]))
    second = plugin(type="mas", coefficient=2.0)
    second.before_stage(stage_of(model, tmp_path / "2", 2, left))
    move(model, table=[[2.0, 3.0], [1.0, 4.0]])
    assert second.penalty().item() == pytest.approx(1 + 2 + 0 + 3)


def test_mas_adds_up_over_tasks_and_keeps_the_last_place(tmp_path: Path):
    settings = {"type": "mas", "coefficient": 2.0, "samples": 1}
    model, left = ended(tmp_path, settings, batch([0, 1]))  # Ω = [[2, 4], [0, 0]]
    second = plugin(**settings)
    move(model, table=[[1.0, 2.0], [1.0, 3.0]])
    stage = stage_of(model, tmp_path / "2", 2, left, [batch([1, 0])])  # + [[0, 0], [2, 6]]
    second.before_stage(stage)
    second.after_stage(stage)
    third = plugin(**settings)
    third.before_stage(stage_of(model, tmp_path / "3", 3, tmp_path / "2"))
    assert third.penalty().item() == 0.0  # the last θ*, not the first
    move(model, table=[[2.0, 3.0], [2.0, 4.0]])
    assert third.penalty().item() == pytest.approx(2 + 4 + 2 + 6)


def test_ewc_importance_is_the_mean_square_of_the_gradient(tmp_path: Path):
    # −log p of token 1 after token 0: gradient p − onehot = (p0, p1 − 1) with p = softmax(1, 2).
    p0 = 1 / (1 + math.e)
    settings = {"type": "ewc", "coefficient": 3.0, "samples": 2}
    model, left = ended(tmp_path, settings, batch([0, 1]), batch([0, 1]))
    second = plugin(**settings)
    second.before_stage(stage_of(model, tmp_path / "2", 2, left))
    assert second.penalty().item() == 0.0
    move(model, table=[[2.0, 4.0], [9.0, 9.0]])
    loss = second.penalty()
    assert loss.item() == pytest.approx(3 / 2 * p0**2 * (1 + 4), rel=1e-5)
    assert gradients(model, loss)["table"] == [pytest.approx([3 * p0**2, 6 * p0**2], rel=1e-5), [0.0, 0.0]]


# Offline: from (1, 2) shifts (2, 1), from (2, 3) shifts (1, 0). Online: one θ* = (2, 3), with 0.5 F + F.
@pytest.mark.parametrize(("online", "squares"), [(False, (4 + 1) + 1), (True, 1.5)])
def test_ewc_keeps_every_task_or_one_decayed_sum(tmp_path: Path, online: bool, squares: float):
    settings = {"type": "ewc", "coefficient": 2.0, "samples": 1, "online": online, "decay": 0.5}
    model, left = ended(tmp_path, settings, batch([0, 1]))
    p0 = 1 / (1 + math.e)
    second = plugin(**settings)
    move(model, table=[[2.0, 3.0], [0.0, 3.0]])  # both logits up by one: the softmax is the same, θ* is not
    stage = stage_of(model, tmp_path / "2", 2, left, [batch([0, 1])])
    second.before_stage(stage)
    second.after_stage(stage)
    third = plugin(**settings)
    third.before_stage(stage_of(model, tmp_path / "3", 3, tmp_path / "2"))
    move(model, table=[[3.0, 3.0], [0.0, 3.0]])
    assert third.penalty().item() == pytest.approx(p0**2 * squares, rel=1e-5)


# ---- L2


def test_l2_is_half_the_squared_distance_to_the_start(tmp_path: Path):
    model = Toy({"w": [1.0, -2.0], "b": 0.5})
    l2 = plugin(type="l2", coefficient=3.0)
    l2.before_stage(stage_of(model, tmp_path))
    assert l2.penalty().item() == 0.0
    move(model, w=[2.0, 0.0], b=0.5)
    loss = l2.penalty()
    assert loss.item() == pytest.approx(3 / 2 * (1 + 4))
    assert gradients(model, loss) == {"w": [3.0, 6.0], "b": 0.0}


def test_l2_to_the_base_remembers_across_stages(tmp_path: Path):
    model, base = Toy({"w": [1.0]}), Toy({"w": [0.0]})
    l2 = plugin(type="l2", coefficient=2.0, reference="base")
    l2.before_stage(stage_of(model, tmp_path, 2, references={"base": base}))
    assert l2.penalty().item() == pytest.approx(1.0)


# ---- CPO


def shifted(tmp_path: Path, share: float = 0.5) -> tuple[Toy, Path]:
    """A first stage of CPO that moves four numbers by 1, 0, −3, 2 and leaves another tensor alone."""
    model = Toy({"w": [[0.0, 0.0], [0.0, 0.0]], "still": [1.0, 1.0]})
    first = plugin(type="cpo", share=share)
    stage = stage_of(model, tmp_path / "1")
    first.before_stage(stage)
    move(model, w=[[1.0, 0.0], [-3.0, 2.0]])
    assert first.penalty() is None
    first.after_stage(stage)
    return model, tmp_path / "1"


def test_cpo_holds_what_earlier_tasks_moved_most(tmp_path: Path):
    model, left = shifted(tmp_path)
    second = plugin(type="cpo", share=0.5, coefficient=100.0)
    second.before_stage(stage_of(model, tmp_path / "2", 2, left))
    loss = second.penalty()
    assert loss.item() == 0.0  # the reference is where this stage starts
    assert gradients(model, loss)["w"] == [[0.0, 0.0], [0.0, 0.0]]
    move(model, w=[[9.0, 9.0], [-2.5, 1.0]], still=[5.0, 5.0])
    loss = second.penalty()
    assert loss.item() == pytest.approx(100 * (0.5 + 1.0) / 2)  # mean over M = {2, 3}; `still` has no M
    assert gradients(model, loss) == {"w": [[0.0, 0.0], [50.0, -50.0]]}  # λ/|M| · sign


def test_cpo_adds_every_finished_task_to_the_mask(tmp_path: Path):
    model, left = shifted(tmp_path, share=0.25)  # M = {2}
    second = plugin(type="cpo", share=0.25)
    stage = stage_of(model, tmp_path / "2", 2, left)
    second.before_stage(stage)
    move(model, w=[[8.0, 0.0], [-3.0, 2.0]], still=[1.0, 2.0])  # moves entry 0 most, and one of `still`
    second.after_stage(stage)
    third = plugin(type="cpo", share=0.25, coefficient=1.0)
    third.before_stage(stage_of(model, tmp_path / "3", 3, tmp_path / "2"))
    move(model, w=[[9.0, 4.0], [-6.0, 4.0]], still=[3.0, 4.0])
    assert third.penalty().item() == pytest.approx((1 + 3) / 2 + 2 / 1)


def test_cpo_with_nothing_moved_has_nothing_to_hold(tmp_path: Path):
    model = Toy({"w": [1.0, 2.0]})
    finished(model, tmp_path / "1", 1, None, type="cpo")
    second = plugin(type="cpo")
    second.before_stage(stage_of(model, tmp_path / "2", 2, tmp_path / "1"))
    assert second.penalty() is None


@pytest.mark.parametrize(
    ("sizes", "share", "expected"),
    [
        ([1.0, 3.0, 2.0, 0.0], 0.5, [False, True, True, False]),
        ([1.0, 3.0, 2.0, 0.0], 0.1, [False, True, False, False]),  # rounded up
        ([0.0, 3.0, 0.0, 0.0], 0.75, [False, True, False, False]),  # what is 0 is not large
        ([1.0, 3.0], 1.0, [True, True]),
    ],
)
def test_the_largest_share(sizes: list[float], share: float, expected: list[bool]):
    assert largest(torch.tensor(sizes), share).tolist() == expected


def test_the_largest_tenth_of_thirty_are_three():
    assert int(largest(torch.arange(1.0, 31.0), 0.1).sum()) == 3
