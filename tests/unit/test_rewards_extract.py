"""Reading the answer: templates, tags, reasoning, prose, and reading twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import prose
from rewards.extract import normalise, read_answer
from rewards.templates import TEMPLATES, body, boxed_answers, outside_reasoning, tagged_answers

RED = ("red", "blue", "dark red")


@pytest.mark.parametrize(
    ("template", "text", "inside"),
    [
        ("direct", " <answer> Red </answer>\n", " Red "),
        ("direct", "<answer>x < 3</answer>", "x < 3"),
        ("direct", "<answer><answer>red</answer></answer>", None),
        ("direct", "<answer>red</answer> indeed", None),
        ("direct", "<ANSWER>red</ANSWER>", None),
        ("direct", "<answer>", None),
        ("think", "<think>2 < 3</think>\n<answer>red</answer>", "red"),
        ("think", "<think>a <think> b</think><answer>red</answer>", None),
        ("think", "<think><answer>red</answer></think><answer>red</answer>", None),
        ("think", "<answer>red</answer>", None),
        ("boxed", "\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("boxed", "\\boxed{1}{2}", None),
        ("boxed", "\\boxed{1} \\boxed{1}", None),
        ("boxed", "\\boxed{\\boxed{1}}", None),
        ("boxed", "\\boxed{1\\}", None),
        ("boxed", "The answer is \\boxed{1}.", None),
        ("think_boxed", "<think>so \\boxed{9}</think> \\boxed{1}", "1"),
        ("think_boxed", "<think>so</think> it is \\boxed{1}", None),
        ("think_boxed", "\\boxed{1}", None),
    ],
)
def test_the_whole_completion_has_the_template(template, text, inside):
    assert body(text, template) == inside


def test_an_unknown_template_or_reading_is_named():
    with pytest.raises(ValueError, match=r"'thinking'.*direct, think"):
        read_answer("red", template="thinking")
    with pytest.raises(ValueError, match=r"'loose'.*strict, tolerant"):
        read_answer("red", "loose")


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("<think>a</think> red", "red"),
        ("a</think> red", "red"),
        ("red <think>a", "red"),
        ("<think>a<think>b</think>c</think> red", "red"),
        ("<think><think>a</think> red", ""),
        ("<THINK>a</THINK> red", "red"),
        ("red <think>a</think> ball", "red ball"),
        ("2 < 3", "2 < 3"),
    ],
)
def test_reasoning_is_left_out(text, outside):
    assert " ".join(outside_reasoning(text).split()) == outside


def test_tags_and_boxes_are_found_in_order():
    assert tagged_answers("<answer>a</answer> b <answer>c<answer>d") == ["a", "c", "d"]
    assert tagged_answers("</answer> a <answer></answer>") == [""]
    assert boxed_answers("{ \\boxed{a{b}c} \\boxed {d} \\boxed{e") == ["a{b}c", "d"]
    assert boxed_answers("\\boxed{a \\} b}") == ["a \\} b"]
    assert boxed_answers("\\boxed{a \\boxed{b}}") == ["a \\boxed{b}"]


@pytest.mark.parametrize(
    ("how", "text", "answer", "status"),
    [
        ("strict", "<answer>Red.</answer>", "red", "ok"),
        ("strict", "<answer> . </answer>", "", "no_answer"),
        ("strict", "red", "", "malformed"),
        ("answer", "well, <answer>red</answer> then", "red", "ok"),
        ("answer", "<answer>red</answer> <answer>Red</answer>", "red", "ok"),
        ("answer", "<answer>red</answer> <answer>blue</answer>", "", "ambiguous"),
        ("answer", "<think><answer>red</answer></think> red", "", "malformed"),
        ("boxed", "so \\boxed{\\frac{1}{2}}", "\\frac{1}{2}", "ok"),
        ("boxed", "\\boxed{1} or \\boxed{2}", "", "ambiguous"),
        ("boxed", "\\boxed{\\boxed{1}}", "", "ambiguous"),
        ("boxed", "\\boxed{}", "", "no_answer"),
        ("boxed", "red", "", "malformed"),
        ("last_line", "first\nThe answer is: Red.\n\n", "red", "ok"),
        ("last_line", "<think>red\n", "", "no_answer"),
        ("whole", "<think>so</think> a red\nball", "a red ball", "ok"),
        ("whole", "", "", "no_answer"),
    ],
)
def test_each_reading(how, text, answer, status):
    read = read_answer(text, how)
    assert (read.answer, read.status) == (answer, status)


@pytest.mark.parametrize(
    ("text", "answer", "status"),
    [
        ("red", "red", "ok"),
        ("<ANSWER>Red</ANSWER>", "red", "ok"),
        ("<answer>\\boxed{red}</answer>", "red", "ok"),
        ("<answer>it is red</answer>", "red", "ok"),
        ("Answer: red", "red", "ok"),
        ("the ball is dark red", "dark red", "ok"),
        ("<answer>red</answer> \\boxed{blue}", "", "ambiguous"),
        ("\\boxed{red} \\boxed{blue}", "", "ambiguous"),
        ("red or blue", "", "ambiguous"),
        ("it is not red", "", "ambiguous"),
        ("It isn't red", "", "ambiguous"),
        ("anything but red", "", "ambiguous"),
        ("could the ball be red?", "", "ambiguous"),
        ("red-brown", "", "ambiguous"),
        ("<think>red</think>", "", "no_answer"),
        ("green", "green", "ok"),
        ("red " * 200, ("red " * 200).strip(), "ok"),
    ],
)
def test_tolerant_reading_with_candidates(text, answer, status):
    read = read_answer(text, "tolerant", candidates=RED)
    assert (read.answer, read.status) == (answer, status)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("**Answer:** 12", "12"),
        ("Final Answer: **12**", "12"),
        ("I add them up.\n#### 12", "12"),
        ("There are 12.", "12"),
        ("There are 12 apples in the image.", "12"),
        ("I count 12 apples.", "12"),
        ("I can see twelve apples", "twelve"),
        ("12个", "12"),
        ("一共有 12 只", "12"),
        ("So there are 12 apples.", "12"),
        ("图中一共有12个苹果。", "12"),
        ("答案：12", "12"),
        ("I see. Therefore, 12.", "12"),
        ("The number is 12!", "12"),
        ("The colour of the ball is Red.", "red"),
        ("**Red**", "red"),
        ("$\\boxed{12}$", "12"),
        # These say more than one thing, or another one.
        ("There are 12 or 13.", "there are 12 or 13"),
        ("There are 12 apples and 3 pears.", "there are 12 apples and 3 pears"),
        ("There are not 12 apples.", "there are not 12 apples"),
        ("There are 12.5 m", "12.5"),
        ("The ball is red or blue", "the ball is red or blue"),
        ("The ball is not red", "the ball is not red"),
        ("A red car parked on the street", "a red car parked on the street"),
        ("12 apples", "12 apples"),
    ],
)
def test_tolerant_reading_without_candidates(text, answer):
    assert read_answer(text, "tolerant").answer == answer


def test_a_stated_number_keeps_its_unit_for_those_who_read_it():
    assert read_answer("There are 12 kg in it.", "tolerant").raw == "There are 12 kg in it."


@pytest.mark.parametrize(
    ("text", "answer", "status"),
    [
        ("答案是red", "red", "ok"),
        ("一共有12个苹果", "12", "ok"),
        ("球是红色的", "红色", "ok"),
        ("这是红色的球。", "红色", "ok"),
        ("不是red", "", "ambiguous"),
        ("球不是红色的", "", "ambiguous"),
        ("红色或者蓝色", "", "ambiguous"),
        ("是红色吗？不，蓝色", "", "ambiguous"),
        ("112个", "112个", "ok"),
        ("x = 12", "12", "ok"),
        ("5 + 7 = 12", "12", "ok"),
        ("5 + 12 = 17", "12", "ok"),  # the only candidate that is mentioned
        ("x != 12", "", "ambiguous"),
        ("more than > 12", "", "ambiguous"),
    ],
)
def test_candidates_beside_chinese_characters_and_in_equations(text, answer, status):
    read = read_answer(text, "tolerant", candidates=("red", "12", "红色", "蓝色"))
    assert (read.status, read.answer) == (status, answer if status == "ok" else "")


@pytest.mark.parametrize("how", ["strict", "answer", "whole", "last_line", "tolerant"])
@pytest.mark.parametrize(
    "said", ["**Red**", "`red`", "“red”", "(red)", "It is red.", "The answer is \\text{red}", "ｒｅｄ"]
)
def test_every_reading_takes_decoration_off(how, said):
    text = f"<answer> {said} </answer>" if how in ("strict", "answer") else said
    assert read_answer(text, how).answer == "red"
    assert read_answer(f"\\boxed{{{said}}}", "boxed").answer == "red"


def test_the_format_is_as_strict_as_before():
    for text in ("**<answer>red</answer>**", "$\\boxed{red}$", "The answer is <answer>red</answer>", "`red`"):
        assert read_answer(text, "strict").status == read_answer(text, "strict", "boxed").status == "malformed"
    assert read_answer("<answer>\\boxed{\\boxed{3}} </answer>", "strict").answer == "3"
    assert read_answer("<answer>**<answer>3</answer>**</answer>", "strict").status == "malformed"


@pytest.mark.parametrize(
    ("text", "form"),
    [(".5", "0.5"), ("...5", "5"), ("Red.", "red"), ("E\u0301.", "é"), ("3.", "3"), (".", ""), (". 5", "5")],
)
def test_normalise(text, form):
    assert normalise(text) == form
    assert normalise(form) == form


@pytest.mark.parametrize("text", ["-2", "2.5", "1/2", "2%", "2^3"])
def test_a_candidate_inside_of_a_number_is_not_mentioned(text):
    assert read_answer(f"it would be {text} then", "tolerant", candidates=("2",)).status == "ambiguous"


@pytest.mark.parametrize("how", ["strict", "answer", "whole", "last_line", "tolerant"])
def test_the_question_again_is_no_answer(how):
    question = "Is the ball red?"
    for text in ("is the ball red", "Is the ball red? Is the  ball red?"):
        tagged = f"<answer>{text}</answer>" if how in ("strict", "answer") else text
        assert read_answer(tagged, how, candidates=RED, question=question).status == "no_answer"


def test_what_follows_the_question_is_read():
    read = read_answer(
        "Is the ball red or blue? Blue.", "tolerant", candidates=RED, question="Is the ball red or blue ?"
    )
    assert read.answer == "blue"


def test_raw_keeps_case_signs_and_lines():
    assert read_answer("<answer> -.5 M </answer>").raw == "-.5 M"
    assert read_answer("The answer is:\n- Red\n- Blue", "tolerant").raw == "- Red\n- Blue"
    assert read_answer("<answer>\n- Red\n- Blue</answer>", "tolerant").raw == "- Red\n- Blue"


def test_mentions_take_the_longest_first():
    assert prose.mentions("dark red and redder", ["red", "dark red"]) == (["dark red"], "\0" * 8 + " and redder")


@pytest.mark.parametrize("text", ["no", "Never!", "it isn’t", "none of them", "without red", "doesnt"])
def test_denials(text):
    assert prose.denies(text)


@pytest.mark.parametrize("text", ["", "know", "notable", "another", "red", "knot"])
def test_no_denials(text):
    assert not prose.denies(text)


TAGS = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "{", "?", ":", ".", " ", "  ", "\n"]
WORDS = [
    "the answer is",
    "it is",
    "answer:",
    "is the ball red?",
    "red",
    "dark red",
    "BLUE",
    "not",
    "İ",
    "\u212a",
    "\ud800",
]
TEXTS = st.lists(st.sampled_from(TAGS + WORDS), max_size=10).map("".join)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.sampled_from([(), RED, ("red", "it is blue")]), st.sampled_from(["", "Is the ball red?"]))
def test_reading_twice_changes_nothing(text, candidates, question):
    for how in ("whole", "tolerant"):
        once = read_answer(text, how, candidates=candidates, question=question).answer
        assert read_answer(once, how, candidates=candidates, question=question).answer == once


@settings(max_examples=50, deadline=None)
@given(TEXTS, st.sampled_from(TEMPLATES), st.sampled_from([" ", "\n", "\t \n"]))
def test_white_space_around_changes_nothing(text, template, space):
    for how in ("strict", "answer", "boxed", "last_line", "whole", "tolerant"):
        plain = read_answer(text, how, template, RED)
        assert read_answer(f"{space}{text}{space}", how, template, RED).answer == plain.answer


@settings(max_examples=50, deadline=None)
@given(TEXTS)
def test_an_answer_is_normalised_and_only_ok_has_one(text):
    for how in ("strict", "answer", "boxed", "last_line", "whole", "tolerant"):
        read = read_answer(text, how, candidates=RED)
        assert read.answer == normalise(read.answer)
        assert bool(read.answer) == (read.status == "ok")
