"""Extraction and matching: what is read out of a completion, and when it pays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.extract import normalise, read_answer
from rewards.match import exact_match
from rewards.papers import accuracy_format


@pytest.mark.parametrize(
    ("text", "template", "answer", "status"),
    [
        ("<answer> top </answer>", "direct", "top", "ok"),
        (" <answer>Top.</answer>\n", "direct", "top", "ok"),
        ("top", "direct", "", "malformed"),
        ("<answer> top </answer> indeed", "direct", "", "malformed"),
        ("<answer> </answer>", "direct", "", "no_answer"),
        ("<think> x </think> <answer> top </answer>", "direct", "", "malformed"),
        ("<think> I see . </think> <answer> 3 0 7 </answer>", "think", "3 0 7", "ok"),
        ("<answer> top </answer>", "think", "", "malformed"),
        ("<think> a <think> b </think> <answer> top </answer>", "think", "", "malformed"),
        ("<answer> top </answer> <answer> middle </answer>", "direct", "", "malformed"),
    ],
)
def test_strict_answers(text, template, answer, status):
    read = read_answer(text, "strict", template)
    assert (read.answer, read.status) == (answer, status)


@pytest.mark.parametrize(
    ("text", "candidates", "answer", "status"),
    [
        ("top", ("top", "middle"), "top", "ok"),
        ("<answer> top", ("top", "middle"), "top", "ok"),
        ("\\boxed{12}", (), "12", "ok"),
        ("<think> middle </think> top", ("top", "middle"), "top", "ok"),
        ("The answer is : top .", ("top", "middle"), "top", "ok"),
        ("it sits at the top of the picture", ("top", "middle"), "top", "ok"),
        ("top or middle", ("top", "middle"), "", "ambiguous"),
        ("<answer> top </answer> <answer> middle </answer>", (), "", "ambiguous"),
        ("<answer> top </answer> <answer> top </answer>", (), "top", "ok"),
        ("", ("top",), "", "no_answer"),
        ("<think> top", ("top",), "", "no_answer"),
        ("unanswerable", ("answerable", "unanswerable"), "unanswerable", "ok"),
        ("3 0 7", (), "3 0 7", "ok"),
        ("stop it", ("top",), "stop it", "ok"),
    ],
)
def test_tolerant_answers(text, candidates, answer, status):
    read = read_answer(text, "tolerant", candidates=candidates)
    assert (read.answer, read.status) == (answer, status)


def test_an_empty_answer_is_never_right():
    assert exact_match("", ("",)) == 0.0


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(), st.sampled_from(["direct", "think"]))
def test_any_text_has_a_reward_between_0_and_1(text, template):
    assert 0.0 <= accuracy_format(text, gold=("3",), template=template).value <= 1.0
    read_answer(text, "tolerant", candidates=("3", "top"))
