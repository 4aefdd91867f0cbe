"""Regularisers of adapters: O-LoRA and RegLoRA, values and gradients by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_stage import stage_of
from toys import Toy, adapter, factors, finished, plugin


def test_o_lora_wants_rows_of_a_orthogonal_to_all_earlier_ones(tmp_path: Path):
    settings = {"type": "o-lora", "coefficient": 0.5}
    b = [[0.0]]
    first = plugin(**settings)
    stage = stage_of(adapter([[1.0, 0.0, 2.0]], b), tmp_path / "1")
    first.before_stage(stage)
    assert first.penalty() is None
    first.after_stage(stage)

    model = adapter([[0.0, 5.0, 0.0]], b)
    second = plugin(**settings)
    stage = stage_of(model, tmp_path / "2", 2, tmp_path / "1")
    second.before_stage(stage)
    assert second.penalty().item() == 0.0  # orthogonal
    a, b_factor = factors(model)
    with torch.no_grad():
        a.copy_(torch.tensor([[-3.0, 5.0, 1.0]]))
    loss = second.penalty()
    assert loss.item() == pytest.approx(0.5 * abs(-3 + 2))
    loss.backward()
    assert a.grad.tolist() == [[-0.5, 0.0, -1.0]]  # λ sign(A A_kᵀ) A_k
    assert b_factor.grad is None
    second.after_stage(stage)

    model = adapter([[1.0, 1.0, 1.0]], b)
    third = plugin(**settings)
    third.before_stage(stage_of(model, tmp_path / "3", 3, tmp_path / "2"))
    assert third.penalty().item() == pytest.approx(0.5 * (3 + 3))  # both earlier adapters
    assert third.metrics() == {"penalty": pytest.approx(3.0)}


def test_o_lora_counts_every_pair_of_rows(tmp_path: Path):
    finished(adapter([[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0]]), tmp_path / "1", 1, None, type="o-lora")
    second = plugin(type="o-lora", coefficient=1.0)
    model = adapter([[1.0, 2.0], [-1.0, 0.0]], [[0.0, 0.0]])
    second.before_stage(stage_of(model, tmp_path / "2", 2, tmp_path / "1"))
    assert second.penalty().item() == pytest.approx(1 + 3 + 1 + 1)


def test_reg_lora_leaves_alone_what_earlier_adapters_changed_most(tmp_path: Path):
    settings = {"type": "reg-lora", "coefficient": 10.0, "share": 0.25}
    model = adapter([[1.0, -4.0]], [[1.0], [0.5]])  # BA = [[1, −4], [0.5, −2]]: M = {(0, 1)}
    first = plugin(**settings)
    stage = stage_of(model, tmp_path / "1")
    first.before_stage(stage)
    assert first.penalty() is None
    first.after_stage(stage)

    model = adapter([[2.0, 3.0]], [[0.0], [0.0]])
    second = plugin(**settings)
    stage = stage_of(model, tmp_path / "2", 2, tmp_path / "1")
    second.before_stage(stage)
    assert second.penalty().item() == 0.0  # a new B is zero
    with torch.no_grad():
        factors(model)[1].copy_(torch.tensor([[-1.0], [2.0]]))  # BA = [[−2, −3], [4, 6]]
    loss = second.penalty()
    assert loss.item() == pytest.approx(10 * 3)
    loss.backward()
    a, b = factors(model)
    # With S = λ/|M| · sign(BA) on M: ∂/∂A = Bᵀ S, ∂/∂B = S Aᵀ, S = [[0, −10], [0, 0]].
    assert a.grad.tolist() == [[0.0, 10.0]]
    assert b.grad.tolist() == [[-30.0], [0.0]]
    second.after_stage(stage)  # adds (1, 1)

    third = plugin(**settings)
    third.before_stage(stage_of(model, tmp_path / "3", 3, tmp_path / "2"))
    assert third.penalty().item() == pytest.approx(10 * (3 + 6) / 2)


def test_reg_lora_is_a_mean_over_modules(tmp_path: Path):
    two = {}
    for module, a in (("m.q", [[1.0, 0.0]]), ("m.v", [[0.0, 4.0]])):
        two |= {f"{module}.lora_A.default.weight": a, f"{module}.lora_B.default.weight": [[1.0]]}
    model = Toy(two)
    finished(model, tmp_path / "1", 1, None, type="reg-lora", share=0.5)
    second = plugin(type="reg-lora", coefficient=2.0)
    second.before_stage(stage_of(model, tmp_path / "2", 2, tmp_path / "1"))
    assert second.penalty().item() == pytest.approx(2 * (1 + 4) / 2)
