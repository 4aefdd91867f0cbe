"""Kinds of tuning: what rules and plans ask of them, and a third one that nothing else knows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_tuning import Scales

from cpt.models.locate import Tensor
from cpt.models.policy import Policy, trainable
from cpt.models.tuning.full import Full
from cpt.models.tuning.lora import LoRA
from cpt.recipe import expand_arms, load_recipe
from cpt.recipe.contradictions import contradictions

KINDS = {
    "full": Full(type="full"),
    "new": LoRA(type="lora", r=2, alpha=4),
    "continued": LoRA(type="lora", r=2, alpha=4, between_stages="continue"),
    "third": Scales(),
}
TENSORS = {
    "a.q_proj.weight": Tensor((4, 3), 48),
    "a.q_proj.bias": Tensor((4,), 16),
    "a.down_proj.weight": Tensor((3, 4), 48),
}


@pytest.mark.parametrize(
    ("kind", "numbers", "dtype"),
    [("full", 28, "float32"), ("new", 28, "bfloat16"), ("continued", 28, "bfloat16"), ("third", 3, "bfloat16")],
)
def test_what_a_plan_asks(kind: str, numbers: int, dtype: str):
    assert KINDS[kind].trained_numbers(TENSORS) == numbers
    assert KINDS[kind].weights_dtype("bfloat16") == dtype


@pytest.mark.parametrize(
    ("setting", "refused"),
    [
        ("regularisers: [{type: ewc}]", {"new", "continued", "third"}),
        ("regularisers: [{type: l2, reference: base}]", {"new", "continued", "third"}),
        ("regularisers: [{type: l2}]", set()),
        ("regularisers: [{type: o-lora}]", {"full", "continued", "third"}),
        ("merge: {type: linear, weight: 0.5}", {"continued", "third"}),
        ("merge: {type: ema, decay: 0.9}", set()),
    ],
)
def test_rules_ask_for_what_a_kind_is_and_not_which(tmp_path: Path, setting: str, refused: set[str]):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "{version: 1, name: t, model: {name_or_path: builtin/tiny-qwen2_5-vl, tuning: TUNING}, "
        "tasks: [count-colour, which-row], arms: {sft: {method: {type: sft}, SETTING}}}".replace(
            "SETTING", setting
        ).replace("TUNING", "lora" if "o-lora" in setting else "full")
    )
    (spec,) = expand_arms(load_recipe(path)).values()
    problems = {kind: [told for _, told in contradictions(replace(spec, tuning=KINDS[kind]))] for kind in KINDS}
    assert {kind for kind, told in problems.items() if told} == refused
    if "merge" in setting and refused:
        assert "; set tuning.between_stages: merge, or use" in problems["continued"][0]
        assert "; use tuning: lora, or use" in problems["third"][0]


class Plain(nn.Module):
    """A model of two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"q_proj": nn.Linear(2, 2, bias=False), "down_proj": nn.Linear(2, 2)})
        with torch.no_grad():
            self.block["q_proj"].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
            self.block["down_proj"].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 2.0]]))
            self.block["down_proj"].bias.copy_(torch.tensor([1.0, -1.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block["down_proj"](self.block["q_proj"](x))


def test_a_third_kind_goes_from_stage_to_stage(tmp_path: Path):
    start, first = tmp_path / "base", tmp_path / "1" / "policy"
    policy = Policy.load(Scales(), lambda folder: Plain(), start)
    assert list(trainable(policy.model)) == ["block.down_proj.scale"]
    trainable(policy.model)["block.down_proj.scale"].data = torch.tensor([2.0, 10.0])
    x = torch.tensor([[1.0, 1.0]])
    assert policy.model(x).tolist() == [[22.0, 130.0]]  # (3 + 7 + 1) · 2 and (2 · 7 - 1) · 10
    pushed = dict(policy.tensors())
    assert {name: value.tolist() for name, value in pushed.items()} == {
        "block.q_proj.weight": [[1.0, 2.0], [3.0, 4.0]],
        "block.down_proj.weight": [[2.0, 2.0], [0.0, 20.0]],
        "block.down_proj.bias": [2.0, -10.0],
    }
    plain = policy.finish(first)
    assert {name: value.tolist() for name, value in plain.named_parameters()} == {
        name: value.tolist() for name, value in pushed.items()
    }
    assert plain(x).tolist() == [[22.0, 130.0]]
    read: list[Path] = []
    again = Policy.load(Scales(), lambda folder: read.append(folder) or Plain(), first, base=start)
    assert read == [start]  # the kept factors belong to the base model's weights
    assert again.model(x).tolist() == [[22.0, 130.0]]
    with pytest.raises(ValueError, match=r"adapter is missing, which the stage goes on with; train the stage before"):
        Policy.load(Scales(), lambda folder: Plain(), tmp_path / "2" / "policy", base=start)


def test_a_merged_kind_starts_from_where_the_stage_before_ended(tmp_path: Path):
    read: list[Path] = []
    start, base = tmp_path / "1", tmp_path / "base"
    policy = Policy.load(KINDS["full"], lambda folder: read.append(folder) or Plain(), start, base)
    assert read == [start]
    assert set(trainable(policy.model)) == {"block.q_proj.weight", "block.down_proj.weight", "block.down_proj.bias"}
    assert policy.finish(tmp_path / "2" / "policy") is policy.model
    assert not (tmp_path / "2").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_freezes_a_part_that_the_model_lacks(kind: str, tmp_path: Path):
    """Of a model on the Hub nobody knew before it was loaded."""
    with pytest.raises(ValueError, match=r"^freeze: Plain has no vision_tower; leave it out$"):
        Policy.load(KINDS[kind], lambda folder: Plain(), tmp_path, freeze=["vision_tower"])
