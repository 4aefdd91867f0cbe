"""Parameters that are held still, and how places in a model are read from names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy_stage import stage_of
from toys import Toy, plugin

from cpt.methods.blocks import block_of, is_text_embedding, text_layer
from cpt.methods.plugin import Plugin

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


def free_in(tmp_path: Path, seed_of_stage: int, optimizer: str = "sgd", **settings: Any) -> set[str]:
    model = Toy(BLOCKS)
    half = plugin(type="hft", **settings)
    half.before_stage(stage_of(model, tmp_path, seed=seed_of_stage))
    return trained(model, half, OPTIMIZERS[optimizer](model.parameters()))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_half_of_every_block_does_not_move(tmp_path: Path, optimizer: str):
    moved = free_in(tmp_path, 1, optimizer)
    for layer in range(3):
        assert sum(f"{PREFIX}.{layer}." in name for name in moved) == 2  # of four
    assert sum("visual.blocks" in name for name in moved) == 2  # of three, one is held
    assert {"lm_head.weight", "model.language_model.embed_tokens.weight"} <= moved


def test_the_halves_depend_on_the_stages_seed_and_the_settings(tmp_path: Path):
    assert free_in(tmp_path, 1) == free_in(tmp_path, 1)
    assert len({frozenset(free_in(tmp_path, stage)) for stage in range(5)}) > 1
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
