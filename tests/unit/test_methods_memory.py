"""What rehearses finished tasks, on toy modules: A-GEM and dark experience replay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import load_arm
from rehearsal import Lookup, Row, rehearsing, replaying
from safetensors.torch import load_file
from toys import TABLE, plugin

from cpt.methods.memory import drawn, remembered
from cpt.methods.plugin import Plugin
from cpt.methods.side_loss import SideLoss
from cpt.recipe import RecipeError
from cpt.train.side_loss import side_loss

# ---- the memory


def test_a_memory_is_balanced_and_only_ever_loses_samples():
    one, two = remembered([("a", 50)], 8), remembered([("a", 50), ("b", 9)], 8)
    assert len(one) == len(two) == 8
    assert [task for task, _ in two] == ["a"] * 4 + ["b"] * 4
    assert {row for row in two if row[0] == "a"} < set(one)
    assert remembered([], 8) == []


def test_rows_are_drawn_without_repetition_and_by_seed():
    memory = [("a", number) for number in range(20)]
    rows = drawn(memory, 12, "7/1")
    assert len(set(rows)) == 12
    assert rows == drawn(memory, 12, "7/1") != drawn(memory, 12, "7/2")
    assert sorted(drawn(memory, 99, "7/1")) == memory


# ---- A-GEM. Token 1 after token 0 from equal logits: −log p has the gradient (½, −½) for them.


def projected(tmp_path: Path, own: list[float]) -> tuple[Lookup, dict[str, float]]:
    """A step with this gradient of the first row's logits."""
    model, a_gem = Lookup([[0.0, 0.0], [0.0, 0.0]]), plugin(type="a-gem")
    a_gem.before_stage(rehearsing(model, tmp_path))
    model.table.grad = torch.tensor([own, [3.0, 4.0]])
    a_gem.after_backward()
    return model, a_gem.metrics()


def test_a_conflicting_gradient_loses_what_points_against_the_memory(tmp_path: Path):
    # g·g_ref = −½, ‖g_ref‖² = ½: g − (−1) g_ref. The second row, where g_ref is 0, stays.
    model, metrics = projected(tmp_path, [-1.0, 0.0])
    assert model.table.grad[0].tolist() == pytest.approx([-0.5, -0.5])
    assert model.table.grad[1].tolist() == [3.0, 4.0]
    assert model.table.grad[0] @ torch.tensor([0.5, -0.5]) == pytest.approx(0.0, abs=1e-7)
    assert metrics == {"projected": 1.0, "cosine": pytest.approx(-0.5 / math.sqrt(26 * 0.5))}
    assert model.unused.grad is None


@pytest.mark.parametrize(("own", "cosine"), [([1.0, 1.0], 0.0), ([1.0, 0.0], 0.5 / math.sqrt(26 * 0.5))])
def test_an_orthogonal_or_aligned_gradient_is_left_alone(tmp_path: Path, own: list[float], cosine: float):
    model, metrics = projected(tmp_path, own)
    assert model.table.grad.tolist() == [own, [3.0, 4.0]]
    assert metrics == {"projected": 0.0, "cosine": pytest.approx(cosine)}


def test_all_parameters_are_projected_together(tmp_path: Path):
    # The table alone conflicts, the bias alone does not. g·g_ref = −1 + ½, ‖g_ref‖² = ½ + ½.
    model, a_gem = Lookup([[0.0, 0.0], [0.0, 0.0]], bias=True), plugin(type="a-gem")
    a_gem.before_stage(rehearsing(model, tmp_path))
    model.table.grad, model.bias.grad = torch.tensor([[-2.0, 0.0], [0.0, 0.0]]), torch.tensor([1.0, 0.0])
    a_gem.after_backward()
    assert model.table.grad[0].tolist() == pytest.approx([-1.75, -0.25])
    assert model.bias.grad.tolist() == pytest.approx([1.25, -0.25])


def test_a_parameter_without_a_gradient_has_one_of_zeros(tmp_path: Path):
    model, a_gem = Lookup([[0.0, 0.0], [0.0, 0.0]], bias=True), plugin(type="a-gem")
    a_gem.before_stage(rehearsing(model, tmp_path))
    model.table.grad = torch.tensor([[-1.0, 0.0], [0.0, 0.0]])
    a_gem.after_backward()  # g·g_ref = −½, ‖g_ref‖² = 1
    assert model.table.grad[0].tolist() == pytest.approx([-0.75, -0.25])
    assert model.bias.grad.tolist() == pytest.approx([0.25, -0.25])


def test_the_reference_is_the_mean_over_rows_of_the_mean_over_tokens(tmp_path: Path):
    # Row one: token 1 after 0. Row two: 1 after 0, then 0 after 1. Gradients: ½ (1 + ½) (½, −½) and ½ · ½ (−½, ½).
    model, a_gem = Lookup([[0.0, 0.0], [0.0, 0.0]]), plugin(type="a-gem", rows=2)
    contents = {("old", 1): (0, 1, 0)}
    a_gem.before_stage(rehearsing(model, tmp_path, contents, finished=[("old", 2)]))
    model.table.grad = torch.tensor([[-1.0, 0.0], [0.0, 0.0]])
    a_gem.after_backward()
    reference = torch.tensor([[0.375, -0.375], [-0.125, 0.125]])
    expected = torch.tensor([[-1.0, 0.0], [0.0, 0.0]]) + 0.375 / float(reference.square().sum()) * reference
    assert torch.allclose(model.table.grad, expected)


def test_the_first_stage_is_the_plain_method(tmp_path: Path):
    model, a_gem = Lookup([[0.0, 0.0], [0.0, 0.0]]), plugin(type="a-gem")
    asked: list[list[Row]] = []
    a_gem.before_stage(rehearsing(model, tmp_path, index=1, finished=(), asked=asked))
    model.table.grad = torch.tensor([[-1.0, 0.0], [0.0, 0.0]])
    a_gem.after_backward()
    assert model.table.grad.tolist() == [[-1.0, 0.0], [0.0, 0.0]]
    assert asked == []
    assert a_gem.metrics() == {"projected": 0.0}  # no cosine with nothing


def test_dropout_is_off_and_its_random_numbers_stay_the_trainings(tmp_path: Path):
    model, a_gem = Lookup([[0.0, 0.0], [0.0, 0.0]], dropout=0.9), plugin(type="a-gem")
    model.train()
    a_gem.before_stage(rehearsing(model, tmp_path))
    before = torch.get_rng_state()
    model.table.grad = torch.tensor([[-1.0, 0.0], [0.0, 0.0]])
    a_gem.after_backward()
    assert model.table.grad[0].tolist() == pytest.approx([-0.5, -0.5])
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and model.dropout.training


# ---- dark experience replay


def stored(tmp_path: Path, contents: Mapping[Row, Sequence[int]], samples: int) -> Lookup:
    """A first stage that ends with TABLE, on the task `old`."""
    model, first = Lookup(TABLE), plugin(type="der")
    stage = rehearsing(model, tmp_path, contents, index=1, finished=(), task="old", samples=samples)
    first.before_stage(stage)
    assert first.penalty() is None
    first.after_stage(stage)
    return model


def test_der_is_the_squared_distance_of_the_logits(tmp_path: Path):
    model = stored(tmp_path, {}, 1)
    second = plugin(type="der", coefficient=2.0)
    second.before_stage(rehearsing(model, tmp_path))
    assert second.penalty().item() == 0.0
    with torch.no_grad():
        model.table.copy_(torch.tensor([[2.0, 4.0], [9.0, 9.0]]))
    loss = second.penalty()
    assert loss.item() == pytest.approx(2 * (1 + 4) / 2)
    loss.backward()
    assert model.table.grad.tolist() == [[2.0, 4.0], [0.0, 0.0]]  # α · 2 (h − z) / V
    assert second.metrics() == {"mse": pytest.approx(2.5)}


def test_der_is_a_mean_over_tokens_and_rows_whatever_the_padding(tmp_path: Path):
    contents = {("old", 0): (0, 1), ("old", 1): (1, 0, 1, 1)}  # the second one's logits: rows 1, 0, 1 of the table
    model = stored(tmp_path, contents, 2)
    assert sorted(len(found) for found in load_file(tmp_path / "1" / "logits.safetensors").values()) == [1, 3]
    second = plugin(type="der", coefficient=1.0)
    second.before_stage(rehearsing(model, tmp_path, contents, finished=[("old", 2)]))
    with torch.no_grad():
        model.table.add_(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))  # mean squares 2 and 8
    assert second.penalty().item() == pytest.approx((2 + (8 + 2 + 8) / 3) / 2)


def test_der_plus_plus_adds_the_likelihood(tmp_path: Path):
    model = stored(tmp_path, {}, 1)
    second = plugin(type="der", plus=3.0)
    second.before_stage(rehearsing(model, tmp_path))
    nll = math.log(1 + math.exp(-1))  # token 1 from logits (1, 2)
    assert second.penalty().item() == pytest.approx(3 * nll, rel=1e-6)
    assert second.metrics() == {"mse": 0.0, "nll": pytest.approx(nll, rel=1e-6)}


def test_der_carries_every_finished_tasks_logits_along(tmp_path: Path):
    settings = {"type": "der", "samples": 4, "coefficient": 1.0}
    sizes, model = [("a", 9), ("b", 5), ("c", 5)], Lookup(TABLE)
    for index, (task, samples) in enumerate(sizes, start=1):
        der = plugin(**settings)
        stage = rehearsing(model, tmp_path, index=index, finished=sizes[: index - 1], task=task, samples=samples)
        der.before_stage(stage)
        with torch.no_grad():
            model.table.add_(1.0)  # what this stage learns
        der.after_stage(stage)
    left = [load_file(tmp_path / str(index) / "logits.safetensors") for index in (1, 2, 3)]
    counts = [[sum(key.startswith(f"{task}/") for key in found) for task in "abc"] for found in left]
    assert counts == [[4, 0, 0], [2, 2, 0], [2, 1, 1]]
    assert {key[0]: found[0].tolist() for key, found in left[2].items()} == {
        "a": [2.0, 3.0],
        "b": [3.0, 4.0],
        "c": [4.0, 5.0],
    }
    assert all(found.dtype == torch.float16 for found in left[2].values())


def test_der_stores_and_compares_without_dropout(tmp_path: Path):
    model, first = Lookup(TABLE, dropout=0.9), plugin(type="der")
    stage = rehearsing(model, tmp_path, index=1, finished=(), task="old")
    first.before_stage(stage)
    before = torch.get_rng_state()
    first.after_stage(stage)
    second = plugin(type="der")
    second.before_stage(rehearsing(model, tmp_path))
    assert second.penalty().item() == 0.0
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


# ---- what all three have in common


def step_of(kind: str) -> Any:
    def step(made: Plugin, model: Lookup) -> None:
        model.table.grad = torch.ones(2, 2)
        made.after_backward() if kind == "a-gem" else made.penalty()

    return step


@pytest.mark.parametrize("kind", ["a-gem", "der", "side-loss"])
def test_a_resumed_stage_draws_the_same_rows(tmp_path: Path, kind: str):
    stored(tmp_path, {}, 50)
    drawn_rows = {}
    for start in (0, 4):
        model, asked = Lookup(TABLE), []
        side = side_loss(replaying(tmp_path, "type: buffer, loss: supervised")[1])
        made = side if kind == "side-loss" else plugin(type=kind, rows=5)
        made.before_stage(rehearsing(model, tmp_path, step=start, finished=[("old", 50)], asked=asked))
        for _ in range(start, 6):
            step_of(kind)(made, model)
        drawn_rows[start] = asked
    assert len(drawn_rows[0]) == 6
    assert drawn_rows[0][4:] == drawn_rows[4]
    assert len({tuple(rows) for rows in drawn_rows[0]}) == 6


@pytest.mark.parametrize("kind", ["der", "der++", "side-loss"])
def test_a_larger_coefficient_keeps_nearer(tmp_path: Path, kind: str):
    stored(tmp_path, {}, 1)
    left = []
    for coefficient in (0.01, 1.0):
        model = Lookup(TABLE)
        der = {"coefficient": coefficient} if kind == "der" else {"coefficient": 1e-9, "plus": coefficient}
        made = SideLoss(coefficient, lambda step: [("old", 0)]) if kind == "side-loss" else plugin(type="der", **der)
        made.before_stage(rehearsing(model, tmp_path))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            optimizer.zero_grad()
            pull = torch.log_softmax(model.table[0], 0)[1]  # a second task: never token 1 after token 0
            (pull + made.penalty()).backward()
            optimizer.step()
        left.append(made.metrics()["mse" if kind == "der" else "nll"])
    assert 0 < left[1] < 0.9 * left[0]


SFT = "{type: sft, max_steps: 1, per_device_train_batch_size: 8}"


def problems(tmp_path: Path, rest: str, *overrides: str) -> list[str]:
    try:
        load_arm(tmp_path, f"method: {SFT}\n{rest}", "data.samples=40", *overrides)
    except RecipeError as error:
        return error.problems
    return []


@pytest.mark.parametrize("kind", ["a-gem", "der"])
def test_rehearsal_needs_a_finished_task(tmp_path: Path, kind: str):
    rest = f"regularisers: [{{type: {kind}}}]"
    assert problems(tmp_path, rest) == []
    (problem,) = problems(tmp_path, rest, "tasks=[count-colour]")
    assert f"arms.a.regularisers.0: {kind} rehearses finished tasks; name two `tasks:` or more" in problem
    for schedule in ("joint", "single"):
        (problem,) = problems(tmp_path, f"schedule: {schedule}\n{rest}")
        assert f"{kind} rehearses finished tasks and a {schedule} arm has none; leave it out" in problem


@pytest.mark.parametrize("wrong", ["samples: 0", "rows: 0", "coefficient: 0.0", "plus: -1.0"])
def test_sizes_and_weights_have_bounds(tmp_path: Path, wrong: str):
    (problem,) = problems(tmp_path, f"regularisers: [{{type: der, {wrong}}}]")
    assert f"arms.a.regularisers.0.{wrong.partition(':')[0]}: must be greater than" in problem
