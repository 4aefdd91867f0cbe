"""Multiple choice: letters, texts, and what names more than one option."""

from __future__ import annotations

import pytest

from rewards.registry import make

CHOICES = ["ball", "red cube", "Vitamin C", "2"]


def score(answer: str, gold: str = "B", choices=CHOICES, **parameters):
    return make("choice", **parameters)(f"<answer> {answer} </answer>", gold=[gold], choices=choices)


LABELS = ["B", "b", "(b)", "[B]", "B.", "B)", "option B", "The answer is B", "the correct answer is (b).", "\\text{B}"]
TEXTS = [
    "b: red cube",
    "B: red cube",
    "B - red cube",
    "Red  cube.",
    "B because it is red",
    "I think B",
    "It's the red cube",
]


@pytest.mark.parametrize("answer", [*LABELS, *TEXTS])
@pytest.mark.parametrize("gold", ["B", "b", "(B)", "red cube"])
def test_forms_of_the_right_option(answer, gold):
    assert (score(answer, gold).value, score(answer, gold).extracted) == (1, "B")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("B: ball", "ambiguous"),
        ("A or B", "ambiguous"),
        ("a, b, c", "ambiguous"),
        ("A B C D", "ambiguous"),
        ("(a) ball (b) red cube", "ambiguous"),
        ("either a) or b)", "ambiguous"),
        ("ball, red cube, Vitamin C, 2", "ambiguous"),
        ("not B", "ambiguous"),
        ("not the red cube", "ambiguous"),
        ("B? no, C", "ambiguous"),
        ("could it be B?", "ambiguous"),
        ("-2", "ambiguous"),
        ("2.5", "ambiguous"),
        ("red cubes", "no_answer"),
        ("E", "no_answer"),
        ("В", "no_answer"),  # Cyrillic
        ("Ｂ", "no_answer"),
        ("the answer is correct", "no_answer"),
        ("B " * 300, "malformed"),
    ],
)
def test_what_is_no_single_option(answer, status):
    assert (score(answer).value, score(answer).status) == (0, status)
    assert score(answer, "D").value == 0


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("A", "A"), ("A cube which is B", "B"), ("A. ball", "A"), ("Vitamin C", "C"), ("C: Vitamin C", "C"), ("2", "D")],
)
def test_letters_that_are_words(answer, letter):
    assert score(answer, letter).extracted == letter
    assert score(answer, letter).value == 1


def test_letters_only_without_choices():
    assert score("(c)", "C", choices=[]).value == 1
    assert score("I say C", "C", choices=[]).value == 1
    assert score("red cube", "C", choices=[]).status == "no_answer"


def test_options_with_the_same_text_are_one():
    assert score("red", "A", choices=["red", "blue", "Red"]).value == 1
    assert score("C", "red", choices=["red", "blue", "Red"]).value == 1


def test_a_gold_answer_that_is_no_option_is_an_error():
    assert score("B", "E").status == "error"
    assert score("B", "green cube").status == "error"


def test_read_from_prose():
    choice = make("choice", read="tolerant")
    row = {"gold": ["B"], "choices": CHOICES}
    assert choice("<think>A?</think> So the answer is B.", **row).value == 1
    assert choice("The answer is (B) red cube", **row).value == 1
    assert choice("<answer>A</answer> or \\boxed{B}", **row).status == "ambiguous"
    assert choice("The answer is not B.", **row).value == 0
