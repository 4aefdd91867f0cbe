"""The papers' composites, and that they are what the built-in tasks pay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt.tasks import get_task
from rewards.extract import read_answer
from rewards.match import exact_match
from rewards.papers import accuracy, accuracy_format, recap_grounding, recap_reasoning
from rewards.registry import get, make


def test_accuracy_by_text_or_as_mathematics():
    assert accuracy("<answer> 0.5 </answer>", gold=["1/2"]).value == 0.0
    assert accuracy("<answer> 0.5 </answer>", gold=["1/2"], equality="maths").value == 1.0
    assert accuracy("0.5", gold=["0.5"], read="whole").value == 1.0


@pytest.mark.parametrize(
    ("completion", "value", "parts"),
    [
        ("<answer> 3 </answer>", 1.0, {"accuracy": 1.0, "format": 1.0}),
        ("<answer> 4 </answer>", 0.1, {"accuracy": 0.0, "format": 1.0}),
        ("3", 0.0, {"accuracy": 0.0, "format": 0.0}),
    ],
)
def test_accuracy_format(completion, value, parts):
    score = accuracy_format(completion, gold=["3"])
    assert score.value == pytest.approx(value)
    assert score.parts == parts


def test_accuracy_format_as_released():
    """Boxed, compared as mathematics, and read out of a broken format too."""
    released = {"gold": ["1/2"], "template": "think_boxed", "read": "boxed", "equality": "maths"}
    assert accuracy_format("<think> a </think> \\boxed{0.5}", **released).value == pytest.approx(1.0)
    broken = accuracy_format("It is \\boxed{0.5}", **released)
    assert (broken.value, broken.status) == (pytest.approx(0.9), "malformed")
    wrong = accuracy_format("<think> a </think> \\boxed{0.6}", **released)
    assert (wrong.value, wrong.status) == (pytest.approx(0.1), "ok")


PIECES = ["<think>", "</think>", "<answer>", "</answer>", " 3 ", "4", " top . ", "\n"]


@given(st.lists(st.sampled_from(PIECES), max_size=7).map("".join), st.sampled_from(["direct", "think"]))
def test_accuracy_format_is_exact_match_and_format_read_strictly(text, template):
    """To the bit."""
    read = read_answer(text, "strict", template)
    right, well_formed = exact_match(read.answer, ["3"]), float(read.status == "ok")
    score = accuracy_format(text, gold=["3"], template=template)
    assert score.value == 0.9 * right + 0.1 * well_formed
    assert score.parts == {"accuracy": right, "format": well_formed}


def test_an_answer_that_nobody_sees_is_none():
    assert accuracy_format("<answer> \u2060 </answer>", gold=["3"]).value == 0.0


@pytest.mark.parametrize("name", ["accuracy-format", "recap-reasoning"])
def test_a_composite_takes_what_its_accuracy_takes(name):
    assert get(name).parameters.keys() == get("accuracy").parameters.keys() == {"read", "equality", "limit"}
    assert get(name).required == ("gold",)
    assert make(name, read="whole", equality="maths")("0.5", gold=["1/2"], template="direct").parts["accuracy"] == 1.0
    with pytest.raises(ValueError, match="equality"):
        make(name, equality="text")


def test_accuracy_format_on_a_task():
    task = get_task("count-colour")
    sample = task.samples("train", 1)[0]
    for text in (task.target(sample, "policy", "think"), "<think> a </think> <answer> x </answer>", "x", ""):
        own = task.reward(sample, text, "think")
        assert accuracy_format(text, gold=sample.gold, template="think") == own


def test_recap_reasoning():
    right = "<think> a </think> <answer> 3 </answer>"
    score = recap_reasoning(right, gold=["3"], template="think")
    assert (score.value, score.parts) == (1.0, {"accuracy": 1.0, "format": 1.0})
    assert recap_reasoning(right, gold=["4"], template="think").value == 0.5
    assert recap_reasoning("<answer> 3 </answer>", gold=["3"], template="think", read="answer").value == 0.5


def test_recap_grounding():
    gold = ["[0, 0, 10, 10]"]
    assert recap_grounding("<answer> [0, 0, 10, 10] </answer>", gold=gold).value == 1.0
    half = recap_grounding("<answer> [0, 0, 10, 5] </answer>", gold=gold)
    assert (half.value, half.parts) == (pytest.approx(0.75), {"iou": pytest.approx(0.5), "format": 1.0})
    assert recap_grounding("[0, 0, 10, 10]", gold=gold, read="whole").value == 0.5


def test_a_part_that_fails_fails_the_whole():
    assert accuracy_format("<answer> 3 </answer>", gold=[]).status == "error"
    assert recap_grounding("<answer> [0, 0, 1, 1] </answer>", gold=["a dog"]).failed


@pytest.mark.parametrize("name", ["accuracy-format", "recap-reasoning", "recap-grounding"])
def test_composites_name_their_source_and_limits(name):
    entry = get(name)
    assert entry.family == "composite"
    assert entry.source.startswith("arXiv 25")
    assert entry.limits
