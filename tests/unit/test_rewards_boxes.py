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
        "[10 20 30.5 40]",
        "[10; 20; 30.5; 40]",
        "[10. 20. 30.5 40.]",
        "【10, 20, 30.5, 40】",
        "[1e1, 2e1, 3.05e1, 4.0E+1]",
        "[[10,20],[30.5,40]]",
        "(10 20) (30.5 40)",
        "(10,20)-(30.5,40)",
        "<box>10,20,30.5,40</box>",
        "<|object_ref_start|>the ball<|object_ref_end|><|box_start|>(10,20),(30.5,40)<|box_end|>",
        '{"x1": 10, "y1": 20, "x2": 30.5, "y2": 40}',
        '{"xmin": 10, "xmax": 30.5, "ymin": 20, "ymax": 40}',
        "left: 10, top: 20, right: 30.5, bottom: 40",
        '{"x": 10, "y": 20, "width": 20.5, "height": 20}',
        "[x1=10, y1=20, x2=30.5, y2=40]",
        "[{'Position': [10, 20, 30.5, 40], 'Confidence': 0.9}]",
        '{"score": 0.9, "label": "ball", "bbox": [10, 20, 30.5, 40]}',
        '["10", "20", "30.5", "40"]',
        "ball: [10, 20, 30.5, 40] (red)",
        "[30.5, 40, 10, 20]",
        "[10, 40, 30.5, 20]",
    ],
)
def test_ways_to_write_a_box(text):
    assert read_box(text) == ((10, 20, 30.5, 40), "ok")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("[1, 2, 3, 4] or [1, 2, 3, 5]", "ambiguous"),
        ("not [1, 2, 3, 4]", "ambiguous"),
        ("[1, 2, 3, 4] is not it", "ambiguous"),
        ('[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}]', "ambiguous"),
        ("x1=1 y1=2 x2=3 y2=4 x1=5 y1=6 x2=7 y2=8", "ambiguous"),
        ('{"x1": 1, "y1": 2, "x2": 3, "y2": 4, "box": [5, 6, 7, 8]}', "ambiguous"),
        ('{"x1": 1, "y1": 2, "x2": 3}', "malformed"),
        ("[1, 2, 3, 4e0, 5]", "malformed"),
        ("[1, 2, 3, 4x]", "malformed"),
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


# An image of 200 by 100, padded by 50 above and below: x·200, y·200 − 50. One of 100 by 200 is padded left and right.
@pytest.mark.parametrize(
    ("size", "pixels", "square"),
    [
        ((200, 100), "[20, 10, 60, 30]", "[0.1, 0.3, 0.3, 0.4]"),
        ((100, 200), "[10, 20, 30, 60]", "[0.3, 0.1, 0.4, 0.3]"),
        ((100, 100), "[10, 20, 30, 60]", "[0.1, 0.2, 0.3, 0.6]"),
    ],
)
def test_boxes_on_the_image_padded_to_a_square(size, pixels, square):
    meta = dict(zip(("width", "height"), size, strict=True))
    asked = make("iou", coordinates="square")
    assert asked(f"<answer>{square}</answer>", gold=[pixels], meta=meta).value == pytest.approx(1)
    assert asked("<answer>[0.1, 0.3, 0.3, 1.4]</answer>", gold=[pixels], meta=meta).status == "malformed"
    given = make("iou-threshold", coordinates="pixels", gold_coordinates="square", threshold=0.99)
    assert given(f"<answer>{pixels}</answer>", gold=[square], meta=meta).value == 1
    both = make("iou", coordinates="square", gold_coordinates="square")
    assert both(f"<answer>{square}</answer>", gold=[square]).value == 1  # nothing to convert


def test_gold_and_answer_may_be_measured_in_two_ways():
    row = {"gold": ["[0.3, 0.1, 0.4, 0.3]"], "meta": {"width": 100, "height": 200}}
    thousandths = make("iou", coordinates="thousandths", gold_coordinates="square")
    assert thousandths("<answer>[100, 100, 300, 300]</answer>", **row).value == pytest.approx(1)
    assert thousandths("<answer>[100, 100, 300, 200]</answer>", **row).value == pytest.approx(1 / 2)


def test_an_overlap_of_exactly_the_threshold():
    """REC accuracy counts it, CoIN's script does not."""
    row = {"gold": ["[0, 0, 10, 10]"]}
    assert make("iou-threshold", above=True)("<answer>[0,0,10,5]</answer>", **row).parts == {"hit": 0, "iou": 0.5}
    assert make("iou-threshold", above=True)("<answer>[0,0,10,6]</answer>", **row).value == 1


def test_gold_may_be_a_row_of_numbers_in_any_notation():
    for gold in (
        [10, 20, 30, 40],
        {"bbox_2d": [10, 20, 30, 40], "label": "ball"},
        '{"bbox": [30, 40, 10, 20], "label": "ball 2"}',
        "10 20 30 40",
    ):
        assert make("iou")("<answer>[10, 20, 30, 40]</answer>", gold=[gold]).value == 1


def test_gold_has_to_be_boxes():
    for gold in (["red"], ["[0, 0, 1, 1]", "[1, 1, 1, 0]"], []):
        for name in ("iou", "iou-threshold"):
            assert make(name)("<answer>[0, 0, 1, 1]</answer>", gold=gold).status == "error"
