"""VQA accuracy against the published values, and its normalisation worked out by hand."""

from __future__ import annotations

import pytest

from rewards.registry import make
from rewards.vqa import consensus, vqa_normalise


# The official code averages over the ten subsets of nine annotators. With m of ten matching: m subsets lose a match,
# so (m·min((m - 1)/3, 1) + (10 - m)·min(m/3, 1))/10. These are the values that VQA results are known to have.
@pytest.mark.parametrize(("matches", "value"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_ten_annotators(matches, value):
    gold = ["red"] * matches + [f"other {i}" for i in range(10 - matches)]
    assert consensus("red", gold) == pytest.approx(value)
    assert make("vqa")("<answer>Red</answer>", gold=gold).value == pytest.approx(value)


def test_the_definition_by_brute_force():
    gold = ["a"] * 2 + ["b"] * 3 + ["c"]
    for answer in "abcd":
        others = [gold[:i] + gold[i + 1 :] for i in range(len(gold))]
        mean = sum(min(rest.count(answer) / 3, 1) for rest in others) / len(gold)
        assert consensus(answer, gold) == pytest.approx(mean)


@pytest.mark.parametrize("gold", [["red"], ["red", "crimson"], ["red", "crimson", "scarlet"]])
def test_few_gold_answers_are_accepted_answers(gold):
    assert consensus("red", gold) == 1
    assert consensus("blue", gold) == 0


# By hand, from the four steps of the rule.
@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("The dogs.", "dogs"),
        ("a man and an apple", "man and apple"),
        ("Two", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("dont know", "don't know"),
        ("couldntve", "couldn't've"),
        ("red/blue", "red blue"),
        ("red / blue", "red blue"),
        ("t-shirt", "t shirt"),
        ("t- shirt", "t shirt"),
        ("hello, world-wide", "hello world wide"),
        ("1,000", "1000"),
        ("1,000-2", "10002"),
        ("2.5", "2.5"),
        ("u.s.", "us"),
        ("no.\tone\nway ", "no 1 way"),
        ("what?!", "what"),
        ("it’s", "it's"),
        ("the", "the"),
        ("A.", "a"),
        ("the a", "the a"),
        (".", ""),
    ],
)
def test_normalisation(text, form):
    assert vqa_normalise(text) == form


def test_both_sides_are_normalised():
    gold = ["two dogs"] * 4 + ["3"] * 6
    assert make("vqa")("<answer>The 2 dogs.</answer>", gold=gold).value == 1
    assert make("vqa")("<answer>dogs</answer>", gold=gold).value == 0


def test_vizwiz_merges_wordings():
    gold = ["unanswerable"] * 2 + ["unsuitable image"] * 3 + ["red"] * 5
    said = "<answer>can't tell</answer>"
    assert make("vizwiz")(said, gold=gold).value == 1
    assert make("vizwiz", wordings=False)(said, gold=gold).value == 0
    assert make("vizwiz", wordings=False)("<answer>unanswerable</answer>", gold=gold).value == pytest.approx(0.6)


def test_vizwiz_tells_answerability_from_the_answer():
    vizwiz = make("vizwiz")
    mostly_not = ["unanswerable"] * 6 + ["red"] * 4
    assert vizwiz("<answer>red</answer>", gold=mostly_not).parts == {"consensus": 1, "answerability": 0}
    assert vizwiz("<answer>unsuitable</answer>", gold=mostly_not).parts == {"consensus": 1, "answerability": 1}
    assert vizwiz("<answer>blue</answer>", gold=["red"] * 10).parts == {"consensus": 0, "answerability": 1}
    assert vizwiz("<answer></answer>", gold=mostly_not).parts == {"consensus": 0, "answerability": 0}


@pytest.mark.parametrize("answer", ["red or blue", "not red", "red, blue, green", "the answer is correct", "r e d"])
def test_hedges_earn_nothing(answer):
    for name in ("vqa", "vizwiz"):
        assert make(name)(f"<answer>{answer}</answer>", gold=["red"] * 10).value == 0
