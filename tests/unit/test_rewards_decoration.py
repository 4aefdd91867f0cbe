"""What is no part of an answer: taken away, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.arithmetic import solved
from rewards.decoration import MAX_CHARS, undecorated, unwrapped
from rewards.leadins import without_lead_in


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("**12**", "12"),
        ("***12***", "12"),
        ("*light blue*", "light blue"),
        ("__12__", "12"),
        ("`12`", "12"),
        ("```json\n[1, 2]\n```", "[1, 2]"),
        ("<b>red</b>", "red"),
        ("\\(12\\)", "12"),
        ("\\[12\\]", "12"),
        ("$12$", "12"),
        ("$$12$$", "12"),
        ("\\boxed{12}", "12"),
        ("$\\boxed{\\text{Yes}}$.", "Yes"),
        ("\\mathbf{x^{2}}", "x^{2}"),
        ("“red”", "red"),
        ("‘red’", "red"),
        ("'red'", "red"),
        ("„rot“", "rot"),
        ("« rouge »", "rouge"),
        ("「红色」", "红色"),
        ("《红楼梦》", "红楼梦"),
        ("(red)", "red"),
        ("（红色）", "红色"),
        ("[B]", "B"),
        ("12.", "12"),
        ("red!", "red"),
        ("红色！", "红色"),
        ("红色。", "红色"),
        ("red\u200b", "red"),
        ("ｒｅｄ　１２", "red 12"),
        ("e\u0301", "é"),
        ("The answer is **12**.", "12"),
        ("**Answer:** 12", "12"),
        ("**Answer**: `12`", "12"),
        ("Final answer: Red", "Red"),
        ("So, the correct answer is: red", "red"),
        ("The answer to the question is red", "red"),
        ("Therefore, 12.", "12"),
        ("#### 12", "12"),
        ("It is red", "red"),
        ("It’s red", "red"),
        ("I think it's red", "red"),
        ("Based on the image, yes.", "yes"),
        ("答案是B", "B"),
        ("所以正确答案是：**B**。", "B"),
        ("答案：12", "12"),
        ("是绿色", "绿色"),
        ("La respuesta es rojo", "rojo"),
        ("Réponse : rouge", "rouge"),
        ("Die Antwort ist rot.", "rot"),
        ("5 + 7 = 12", "12"),
        ("x = 12", "12"),
        ("Total cost = $12", "$12"),
        ("The answer is x = 5 \\times 7 = 35 cm", "35 cm"),
    ],
)
def test_decoration_is_taken_away(text, answer):
    assert undecorated(text) == answer
    assert undecorated(answer) == answer


@pytest.mark.parametrize(
    "answer",
    [
        *("red", "dark red", "-5", ".5", "5!", "n!", "(n+1)!", "f'(x)", "6' 2\"", "$5", "25%", "C#", "C++"),
        *("(1, 2)", "[1, 2]", "(0, 1]", "{1}", "(x+1)(x-1)", "\\frac{1}{2}", "\\mathbb{R}", "\\text{a} or \\text{b}"),
        *("*args", "**kwargs", "*args, **kwargs", "__init__", "_private", "2**3**4", "2 * 3 * 4", "a_1", "*.py", "x^*"),
        *("y = 2x", "y = 2x + 1", "5 + 6 = 12", "3 = 4", "1/2 = 1/3", "x != 12", "x >= 12", "not = 12", "a = b"),
        *("not red", "red or blue", "the", "a", "It is", "answer", "The answer is", "Thus", "so", "是", "是的", "不是"),
        *("don't walk", "don’t walk", "rock 'n' roll", '"a" and "b"', "`a` and `b`", "$a$ and $b$", "...", "?", "-"),
        *("red\nblue", "- red\n- blue", "1. red\n2. blue", "#1", "> 5", "solo", "soap", "Italy", "resultado", "选举"),
    ],
)
def test_a_plain_answer_stays_as_it_is(answer):
    assert undecorated(answer) == answer


def test_a_denial_and_a_second_answer_stay():
    assert undecorated("The answer is not **red**.") == "not red"
    assert undecorated("The answer is red. The answer is blue.") == "red. The answer is blue"
    assert undecorated("\\boxed{3} \\boxed{4}") == "\\boxed{3} \\boxed{4}"
    assert undecorated("'red' or 'blue'") == "'red' or 'blue'"


def test_unwrapping_keeps_the_words():
    assert unwrapped("**“The answer is red.”**") == "The answer is red."
    assert unwrapped("`5 + 7 = 12`") == "5 + 7 = 12"
    assert unwrapped("Ｒｅｄ") == "Red"


@pytest.mark.parametrize(
    ("equation", "last"),
    [
        ("2 × 3 + 4 = 10", "10"),
        ("10/4 = 2.5", "2.5"),
        ("-3 + 5 = 2 apples", "2 apples"),
        ("1 + 1 = 4 / 2 = 2", "2"),
        ("area = 1,200 cm²", "1,200 cm²"),
        ("1/0 = 5", "1/0 = 5"),
        ("2 + 2 = 4 = 5", "2 + 2 = 4 = 5"),
        ("red = 12 = 13", "red = 12 = 13"),
        ("= 12", "= 12"),
        ("x = 12x", "x = 12x"),
        ("x = 2 + 3", "x = 2 + 3"),
    ],
)
def test_an_equation_counts_where_it_is_true(equation, last):
    assert solved(equation) == last


MARKS = [
    "**",
    "*",
    "`",
    "```",
    "$",
    "\\(",
    "\\)",
    "\\boxed{",
    "\\text{",
    "}",
    "{",
    "(",
    ")",
    "[",
    "]",
    "“",
    "”",
    '"',
    "'",
]
SIGNS = ["「", "」", ".", "。", "!", "！", ",", " ", "\n", "#", "# ", "\u200b", "\u0301", "_", "<b>", "</b>", "?", "\0"]
WORDS = [
    "the answer is ",
    "Answer:",
    "答案是",
    "it is ",
    "so, ",
    "= ",
    "x",
    "red",
    "12",
    "5 + 7",
    "e",
    "É",
    "Ｂ",
    "İ",
    "是",
]
PIECES = st.sampled_from([*MARKS, *SIGNS, *WORDS])
TEXTS = st.lists(PIECES, max_size=10).map("".join)


@settings(max_examples=300)
@given(TEXTS)
def test_twice_is_the_same_as_once(text):
    for strip in (undecorated, unwrapped):
        once = strip(text)
        assert strip(once) == once


@settings(max_examples=300)
@given(TEXTS)
def test_an_answer_is_never_emptied(text):
    for strip in (undecorated, unwrapped, without_lead_in):
        assert bool(strip(text).strip()) == bool(text.strip())


@given(st.from_regex(r"[a-z]{1,8}( [a-z0-9]{1,8}){0,3}|-?[0-9]{1,6}(\.[0-9]{1,3})?", fullmatch=True))
def test_words_and_numbers_stay_but_for_a_lead_in(text):
    assert undecorated(text) == undecorated(without_lead_in(text))
    assert unwrapped(text) == text


def test_long_texts_stay():
    text = f"**{'a' * MAX_CHARS}**"
    assert undecorated(text) == text
