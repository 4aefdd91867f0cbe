"""Boxes: how they are written, and intersection over union by hand."""

from __future__ import annotations

import pytest

from rewards.boxes import intersection_over_union, read_box
from rewards.registry import make


@pytest.mark.parametrize(
    "text",
    [
        "[10, 20, 30.5, 40]",
        "(10,20),(30.5,40)",
        "10 20 30.5 40",
        "10, 20, 30.5, 40",
        "The box is [10,20,30.5,40].",
        '{"bbox_2d": [10, 20, 30.5, 40], "label": "ball 3, not red"}',
        '```json\n[{"bbox_2d": [10, 20, 30.5, 40]}]\n```',
        "[[10, 20, 30.5, 40]]",
        "[10, 20, 30.5, 40] = [10, 20, 30.5, 40]",
    ],
)
def test_ways_to_write_a_box(text):
    assert read_box(text) == ((10, 20, 30.5, 40), "ok")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[1, 2, 3, 4] or [1, 2, 3, 5]", "ambiguous"),
        ("not [1, 2, 3, 4]", "ambiguous"),
        ("[3, 2, 1, 4]", "malformed"),
        ("[1, 4, 3, 2]", "malformed"),
        ("[1, 2, 1, 4]", "malformed"),
        ("[1, 2, 3]", "malformed"),
        ("[1, 2, 3, 4, 5]", "malformed"),
        ("[1, 2, 3, 4] 5", "malformed"),
        ("10-20-30-40", "malformed"),
        ("[1, 2, 3, 1e9]", "malformed"),
        ("[1, 2, 3, 12345678]", "malformed"),
        ("[１, ２, ３, ４]", "malformed"),
        ("[1, 2, 3, 4]" * 200, "malformed"),
        ("the whole image", "no_answer"),
        ("[]", "no_answer"),
    ],
)
def test_what_is_no_single_box(text, status):
    assert read_box(text) == (None, status)


@pytest.mark.parametrize(
    ("one", "other", "value"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 10, 10), (5, 5, 15, 15), 1 / 7),  # 25 / (100 + 100 - 25)
        ((0, 0, 10, 10), (0, 0, 10, 5), 1 / 2),
        ((0, 0, 4, 4), (1, 1, 3, 3), 1 / 4),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0),
        ((-5, -5, 5, 5), (0, 0, 5, 5), 1 / 4),
    ],
)
def test_overlap_by_hand(one, other, value):
    assert intersection_over_union(one, other) == pytest.approx(value)
    assert intersection_over_union(other, one) == pytest.approx(value)
    said = make("iou")(f"<answer> {list(one)} </answer>", gold=[str(list(other))])
    assert said.value == pytest.approx(value)


def test_the_threshold():
    row = {"gold": ["[0, 0, 10, 10]"]}
    said = "<answer>[0, 0, 10, 5]</answer>"
    assert make("iou-threshold")(said, **row).parts == {"hit": 1, "iou": 0.5}
    assert make("iou-threshold", threshold=0.51)(said, **row).value == 0
    assert make("iou-threshold")("<answer></answer>", **row).parts == {"hit": 0, "iou": 0}
    with pytest.raises(ValueError, match="threshold"):
        make("iou-threshold", threshold=1.5)(said, **row)


def test_the_best_of_several_gold_boxes():
    assert make("iou")("<answer>[0,0,10,10]</answer>", gold=["[50,50,60,60]", "[0,0,10,5]"]).value == 0.5


def test_coordinates_that_are_shares_of_the_image():
    row = {"gold": ["[10, 20, 30, 60]"], "meta": {"width": 100, "height": 200}}
    assert make("iou", coordinates="unit")("<answer>[0.1, 0.1, 0.3, 0.3]</answer>", **row).value == pytest.approx(1)
    thousandths = make("iou", coordinates="thousandths")
    assert thousandths("<answer>[100, 100, 300, 200]</answer>", **row).value == pytest.approx(1 / 2)
    assert thousandths("<answer>[100, 100, 300, 1001]</answer>", **row).status == "malformed"
    assert thousandths("<answer>[100, 100, 300, 200]</answer>", gold=row["gold"]).status == "error"


def test_gold_has_to_be_boxes():
    for gold in (["red"], ["[0, 0, 1, 1]", "[1, 1, 0, 0]"], []):
        for name in ("iou", "iou-threshold"):
            assert make(name)("<answer>[0, 0, 1, 1]</answer>", gold=gold).status == "error"
