"""Sets and ordered lists: partial credit by hand."""

from __future__ import annotations

import pytest

from rewards.collections import split_items
from rewards.registry import make


def score(name: str, answer: str, gold: str = "red, blue, green", **parameters):
    return make(name, **parameters)(f"<answer> {answer} </answer>", gold=[gold])


COMMAS = ["red, blue and green", "Red; BLUE; green.", "red | blue & green", "red, , blue,, green"]
LINES = ["red\nblue\n\ngreen", "- red\n- blue\n- green", "1. red\n2. blue\n3) green"]
DASHES = ["red - blue - green", "red • blue • green", "red\tblue\tgreen", "red + blue + green"]
INLINE = ["red/blue/green", "red -> blue → green", "red > blue > green", "1) red 2) blue 3) green", "red&blue&green"]
DECORATED = [
    "**red**, **blue**, **green**",
    "<red>, <blue>, <green>",
    "`red`; `blue`; `green`",
    "red, then blue, then green",
]
CHINESE = ["red、blue、green", "red，blue和green", "①red②blue③green", "1、red 2、blue 3、green"]
BRACKETS = ['["red", "blue", "green"]', "{red, blue, green}"]


@pytest.mark.parametrize("text", [*COMMAS, *LINES, *BRACKETS, *DASHES, *INLINE, *DECORATED, *CHINESE])
def test_ways_to_write_a_list(text):
    assert split_items(text) == ["red", "blue", "green"]
    assert score("ordered-list", text).value == score("set", text).value == 1


@pytest.mark.parametrize(
    "text",
    [
        "The colours are red, blue and green.",
        "Colours: red, blue, green",
        "I see red, blue, and green",
        "有red、blue和green",
    ],
)
def test_a_sentence_that_leads_to_the_list(text):
    assert score("ordered-list", text).value == score("set", text).value == 1
    assert score("set", text, gold="red, blue").value == pytest.approx(4 / 5)


def test_chinese_lists():
    for text in ("红色、蓝色和绿色", "颜色有红色、蓝色、绿色。", "红色，蓝色，绿色"):
        assert score("set", text, gold="红色、绿色、蓝色").value == 1
    assert score("set", "红色或蓝色", gold="红色、蓝色").status == "ambiguous"


def test_letters_written_together():
    assert score("set", "AC", gold="A, C").value == score("set", "C A", gold="A, C").value == 1
    assert score("set", "ABCD", gold="A, C").value == pytest.approx(2 / 3)
    assert score("set", "AC", gold="AC, B").value == pytest.approx(2 / 3)


def test_thousands_are_no_lists():
    one_list = make("set", one_list=True)
    assert one_list("<answer>1,000, 2,000</answer>", gold=["1,000", "2,000"]).value == 1
    assert one_list("<answer>1,000, 3,000</answer>", gold=["1,000", "2,000"]).value == 0.5
    assert score("set", "100, 200", gold="100,200").value == score("set", "100,200", gold="100, 200").value == 1


@pytest.mark.parametrize(
    ("answer", "f1", "jaccard"),
    [
        ("green, red, blue", 1, 1),
        ("red, blue", 4 / 5, 2 / 3),  # 2·2 / (2 + 3); 2 / 3
        ("red, blue, green, pink", 6 / 7, 3 / 4),
        ("red, red, blue", 4 / 6, 2 / 4),  # the second red is a wrong item
        ("pink", 0, 0),
    ],
)
def test_sets(answer, f1, jaccard):
    said = score("set", answer)
    assert (said.value, said.parts["jaccard"]) == (pytest.approx(f1), pytest.approx(jaccard))
    assert score("set", answer, credit="jaccard").value == pytest.approx(jaccard)
    assert score("set", answer, credit="all").value == (f1 == 1)


def test_precision_and_recall():
    parts = score("set", "red, pink").parts
    assert parts == pytest.approx({"f1": 2 / 5, "jaccard": 1 / 4, "precision": 1 / 2, "recall": 1 / 3})


@pytest.mark.parametrize(
    ("answer", "positions", "lcs"),
    [
        ("red, blue, green", 1, 1),
        ("blue, green", 0, 2 / 3),
        ("red, green, blue", 1 / 3, 2 / 3),
        ("red, blue, green, pink", 3 / 4, 3 / 4),
        ("pink, red, blue, green", 0, 3 / 4),
    ],
)
def test_ordered_lists(answer, positions, lcs):
    said = score("ordered-list", answer)
    assert (said.value, said.parts) == (positions, pytest.approx({"positions": positions, "lcs": lcs}))
    assert score("ordered-list", answer, credit="lcs").value == pytest.approx(lcs)
    assert score("ordered-list", answer, credit="all").value == (positions == 1)


@pytest.mark.parametrize("name", ["set", "ordered-list"])
def test_what_is_no_list(name):
    assert score(name, "[]").status == "no_answer"
    assert score(name, "not red, blue, green").status == "ambiguous"
    assert score(name, "red, blue, green or pink").status == "ambiguous"
    assert score(name, "red, " * 1001).status == "malformed"
    assert score(name, "red", gold=" , ").status == "error"
    everything = {"gold": ["red, blue"], "candidates": ["red", "blue", "green"]}
    assert make(name)("<answer>red, blue, green</answer>", **everything).status == "ambiguous"
    assert make(name)("<answer>red, blue</answer>", **everything).value == 1


@pytest.mark.parametrize("name", ["set", "ordered-list"])
def test_gold_as_one_list_or_as_alternatives(name):
    said = "<answer>red, blue</answer>"
    assert make(name)(said, gold=["pink", "red, blue"]).value == 1
    assert make(name, one_list=True)(said, gold=["red", "blue"]).value == 1
    assert make(name)(said, gold=["red", "blue"]).value < 1


def test_lists_in_lines_are_read_tolerantly():
    said = make("set", read="tolerant")("The answer is:\n- red\n- blue", gold=["red, blue"])
    assert said.value == 1
