"""The papers' composites, and that they are what the built-in tasks pay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt.tasks import get_task
from rewards.match import accuracy_and_format
from rewards.papers import accuracy, accuracy_format, recap_grounding, recap_reasoning
from rewards.registry import get


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
def test_accuracy_format_is_what_the_tasks_pay(text, template):
    """To the bit, wherever the reasoning holds no < or >, which only the tasks' own strict reading refuses."""
    old = accuracy_and_format(text, ["3"], template)
    score = accuracy_format(text, gold=["3"], template=template)
    assert score.value == old["reward"]
    assert score.parts == {"accuracy": old["accuracy"], "format": old["format"]}


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
