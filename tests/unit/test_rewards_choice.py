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
        ("B-ball", "ambiguous"),
        ("B. ball", "ambiguous"),
        ("不选B", "ambiguous"),
        ("选A或B", "ambiguous"),
        ("选举", "no_answer"),
        ("2.1", "ambiguous"),
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


@pytest.mark.parametrize(
    "answer",
    [
        *("Ｂ", "B-red cube", "(B) red cube", "B、red cube", "B．red cube", "**B. red cube**", "`B`", "<B>", "{B}"),
        *("选B", "故选B。", "选择 B", "答案是B", "正确答案：B", "B选项", "B项正确", "因为它是红色的，所以选B"),
        *("Final answer: B", "It is B.", "The answer is \\boxed{B}"),
    ],
)
def test_decorated_and_chinese_answers(answer):
    assert (score(answer).value, score(answer, "A").value) == (1, 0)


@pytest.mark.parametrize("gold", ["B. red cube", "B) red cube", "(b) Red cube", "[B]", "b.", "1", "The answer is B", 1])
def test_forms_of_gold(gold):
    assert score("B", gold).value == score("red cube", gold).value == 1
    assert score("A", gold).value == score("ball", gold).value == 0


def test_a_gold_text_goes_before_an_index():
    assert score("D", "2").value == 1  # the option 2, not the third one
    assert score("C", "2").value == 0


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("15", 1),
        ("15.0", 1),
        ("15.", 1),
        ("$15$", 1),
        ("B) 15", 1),
        ("x = 15", 1),
        ("A. 15", 0),
        ("15 or 21", 0),
        ("-15", 0),
    ],
)
def test_options_that_are_numbers(answer, value):
    assert score(answer, choices=["12", "15", "1,800", "21"]).value == value
    assert score("1800", "C", choices=["12", "15", "1,800", "21"]).value == 1


def test_options_with_their_letters_in_front():
    lettered = ["A. red", "B. green", "C. blue"]
    assert [score(said, "B", lettered).value for said in ("green", "B", "B. green", "red")] == [1, 1, 1, 0]


def test_chinese_options():
    assert [
        score(said, "B", ["红色", "绿色"]).value for said in ("是绿色", "B、绿色", "绿色。", "B、红色", "不是绿色")
    ] == [1, 1, 1, 0, 0]


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
