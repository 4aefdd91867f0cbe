"""Right or wrong: exact, normalised, yes or no, unanswerable; and what they share."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.match import canonical, hedges
from rewards.registry import make


def tagged(answer: str) -> str:
    return f"<answer> {answer} </answer>"


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("red", 1),
        ("RED.", 1),
        (" red\t", 1),
        ("the red", 0),
        ("reds", 0),
        ("not red", 0),
        ("red or blue", 0),
        ("rеd", 0),
    ],
)
def test_exact(answer, value):
    score = make("exact")(tagged(answer), gold=["Red", "crimson"])
    assert (score.value, score.parts, score.status) == (value, {"match": value}, "ok")


def test_exact_through_every_template_and_reading():
    exact = make("exact")
    assert exact("<think>2 < 3</think> \\boxed{red}", gold=["red"], template="think_boxed").value == 1
    assert exact("I say red", gold=["red"]).status == "malformed"
    assert make("exact", read="tolerant")("I say red", gold=["red"], candidates=["red", "blue"]).value == 1
    assert make("exact", read="last_line")("well\nred", gold=["red"]).value == 1
    assert make("exact", read="answer")("well <answer>red</answer>", gold=["red"]).extracted == "red"


@pytest.mark.parametrize(
    ("completion", "status"),
    [
        ("", "malformed"),
        (tagged(""), "no_answer"),
        (tagged("red") + tagged("red"), "malformed"),
        ("<answer> red", "malformed"),
        (tagged("Is it red?"), "no_answer"),
    ],
)
def test_what_earns_nothing_says_why(completion, status):
    score = make("exact")(completion, gold=["red"], question="Is it red ?")
    assert (score.value, score.parts, score.extracted, score.status) == (0, {"match": 0}, "", status)


@pytest.mark.parametrize(
    "name", ["exact", "normalised", "yes-no", "unanswerable", "vqa", "vizwiz", "anls", "edit", "set"]
)
def test_a_row_without_gold_is_an_error_not_a_wrong_answer(name):
    score = make(name)(tagged("red"), gold=[])
    assert score.status == "error" and "gold" in score.detail


def test_a_lone_string_is_one_gold_answer():
    assert make("exact")(tagged("r"), gold="red").value == 0
    assert make("exact")(tagged("red"), gold="red").value == 1


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The  Red, circle.", "red, circle"),
        ("ｒｅｄ", "red"),
        ("Straße", "strasse"),
        ("\\text{Red}", "red"),
        ("\\mathbf{the red}", "red"),
        ("\\frac{1}{2}", "\\frac{1}{2}"),
        ("A", "a"),
        ("“the sign”", "sign"),
        ("ice-cream", "ice-cream"),
        ("it’s", "it's"),
        ("r\u200bed", "r\u200bed"),
        ("rеd", "rеd"),
    ],
)
def test_canonical(text, form):
    assert canonical(text) == form


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12), st.sampled_from(["", "the ", "\\text{", "'", "A "]), st.booleans())
def test_canonical_twice_changes_nothing(text, before, articles):
    once = canonical(before + text, articles)
    assert canonical(once, articles) == once


def test_normalised_and_its_articles():
    assert make("normalised")(tagged("a RED circle"), gold=["the red circle"]).value == 1
    assert make("normalised", articles=False)(tagged("a red circle"), gold=["the red circle"]).value == 0
    assert make("normalised")(tagged("red circles"), gold=["the red circle"]).value == 0


@pytest.mark.parametrize(
    ("answer", "value", "status"),
    [
        ("yes", 1, "ok"),
        ("Yes, there is one.", 1, "ok"),
        ("yep", 1, "ok"),
        ("no", 0, "ok"),
        ("Nope", 0, "ok"),
        ("yes and no", 0, "ambiguous"),
        ("no... yes", 0, "ambiguous"),
        ("not yes", 0, "no_answer"),
        ("true", 0, "no_answer"),
        ("yesterday", 0, "no_answer"),
        ("no idea", 0, "no_answer"),
        ("the answer is correct", 0, "no_answer"),
        ("yes " * 200, 0, "malformed"),
    ],
)
def test_yes_or_no(answer, value, status):
    score = make("yes-no")(tagged(answer), gold=["Yes"])
    assert (score.value, score.status) == (value, status)


def test_yes_or_no_in_prose():
    yes_no = make("yes-no", read="tolerant")
    row = {"gold": ["no"], "candidates": ["yes", "no"]}
    assert yes_no("<think>yes?</think> No, there is none.", **row).value == 1
    assert yes_no("The answer is no.", **row).value == 1
    assert yes_no("no idea", **row).value == 0


def test_yes_no_wants_such_a_gold_answer():
    assert make("yes-no")(tagged("no idea"), gold=["no"]).value == 0
    assert make("yes-no")(tagged("no"), gold=["red"]).status == "error"


@pytest.mark.parametrize(
    "answer",
    [
        "unanswerable",
        "The question is unanswerable.",
        "It cannot be determined from the image",
        "can’t tell",
        "I can't see it",
        "unsuitable image",
        "impossible to say",
        "not possible to answer",
        "I don't know",
        "unknown",
    ],
)
def test_wordings_of_unanswerable(answer):
    score = make("unanswerable")(tagged(answer), gold=["unanswerable"])
    assert (score.value, score.extracted) == (1, "unanswerable")
    assert make("unanswerable")(tagged(answer), gold=["red"]).value == 0


@pytest.mark.parametrize(
    "answer", ["not unanswerable", "answerable", "unanswerable or red", "I can see it", "red", "none"]
)
def test_no_wordings_of_unanswerable(answer):
    assert make("unanswerable")(tagged(answer), gold=["unanswerable"]).value == 0


def test_answerability_is_a_part_of_its_own():
    unanswerable = make("unanswerable")
    assert unanswerable(tagged("blue"), gold=["red"]).parts == {"match": 0, "answerability": 1}
    assert unanswerable(tagged("blue"), gold=["unanswerable"]).parts == {"match": 0, "answerability": 0}
    assert unanswerable(tagged("can't tell"), gold=["red"]).parts == {"match": 0, "answerability": 0}
    assert unanswerable(tagged("red"), gold=["red", "unanswerable"]).parts == {"match": 1, "answerability": 1}


@pytest.mark.parametrize(
    ("said", "gold", "hedged"),
    [
        ("not the red ball", "the red ball", True),
        ("the red ball? no, blue", "the red ball", True),
        ("no smoking", "no smoking", False),
        ("no smoking here", "no smoking", False),
        ("not blue", "the red ball", False),
        ("red ball or blue ball", "red ball", True),
        ("the red ball", "red ball", False),
    ],
)
def test_hedges(said, gold, hedged):
    assert hedges(said, [gold], ["red ball", "blue ball"]) == hedged
