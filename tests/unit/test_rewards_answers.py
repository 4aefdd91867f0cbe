"""Right or wrong: exact, normalised, yes or no, unanswerable; and what they share."""

from __future__ import annotations

import json

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


SPELLINGS = [
    ("red", "`red`"),
    ("red", "**Red**"),
    ("red", "“red”"),
    ("red", "(red)"),
    ("red", "It is red."),
    ("red", "it's red"),
    ("red", "The answer is red"),
    ("red", "\\boxed{\\text{red}}"),
    ("red", "Ｒｅｄ"),
    ("red", "red\u200b"),
    ("红色", "红色！"),
    ("红色", "「红色」"),
    ("红色", "是红色"),
    ("caf\u00e9", "cafe\u0301"),
    ("don’t walk", "Don't walk"),
    ("3 pm", "3pm"),
    ("USA", "U.S.A."),
    ("St Louis", "St. Louis"),
    (".5", "0.5"),
    ("12", "x = 12"),
    ("12", "5 + 7 = 12"),
    ("y = 3", "y = 3"),
    ("C#", "c#"),
    ("-5", "-5."),
]


@pytest.mark.parametrize(("gold", "said"), SPELLINGS)
def test_exact_and_normalised_see_through_spelling_and_decoration(gold, said):
    for name in ("exact", "normalised", "accuracy", "accuracy-format"):
        assert make(name)(tagged(said), gold=[gold]).value == 1
        assert make(name)(tagged(gold), gold=[said]).value == 1 or "=" in said


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        ("2", "two"),
        ("cafe", "café"),
        ("x2", "x²"),
        ("ice cream", "ice-cream"),
        ("red circle", "the red circle"),
    ],
)
def test_what_only_normalised_takes_for_the_same(gold, said):
    for one, other in ((gold, said), (said, gold)):
        assert make("exact")(tagged(one), gold=[other]).value == 0
        assert make("normalised")(tagged(one), gold=[other]).value == 1


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        (".5", "5"),
        ("5", "-5"),
        ("$5", "5"),
        ("C#", "C"),
        ("y = 3", "x = 3"),
        ("12", "5 + 6 = 12"),
        ("4", "3 = 4"),
        ("red", "dark red"),
        ("red", "It is not red"),
        ("red", "red (or blue)"),
        ("red", "**red** **blue**"),
    ],
)
def test_what_is_not_the_same(gold, said):
    for name in ("exact", "normalised"):
        assert make(name)(tagged(said), gold=[gold]).value == 0


def test_gold_as_the_annotators_rows_of_vqa():
    rows = [{"answer": "red", "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)]
    for name in ("vqa", "vizwiz", "exact", "normalised"):
        assert make(name)(tagged("red"), gold=rows).value == 1
        assert make(name)(tagged("blue"), gold=rows).value == 0
        as_json = [json.dumps(row) for row in rows]
        assert make(name)(tagged("red"), gold=as_json).value == 1
        assert make(name)(tagged("red"), gold=[{"answer": ["red", "pink"]}]).value == 1
    assert make("exact")(tagged("{answer: 5}"), gold=["{answer: 5}"]).value == 1
    with pytest.raises(ValueError, match=r"without an answer: \{'label': 'red'\}"):
        make("vqa")(tagged("red"), gold=[{"label": "red"}])


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
        ("ice-cream", "ice cream"),
        ("Café", "cafe"),
        ("cafe\u0301", "cafe"),
        ("й", "й"),
        ("が", "が"),
        ("two", "2"),
        ("twenty-one dogs", "21dogs"),
        ("no one", "no 1"),
        ("3 p.m.", "3pm"),
        ("U.S.A.", "usa"),
        ("the answer is \\boxed{red}", "red"),
        ("it’s", "it's"),
        ("r\u200bed", "red"),
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
        ("not sure", 0, "no_answer"),
        ("yesterday", 0, "no_answer"),
        ("no idea", 0, "no_answer"),
        ("the answer is correct", 0, "no_answer"),
        ("yes " * 200, 0, "malformed"),
    ],
)
def test_yes_or_no(answer, value, status):
    score = make("yes-no")(tagged(answer), gold=["Yes"])
    assert (score.value, score.status) == (value, status)


@pytest.mark.parametrize("gold", ["yes", "Yes.", "True", "true", "1", "Y", "是", "Yes, there is a dog"])
@pytest.mark.parametrize(
    "answer",
    [
        *(
            "Yes. There is a dog, but no cat.",
            "The answer is yes.",
            "Answer: Yes",
            "\\boxed{yes}",
            "true",
            "It is",
            "y",
        ),
        *("是", "是的", "有", "对，有一只狗", "Yes — it is visible", "Yes; no other dogs", "Based on the image, yes."),
    ],
)
def test_ways_to_say_yes(gold, answer):
    assert make("yes-no")(tagged(answer), gold=[gold]).value == 1
    assert make("yes-no")(tagged(answer), gold=["no"]).value == 0


@pytest.mark.parametrize("gold", ["no", "False", "0", "N", "不是", "否", "No, there is none"])
@pytest.mark.parametrize(
    "answer",
    [
        *(
            "There is no dog in the image.",
            "There is not.",
            "Not really",
            "No (it is a cat)",
            "No. It is a cat.",
            "false",
        ),
        *(
            "没有",
            "没有狗",
            "不是，是猫",
            "图中没有狗",
            "It isn't",
            "The answer is no.",
            "Definitely not.",
            "I don't think so",
        ),
    ],
)
def test_ways_to_say_no(gold, answer):
    assert make("yes-no")(tagged(answer), gold=[gold]).value == 1
    assert make("yes-no")(tagged(answer), gold=["yes"]).value == 0


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        *((text, "ambiguous") for text in ("yes/no", "No, the answer is yes", "Yes, there is no dog", "No, it is")),
        *((text, "ambiguous") for text in ("Yes. No.", "是的，没有", "没有，是的")),
        *(
            (text, "no_answer")
            for text in ("It is not clear", "I can't tell", "不知道", "没有足够的信息", "是不是", "不错")
        ),
        *(
            (text, "no_answer")
            for text in ("There is a dog", "true or false", "correct", "it is not no", "nobody", "maybe")
        ),
    ],
)
def test_neither_yes_nor_no(answer, status):
    for gold in ("yes", "no"):
        assert (
            make("yes-no")(tagged(answer), gold=[gold]).value,
            make("yes-no")(tagged(answer), gold=[gold]).status,
        ) == (
            0,
            status,
        )


def test_numbers_are_yes_and_no_where_gold_has_them():
    assert make("yes-no")(tagged("1"), gold=["1"]).value == make("yes-no")(tagged("0"), gold=[0]).value == 1
    assert make("yes-no")(tagged("1"), gold=["yes"]).status == "no_answer"


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
        "not sure",
        "I'm not sure.",
        "too blurry to read",
        "The image is too dark",
        "There is not enough information",
        "I am unable to see",
        "Sorry, I can't see the image",
        "unanswerable, it is too dark",
        "unanswerable because the image is blurry",
        "cannot read",
        "I have no idea",
        "There's not enough information to answer",
        "I'm sorry, but I can't determine it",
        "看不出来",
        "无法确定答案",
        "The text is illegible.",
        "看不清",
        "无法确定。",
        "抱歉，我看不清楚",
        "**Unanswerable**",
        "The answer is unanswerable",
    ],
)
def test_wordings_of_unanswerable(answer):
    score = make("unanswerable")(tagged(answer), gold=["unanswerable"])
    assert (score.value, score.extracted) == (1, "unanswerable")
    assert make("unanswerable")(tagged(answer), gold=["red"]).value == 0


@pytest.mark.parametrize(
    "answer",
    [
        *("not unanswerable", "answerable", "unanswerable or red", "I can see it", "red", "none", "nothing", "known"),
        *("unanswerable, but red", "not sure, maybe red", "red, but I'm not sure", "unanswerable because it is red"),
        *("not too blurry", "sure", "dark", "clear", "看得清", "too dark to be red"),
    ],
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
