"""Merging: by hand on tensors of a few numbers, exact where nothing may change; and what recipes may say of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from folders import load_arm

from cpt.methods import merge
from cpt.methods.blocks import relative_depths
from cpt.methods.merge import EMA, LinearMerge, LinesMerge, SlerpMerge, StageWeights, WarpMerge
from cpt.plan.make import make_plan
from cpt.recipe import RecipeError, expand_arms, load_recipe

START = {"w": torch.tensor([1.0, 2.0]), "v": torch.tensor([[0.5]])}
END = {"w": torch.tensor([3.0, -2.0]), "v": torch.tensor([[0.5]])}
AWKWARD = torch.tensor([0.1, 1e-7, 3e8, -7.3, 1 / 3])  # a + (b − a) is not b here


def values(merged: Any) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in merged}


# ---- linear


def test_linear_lies_between():
    assert values(merge.linear(START, END, 0.25)) == {"w": [1.5, 1.0], "v": [[0.5]]}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_ends_of_an_interpolation_are_exact(dtype: torch.dtype):
    a, b, origin = ({"w": tensor.to(dtype)} for tensor in (AWKWARD, AWKWARD.flip(0), torch.ones(5)))
    for weight, expected in ((0.0, a), (1.0, b)):
        for merged in (merge.linear(a, b, weight), merge.slerp(origin, a, b, weight), merge.lines(a, b, weight, 0.0)):
            ((_, tensor),) = merged
            assert tensor.dtype == dtype
            assert tensor.equal(expected["w"])


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.7])
def test_what_has_not_moved_stays_bit_by_bit(weight: float):
    same = {"w": AWKWARD}
    origin = {"w": AWKWARD * 0.9}
    for merged in (
        merge.linear(same, dict(same), weight),
        merge.slerp(origin, same, dict(same), weight),
        merge.slerp(same, same, dict(same), weight),
        merge.lines(same, dict(same), weight, 0.1),
    ):
        ((_, tensor),) = merged
        assert tensor.equal(AWKWARD)


def test_arithmetic_is_float32_whatever_the_storage():
    generator = torch.Generator().manual_seed(0)
    stored = [{"w": torch.randn(64, generator=generator).bfloat16()} for _ in range(3)]
    exact = [{"w": weights["w"].float()} for weights in stored]
    ((_, rounded),), ((_, whole),) = (merge.slerp(*weights, 0.3) for weights in (stored, exact))
    assert rounded.dtype == torch.bfloat16
    assert rounded.equal(whole.bfloat16())


def test_what_is_no_float_is_left_alone():
    start = {"steps": torch.tensor([1, 2]), "seen": torch.tensor([True])}
    end = {"steps": torch.tensor([5, 6]), "seen": torch.tensor([False])}
    assert values(merge.linear(start, end, 0.5)) == {"steps": [5, 6], "seen": [False]}


def test_merging_leaves_its_arguments_alone():
    before = {name: tensor.clone() for name, tensor in END.items()}
    dict(merge.linear(START, END, 0.5))
    dict(merge.slerp(START, END, END, 0.5))
    assert all(END[name].equal(before[name]) for name in END)


# ---- slerp


def from_origin(first: list[float], second: list[float], weight: float) -> list[float]:
    origin = torch.tensor([10.0, 20.0])
    a, b = ({"w": origin + torch.tensor(vector)} for vector in (first, second))
    ((_, tensor),) = merge.slerp({"w": origin}, a, b, weight)
    return (tensor - origin).tolist()


def test_orthogonal_task_vectors_turn_through_a_right_angle():
    third = [2 * math.cos(math.pi / 6), 2 * math.sin(math.pi / 6)]  # of the way from (2, 0) to (0, 2): 30°
    assert from_origin([2.0, 0.0], [0.0, 2.0], 1 / 3) == pytest.approx(third, abs=1e-5)
    half = math.sqrt(0.5)  # sin 45° / sin 90°
    assert from_origin([1.0, 0.0], [0.0, 3.0], 0.5) == pytest.approx([half, 3 * half], abs=1e-5)


def test_an_acute_angle_follows_the_formula():
    # 60° between (1, 0) and (1, √3)/2; sin 30° / sin 60° = 1/√3 of each.
    found = from_origin([1.0, 0.0], [0.5, math.sqrt(0.75)], 0.5)
    assert found == pytest.approx([1.5 / math.sqrt(3), 0.5], abs=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1.0, 2.0], [3.0, 6.0], [1.5, 3.0]),  # parallel
        ([4.0, 0.0], [-4.0, 0.0], [2.0, 0.0]),  # opposite: no plane to turn in
        ([0.0, 0.0], [4.0, 8.0], [1.0, 2.0]),  # the first stage: its start is the origin
        ([4.0, 8.0], [0.0, 0.0], [3.0, 6.0]),
    ],
)
def test_without_an_angle_it_is_linear(first: list[float], second: list[float], expected: list[float]):
    assert from_origin(first, second, 0.25) == pytest.approx(expected, abs=1e-5)


def test_every_tensor_has_its_own_angle():
    zero = {"a": torch.zeros(2), "b": torch.zeros(2, 1)}
    first = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([[1.0], [0.0]])}
    second = {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([[1.0], [0.0]])}
    found = values(merge.slerp(zero, first, second, 0.5))
    assert found["a"] == pytest.approx([math.sqrt(0.5)] * 2)
    assert found["b"] == [[1.0], [0.0]]


# ---- WARP


def test_warp_merges_around_the_start_and_draws_back():
    start = {"w": torch.tensor([10.0, 20.0])}
    ends = [{"w": torch.tensor(place)} for place in ([12.0, 20.0], [10.0, 24.0])]  # task vectors (2, 0) and (0, 4)
    half = math.sqrt(0.5)
    for policies in (ends, ends[::-1]):
        ((_, found),) = merge.warp(start, policies, 0.25)
        assert found.tolist() == pytest.approx([10 + 0.25 * 2 * half, 20 + 0.25 * 4 * half], abs=1e-5)
    assert values(merge.warp(start, ends, 0.0)) == {"w": [10.0, 20.0]}
    assert values(merge.warp(start, [ends[0], ends[0]], 1.0)) == {"w": [12.0, 20.0]}


def test_warp_of_three_gives_each_the_same_part():
    origin = {"w": torch.zeros(3)}
    ((_, found),) = merge.warp(origin, [{"w": row} for row in torch.eye(3)], 1.0)
    # e1 and e2 meet at 45°; from there a third of the right angle towards e3: cos 30° · (1, 1, 0)/√2 + sin 30° · e3.
    assert found.tolist() == pytest.approx([math.sqrt(0.375), math.sqrt(0.375), 0.5], abs=1e-6)


def test_warp_is_several_trainings_from_one_start(recipe: Any):
    plain = make_plan(recipe()).stages[0]
    stage = make_plan(recipe(", merge: {type: warp, runs: 3}")).stages[0]
    assert (plain.steps, stage.steps, plain.trainings) == (2, 6, [plain])
    first, second, last = stage.trainings
    assert [training.steps for training in (first, second, last)] == [2, 2, 2]
    assert [training.merge for training in (first, second, last)] == [None, None, stage.merge]
    assert first.stream == plain.stream
    assert len({training.stream for training in (first, second, last)}) == 3


# ---- LiNeS

NAMES = {
    "model.visual.patch_embed.proj.weight": 0.0,
    "model.visual.blocks.0.attn.qkv.weight": 0.0,
    "model.visual.blocks.1.attn.qkv.weight": 1.0,
    "model.visual.merger.mlp.0.weight": 0.0,
    "model.language_model.embed_tokens.weight": 0.0,
    "model.language_model.layers.0.mlp.up_proj.weight": 0.0,
    "model.language_model.layers.1.mlp.up_proj.weight": 0.5,
    "model.language_model.layers.2.mlp.up_proj.weight": 1.0,
    "model.language_model.norm.weight": 0.0,
    "lm_head.weight": 0.0,
}


def test_depth_is_counted_in_each_stack_of_blocks_by_itself():
    assert relative_depths(NAMES) == NAMES
    assert relative_depths(["layers.0.weight"]) == {"layers.0.weight": 1.0}
    assert relative_depths(["vision_model.embeddings.position_embedding.weight", "visual.pos_embed"]) == {
        "vision_model.embeddings.position_embedding.weight": 0.0,
        "visual.pos_embed": 0.0,
    }


def test_lines_keeps_more_of_the_deeper_blocks():
    start = {f"layers.{i}.w": torch.tensor([1.0]) for i in range(3)} | {"embed_tokens.weight": torch.tensor([1.0])}
    end = {name: torch.tensor([9.0]) for name in start}
    # 1 + 8 · (0.25 + 0.5 · depth)
    assert values(merge.lines(start, end, 0.25, 0.5)) == {
        "layers.0.w": [3.0],
        "layers.1.w": [5.0],
        "layers.2.w": [7.0],
        "embed_tokens.weight": [3.0],
    }


def test_each_setting_merges_what_it_says():
    """Where a later stage starts from (2), the base (0) and two trainings' ends (4 and 6); numbers on one line."""
    base, start, other, end = ({"w": torch.tensor([number])} for number in (0.0, 2.0, 4.0, 6.0))
    later = StageWeights(start=start, end=end, base=lambda: base, others=lambda: [other])
    first = StageWeights(start=start, end=end, base=None, others=list)
    for setting, in_later, in_first in (
        (LinearMerge(type="linear", weight=0.25), 3.0, 3.0),
        (LinearMerge(type="linear", weight=0.25, reference="base"), 1.5, 3.0),
        (SlerpMerge(type="slerp", weight=0.25), 3.0, 3.0),
        (LinesMerge(type="lines", alpha=0.25, beta=1.0, reference="base"), 1.5, 3.0),
        (WarpMerge(type="warp", interpolation=0.5), 3.5, 4.0),
    ):
        assert values(setting.merged(later)) == {"w": [in_later]}, setting
        assert values(setting.merged(first)) == {"w": [in_first]}, setting
    assert values(EMA(type="ema").merged(later)) == {}  # a plug-in has done it
    assert EMA(type="ema", decay=0.5).plugin().decay == 0.5


def test_distance_is_euclidean_over_all_tensors():
    there = {"a": torch.zeros(2), "b": torch.tensor([[1.0]], dtype=torch.bfloat16), "n": torch.tensor([7])}
    here = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[5.0]], dtype=torch.bfloat16), "n": torch.tensor([0])}
    assert merge.distance(here.items(), there) == pytest.approx(5.0)


# ---- in a recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    def load(merge: str = "", tuning: str = "full") -> Any:
        return load_arm(tmp_path, f"{{method: {{type: sft, max_steps: 2}}, tuning: {tuning} {merge}}}")

    return load


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{type: linear, weight: 0.3, reference: base}", LinearMerge(type="linear", weight=0.3, reference="base")),
        ("linear", LinearMerge(type="linear", weight=0.5, reference="stage_start")),
        ("{type: slerp, weight: 1}", SlerpMerge(type="slerp", weight=1.0)),
        ("{type: lines, alpha: 0.2}", LinesMerge(type="lines", alpha=0.2, beta=0.5)),
        ("{type: ema, decay: 0.9}", EMA(type="ema", decay=0.9)),
        ("warp", WarpMerge(type="warp", runs=2, interpolation=0.3)),
    ],
)
def test_what_a_recipe_says_reaches_every_stage(recipe: Any, tmp_path: Path, written: str, meant: Any):
    loaded = recipe(f", merge: {written}")
    assert expand_arms(loaded)["a"].merge == meant
    assert [stage.merge for stage in make_plan(loaded).stages] == [meant, meant]
    (tmp_path / "again.yaml").write_text(loaded.dump_yaml())
    assert load_recipe(tmp_path / "again.yaml") == loaded


def test_merging_is_part_of_a_stages_key_and_its_absence_is_not(recipe: Any):
    (plain, _), (half, _), (third, _) = (
        make_plan(recipe(text)).stages for text in ("", ", merge: linear", ", merge: {type: linear, weight: 0.3}")
    )
    assert len({plain.key, half.key, third.key}) == 3
    assert make_plan(recipe(", merge: null")).stages[0].key == plain.key


def test_a_weight_can_be_swept(recipe: Any):
    arms = expand_arms(recipe(", merge: linear, sweep: {merge.weight: [0.2, 0.8]}"))
    assert {name: arm.merge.weight for name, arm in arms.items()} == {"a@weight=0.2": 0.2, "a@weight=0.8": 0.8}


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("{type: linear, weight: 1.5}", "arms.a.merge.weight: must be less than or equal to 1, not 1.5"),
        ("{type: slerp, reference: base}", "arms.a.merge.reference: belongs to type: linear or lines"),
        ("{type: warp, runs: 1}", "arms.a.merge.runs: must be greater than or equal to 2, not 1"),
        ("{type: ema, decay: 1.0}", "arms.a.merge.decay: must be less than 1, not 1.0"),
        ("{type: lines, alpha: -1}", "arms.a.merge.alpha: must be greater than or equal to 0, not -1"),
        ("{type: liner}", "arms.a.merge: unknown type 'liner'; did you mean 'linear'?"),
        ("{type: linear, reference: start}", "unknown value 'start'; did you mean 'stage_start'?"),
    ],
)
def test_what_cannot_be_is_refused(recipe: Any, written: str, problem: str):
    with pytest.raises(RecipeError) as caught:
        recipe(f", merge: {written}")
    assert problem in caught.value.problems[0]


CONTINUED = "{type: lora, between_stages: continue}"


@pytest.mark.parametrize("kind", ["linear", "slerp", "lines", "warp"])
def test_a_continued_adapter_is_not_merged(recipe: Any, kind: str):
    with pytest.raises(RecipeError) as caught:
        recipe(f", merge: {kind}", CONTINUED)
    assert (
        "arms.a.merge: the next stage goes on with the adapter, which is not merged; "
        "set tuning.between_stages: merge, or use type: ema"
    ) in caught.value.problems[0]
    assert recipe(f", merge: {kind}", "lora")


def test_a_continued_adapter_can_be_averaged(recipe: Any):
    assert recipe(", merge: ema", CONTINUED)
