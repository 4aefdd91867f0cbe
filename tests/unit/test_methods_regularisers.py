"""Regularisers on toy modules: values by hand, gradients by formula, and what goes from stage to stage."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import yaml
from pydantic import TypeAdapter
from torch import nn

from cpt.methods.blocks import block_of, is_text_embedding, text_layer
from cpt.methods.likelihood import nll
from cpt.methods.masks import largest
from cpt.methods.plugin import Batch, Plugin, Setting, Stage
from cpt.methods.registry import AnyRegulariser, Regulariser
from cpt.recipe import RecipeError, load_recipe

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adding_a_method.md"


class Toy(nn.Module):
    """Holds tensors under given names, dots included, so that the names can be those of a large model."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        for name, value in tensors.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, nn.Module())
                module = getattr(module, part)
            module.register_parameter(last, nn.Parameter(torch.tensor(value, dtype=torch.float32)))


class Lookup(nn.Module):
    """Logits of the next token are a row of a table: [vocabulary, vocabulary]."""

    def __init__(self, table: list[list[float]]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(table))

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


def stage_of(
    model: nn.Module,
    memory: Path,
    index: int = 1,
    earlier: Path | None = None,
    batches: Iterable[Batch] = (),
    references: Mapping[str, nn.Module] | None = None,
) -> Stage:
    """A stage by hand. `batches` are rows one by one, of which as many are given as are asked for."""
    return Stage(
        index=index,
        seed=0,
        step=0,
        task="new",
        samples=1,
        finished=(),
        model=model,
        parameters=dict(model.named_parameters()),
        memory=memory,
        earlier=earlier,
        batches=lambda samples, rows: list(batches)[:samples],
        batch_of=lambda rows: next(iter(batches)),
        reference=lambda name: (references or {})[name],
    )


def plugin(**settings: Any) -> Plugin:
    setting: AnyRegulariser = TypeAdapter(Regulariser).validate_python(settings)
    return setting.plugin()


def move(model: nn.Module, **values: Any) -> None:
    """Set parameters."""
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(torch.tensor(value, dtype=torch.float32))


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, list[Any]]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.tolist() for name, p in model.named_parameters() if p.grad is not None}


def finished(model: nn.Module, memory: Path, index: int, earlier: Path | None, **settings: Any) -> None:
    """A stage that ends with the model as it is now, and started with it too."""
    done = plugin(**settings)
    stage = stage_of(model, memory, index, earlier)
    done.before_stage(stage)
    done.after_stage(stage)


def row(*ids: int, prompt: int = 1) -> Batch:
    """One row; the first `prompt` tokens are no completion."""
    tokens = torch.tensor([ids])
    labels = tokens.clone()
    labels[:, :prompt] = -100
    return Batch({"input_ids": tokens}, labels)


# ---- anchors: EWC and MAS

TABLE = [[1.0, 2.0], [0.0, 3.0]]


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
    model, left = ended(tmp_path, settings, row(0, 1), row(1, 0), row(1, 1))
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
    model, left = ended(tmp_path, {"type": "mas", "coefficient": 2.0, "samples": 1}, row(0, 1, 0))
    second = plugin(type="mas", coefficient=2.0)
    second.before_stage(stage_of(model, tmp_path / "2", 2, left))
    move(model, table=[[2.0, 3.0], [1.0, 4.0]])
    assert second.penalty().item() == pytest.approx(1 + 2 + 0 + 3)


def test_mas_adds_up_over_tasks_and_keeps_the_last_place(tmp_path: Path):
    settings = {"type": "mas", "coefficient": 2.0, "samples": 1}
    model, left = ended(tmp_path, settings, row(0, 1))  # Ω = [[2, 4], [0, 0]]
    second = plugin(**settings)
    move(model, table=[[1.0, 2.0], [1.0, 3.0]])
    stage = stage_of(model, tmp_path / "2", 2, left, [row(1, 0)])  # + [[0, 0], [2, 6]]
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
    model, left = ended(tmp_path, settings, row(0, 1), row(0, 1))
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
    model, left = ended(tmp_path, settings, row(0, 1))
    p0 = 1 / (1 + math.e)
    second = plugin(**settings)
    move(model, table=[[2.0, 3.0], [0.0, 3.0]])  # both logits up by one: the softmax is the same, θ* is not
    stage = stage_of(model, tmp_path / "2", 2, left, [row(0, 1)])
    second.before_stage(stage)
    second.after_stage(stage)
    third = plugin(**settings)
    third.before_stage(stage_of(model, tmp_path / "3", 3, tmp_path / "2"))
    move(model, table=[[3.0, 3.0], [0.0, 3.0]])
    assert third.penalty().item() == pytest.approx(p0**2 * squares, rel=1e-5)


# ---- L2 and LwF


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


def test_lwf_is_the_divergence_from_the_stages_start(tmp_path: Path):
    start, model = Lookup([[0.0, 0.0], [7.0, 0.0]]), Lookup([[2.0, 0.0], [0.0, 0.0]])
    lwf = plugin(type="lwf", coefficient=3.0, temperature=2.0)
    lwf.before_stage(stage_of(model, tmp_path, references={"stage_start": start}))
    loss = lwf.term(model, row(0, 1))  # the row of token 1 is not looked at
    q = math.e / (1 + math.e)  # softmax((2, 0) / 2)
    kl = 0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q))
    assert loss.item() == pytest.approx(3 * 2**2 * kl, rel=1e-5)
    assert lwf.metrics() == {"kl": pytest.approx(kl, rel=1e-5)}
    # d/dz of T² KL(p‖softmax(z/T)) = T (q − p)
    expected = 3 * 2 * (q - 0.5)
    assert gradients(model, loss)["table"] == [pytest.approx([expected, -expected], rel=1e-5), [0.0, 0.0]]
    assert start.table.grad is None
    assert lwf.term(start, row(0, 1)).item() == 0.0


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


# ---- freezing

PREFIX = "model.language_model.layers"
BLOCKS = {
    "model.language_model.embed_tokens.weight": [0.1, 0.2],
    **{f"{PREFIX}.{i}.{part}.weight": [1.0 * i, 2.0] for i in range(3) for part in ("a", "b", "c", "d")},
    **{f"model.visual.blocks.0.{part}": [3.0] for part in ("qkv", "proj", "norm")},
    "lm_head.weight": [4.0, 5.0],
}


@pytest.mark.parametrize(
    ("name", "layer", "block"),
    [
        (f"{PREFIX}.3.mlp.up_proj.weight", 3, f"{PREFIX}.3."),
        ("model.layers.10.self_attn.q_proj.bias", 10, "model.layers.10."),
        ("transformer.h.0.ln_1.weight", 0, "transformer.h.0."),
        ("model.visual.blocks.1.norm1.weight", None, "model.visual.blocks.1."),
        ("vision_tower.encoder.layers.2.fc1.weight", None, "vision_tower.encoder.layers.2."),
        (f"base_model.model.{PREFIX}.1.q.lora_A.default.weight", 1, f"base_model.model.{PREFIX}.1."),
        (f"{PREFIX}.2.mlp.experts.7.up.weight", 2, f"{PREFIX}.2."),
        ("model.visual.merger.mlp.0.weight", None, None),
        ("lm_head.weight", None, None),
    ],
)
def test_places_are_read_from_names(name: str, layer: int | None, block: str | None):
    assert (text_layer(name), block_of(name)) == (layer, block)


def test_the_text_embedding_is_known_by_its_name():
    assert is_text_embedding("model.language_model.embed_tokens.weight")
    assert not is_text_embedding("vision_model.embeddings.patch_embedding.weight")
    assert not is_text_embedding(f"{PREFIX}.0.a.weight")


def trained(model: nn.Module, held: Plugin, optimizer: torch.optim.Optimizer, steps: int = 2) -> set[str]:
    """Names of the parameters that steps on the sum of squares move."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(steps):
        optimizer.zero_grad()
        sum((p - 7).square().sum() for p in model.parameters()).backward()
        held.after_backward()
        optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.0, fused=True),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_bottom_layers_do_not_move_from_the_second_task_on(tmp_path: Path, optimizer: str):
    model = Toy(BLOCKS)
    make = OPTIMIZERS[optimizer]
    first = plugin(type="freeze-bottom", layers=2)
    first.before_stage(stage_of(model, tmp_path, 1))
    assert trained(model, first, make(model.parameters())) == set(BLOCKS)
    second = plugin(type="freeze-bottom", layers=2)
    second.before_stage(stage_of(model, tmp_path, 2, tmp_path))
    still = {name for name in BLOCKS if f"{PREFIX}.0." in name or f"{PREFIX}.1." in name or "embed" in name}
    assert trained(model, second, make(model.parameters())) == set(BLOCKS) - still
    assert first.metrics() == {"frozen_share": 0.0}
    assert second.metrics() == {"frozen_share": pytest.approx(18 / 31)}


def test_the_embedding_may_be_left_free(tmp_path: Path):
    model = Toy(BLOCKS)
    held = plugin(type="freeze-bottom", layers=1, embeddings=False)
    held.before_stage(stage_of(model, tmp_path, 2, tmp_path))
    moved = trained(model, held, torch.optim.SGD(model.parameters(), lr=0.1))
    assert set(BLOCKS) - moved == {f"{PREFIX}.0.{part}.weight" for part in "abcd"}


def test_more_layers_than_there_are_is_refused_in_the_first_stage(tmp_path: Path):
    with pytest.raises(ValueError, match=r"layers is 4, but 3 text layers are trained"):
        plugin(type="freeze-bottom", layers=4).before_stage(stage_of(Toy(BLOCKS), tmp_path, 1))


def free_in(tmp_path: Path, index: int, optimizer: str = "sgd", **settings: Any) -> set[str]:
    model = Toy(BLOCKS)
    half = plugin(type="hft", **settings)
    half.before_stage(stage_of(model, tmp_path, index))
    return trained(model, half, OPTIMIZERS[optimizer](model.parameters()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_half_of_every_block_does_not_move(tmp_path: Path, optimizer: str):
    moved = free_in(tmp_path, 1, optimizer)
    for layer in range(3):
        assert sum(f"{PREFIX}.{layer}." in name for name in moved) == 2  # of four
    assert sum("visual.blocks" in name for name in moved) == 2  # of three, one is held
    assert {"lm_head.weight", "model.language_model.embed_tokens.weight"} <= moved


def test_the_halves_depend_on_stage_and_seed_alone(tmp_path: Path):
    assert free_in(tmp_path, 1) == free_in(tmp_path, 1)
    assert len({frozenset(free_in(tmp_path, index)) for index in range(1, 6)}) > 1
    assert len({frozenset(free_in(tmp_path, 1, seed=seed)) for seed in range(5)}) > 1


def test_what_is_frozen_ignores_other_plugins_penalties_too(tmp_path: Path):
    model = Toy(BLOCKS)
    held = plugin(type="freeze-bottom", layers=3)
    held.before_stage(stage_of(model, tmp_path, 2, tmp_path))
    l2 = plugin(type="l2", coefficient=1.0, reference="base")
    l2.before_stage(
        stage_of(model, tmp_path, 2, references={"base": Toy({n: [9.0] * len(v) for n, v in BLOCKS.items()})})
    )
    l2.penalty().backward()
    held.after_backward()
    assert model.get_parameter(f"{PREFIX}.2.a.weight").grad.tolist() == [0.0, 0.0]
    assert model.get_parameter("lm_head.weight").grad.tolist() == [-5.0, -4.0]


# ---- adapters: O-LoRA and RegLoRA

MODULE = "base_model.model.layers.0.q_proj"


def adapter(a: list[list[float]], b: list[list[float]]) -> Toy:
    return Toy({f"{MODULE}.lora_A.default.weight": a, f"{MODULE}.lora_B.default.weight": b})


def factors(model: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    return model.get_parameter(f"{MODULE}.lora_A.default.weight"), model.get_parameter(
        f"{MODULE}.lora_B.default.weight"
    )


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


# ---- more of it keeps nearer


def new_adapter() -> Toy:
    return adapter([[1.0, 0.5]], [[0.0], [0.0]])


def fit_first(model: nn.Module) -> torch.Tensor:
    """Loss of a first task: token 1 after token 0, or a BA with one large entry."""
    return nll(model, row(0, 1)) if isinstance(model, Lookup) else distance(model, [[2.0, 0.0], [0.0, 0.0]])


def fit_second(model: nn.Module) -> torch.Tensor:
    """Loss of a second task that pulls at what the first one needs."""
    return nll(model, row(0, 0)) if isinstance(model, Lookup) else distance(model, [[-2.0, 1.0], [0.0, 1.0]])


def distance(model: nn.Module, target: list[list[float]]) -> torch.Tensor:
    a, b = factors(model)
    return (b @ a - torch.tensor(target)).square().sum()


@pytest.mark.parametrize(
    ("settings", "make", "little", "much"),
    [
        ({"type": "ewc", "samples": 1}, lambda: Lookup(TABLE), 0.1, 10.0),
        ({"type": "mas", "samples": 1}, lambda: Lookup(TABLE), 0.01, 1.0),
        ({"type": "l2"}, lambda: Lookup(TABLE), 0.01, 1.0),
        ({"type": "cpo", "share": 0.5}, lambda: Lookup(TABLE), 0.01, 0.5),
        ({"type": "o-lora"}, new_adapter, 0.001, 0.5),
        ({"type": "reg-lora", "share": 0.25}, new_adapter, 0.01, 1.0),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_larger_coefficient_keeps_nearer(
    tmp_path: Path, settings: dict[str, Any], make: Callable[[], nn.Module], little: float, much: float
):
    left = []
    for coefficient in (little, much):
        model, earlier = make(), None
        for index, fit in ((1, fit_first), (2, fit_second)):
            memory = tmp_path / f"{coefficient}" / str(index)
            if index == 2 and not isinstance(model, Lookup):
                model = make()
            regulariser = plugin(coefficient=coefficient, **settings)
            stage = stage_of(model, memory, index, earlier, [row(0, 1)])
            regulariser.before_stage(stage)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
            for _ in range(20):
                penalty = regulariser.penalty()
                loss = fit(model) if penalty is None else fit(model) + penalty
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            end = regulariser.penalty()
            regulariser.after_stage(stage)
            earlier = memory
        left.append(end.item() / coefficient)
    assert 0 < left[1] < 0.9 * left[0]


# ---- every regulariser


@pytest.mark.parametrize("setting", get_args(AnyRegulariser), ids=lambda setting: setting.__name__)
def test_every_regulariser_says_what_it_is_and_costs(setting: type[Setting]):
    (name,) = get_args(setting.model_fields["type"].annotation)
    assert setting(type=name).plugin().metrics()  # every other setting has a default
    assert "arXiv" in setting.__doc__
    assert f"| `{name}` |" in GUIDE.read_text(encoding="utf-8")


RECIPE = """\
version: 1
name: demo
model: {name_or_path: builtin/tiny-qwen2_5-vl}
tasks: [count-colour, which-row]
arms:
  a:
    method: {type: sft, max_steps: 1, weight_decay: DECAY}
    tuning: TUNING
    regularisers: [{type: KIND}]
"""
FRESH, CONTINUED = "{type: lora}", "{type: lora, between_stages: continue}"


def problems(tmp_path: Path, kind: str, tuning: str = "full", decay: float = 0.0) -> list[str]:
    file = tmp_path / "demo.yaml"
    file.write_text(RECIPE.replace("KIND", kind).replace("TUNING", tuning).replace("DECAY", str(decay)))
    try:
        load_recipe(file)
    except RecipeError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("kind", "tuning", "decay", "remedy"),
    [
        ("mas", FRESH, 0.0, "mas needs tuning: full"),
        ("cpo", FRESH, 0.0, "cpo needs tuning: full"),
        ("hft", FRESH, 0.0, "hft needs tuning: full"),
        ("hft", "full", 0.01, "hft holds parameters still, weight decay moves them; set method.weight_decay: 0"),
        ("freeze-bottom", "full", 0.01, "freeze-bottom holds parameters still"),
        ("o-lora", "full", 0.0, "o-lora acts on adapters; set tuning: {type: lora}"),
        ("reg-lora", "full", 0.0, "reg-lora acts on adapters"),
        (
            "o-lora",
            CONTINUED,
            0.0,
            "o-lora compares the adapters of different stages; set tuning.between_stages: merge",
        ),
        ("reg-lora", CONTINUED, 0.0, "reg-lora compares the adapters of different stages"),
    ],
)
def test_what_cannot_work_together_is_refused(tmp_path: Path, kind: str, tuning: str, decay: float, remedy: str):
    (problem,) = problems(tmp_path, kind, tuning, decay)
    assert "arms.a.regularisers.0: " + remedy in problem


def test_the_base_model_has_no_adapter_to_be_near(tmp_path: Path):
    (problem,) = problems(tmp_path, "l2, reference: base", FRESH)
    assert "arms.a.regularisers.0.reference: the base model has no adapter" in problem
    assert problems(tmp_path, "l2, reference: base") == []


@pytest.mark.parametrize(
    ("kind", "tuning", "decay"),
    [
        *((kind, "full", 0.0) for kind in ("ewc", "mas", "l2", "lwf", "cpo", "freeze-bottom", "hft")),
        *((kind, FRESH, 0.01) for kind in ("l2", "lwf", "o-lora", "reg-lora")),
        *((kind, CONTINUED, 0.0) for kind in ("l2", "lwf", "freeze-bottom")),
    ],
)
def test_what_works_together_is_accepted(tmp_path: Path, kind: str, tuning: str, decay: float):
    assert problems(tmp_path, kind, tuning, decay) == []


# ---- the guide's worked example


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the guide writes, as it stands there."""
    (source,) = re.findall(r"```python\n# cpt/methods/confidence\.py\n(.+?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    file = tmp_path / "confidence.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("confidence", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "confidence", module)
    spec.loader.exec_module(module)
    return module


def test_the_guides_example_is_one_more_regulariser(guide: Any):
    registry = TypeAdapter(AnyRegulariser | guide.Confidence)
    (written,) = re.findall(r"regularisers: \[(\{type: confidence.*?\})\]", GUIDE.read_text("utf-8"))
    setting = registry.validate_python(yaml.safe_load(written))
    assert isinstance(setting, guide.Confidence)
    assert isinstance(setting.plugin(), guide.ConfidencePlugin)


def test_the_guides_example_does_what_it_says(guide: Any):
    even = Lookup([[3.0, 3.0], [9.0, 0.0]])
    plugin = guide.Confidence(type="confidence", coefficient=0.5).plugin()
    loss = plugin.term(even, row(0, 1))
    assert loss.item() == pytest.approx(-0.5 * math.log(2))
    assert gradients(even, loss)["table"] == [pytest.approx([0.0, 0.0], abs=1e-6), [0.0, 0.0]]  # the largest entropy
    p = math.e / (1 + math.e)
    sure = Lookup([[1.0, 0.0], [0.0, 0.0]])
    loss = plugin.term(sure, row(0, 1))
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert loss.item() == pytest.approx(-0.5 * entropy, rel=1e-5)
    assert plugin.metrics() == {"entropy": pytest.approx(entropy, rel=1e-5)}
    # ∂(−H)/∂z_0 = p (log p + H)
    expected = 0.5 * p * (math.log(p) + entropy)
    assert gradients(sure, loss)["table"][0] == pytest.approx([expected, -expected], rel=1e-4)
