"""ANLS, edit similarity and ROUGE-L against published and hand-computed values."""

from __future__ import annotations

import pytest

from rewards.registry import make


def score(name: str, answer: str, *gold: str, **parameters):
    return make(name, **parameters)(f"<answer>{answer}</answer>", gold=list(gold))


# The example of the Robust Reading Competition's page on ST-VQA, the challenge of arXiv 1907.00490: similarities to
# "Coca Cola" and "Coca Cola Company", and the score with threshold 0.5.
@pytest.mark.parametrize(
    ("answer", "first", "second", "value"),
    [
        ("The Coca", 0.44, 0.29, 0.0),
        ("CocaCola", 0.89, 0.47, 0.89),
        ("Coca cola", 1.0, 0.53, 1.0),
        ("Cola", 0.44, 0.24, 0.0),
        ("Cat", 0.22, 0.12, 0.0),
    ],
)
def test_anls_as_published(answer, first, second, value):
    both = score("anls", answer, "Coca Cola", "Coca Cola Company")
    assert both.value == pytest.approx(value, abs=0.005)
    assert both.parts["similarity"] == pytest.approx(max(first, second), abs=0.005)
    assert score("edit", answer, "Coca Cola Company").value == pytest.approx(second, abs=0.005)


def test_edit_similarity_by_hand():
    assert score("edit", "sitting", "kitten").value == pytest.approx(4 / 7)  # three edits, Levenshtein's example
    assert score("edit", "  Kitten ", "kitten").value == 1
    assert score("edit", "abc", "xyz").value == 0
    assert score("edit", "kitten.", "kitten").value == pytest.approx(6 / 7)


def test_anls_at_its_threshold():
    assert score("anls", "ab", "ax").value == 0  # a distance of exactly 0.5: the formula's 0
    assert score("anls", "ab", "ax", threshold=0.6).value == 0.5
    assert score("anls", "abc", "abx").value == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="threshold has to be above 0"):
        score("anls", "ab", "ab", threshold=0.0)


# Lin 2004, section 3: S1 "police killed the gunman"; S2 and S3 have ROUGE-L 3/4 and 2/4, S4 2/4 (beta = 1).
@pytest.mark.parametrize(
    ("answer", "value"),
    [("police kill the gunman", 0.75), ("the gunman kill police", 0.5), ("the gunman police killed", 0.5)],
)
def test_rouge_l_as_published(answer, value):
    assert score("rouge-l", answer, "police killed the gunman").value == pytest.approx(value)


def test_rouge_l_counts_characters_where_words_have_no_spaces():
    # LCS of 一只红色的狗 and 一只蓝色的狗: 5 of 6 characters on both sides.
    assert score("rouge-l", "一只红色的狗", "一只蓝色的狗。").value == pytest.approx(5 / 6)
    assert score("rouge-l", "猫", "一只蓝色的狗").value == 0
    # 一 只 dog against 一 只 red dog: P = 3/3, R = 3/4, F1 = 6/7.
    assert score("rouge-l", "一只dog", "一只red dog").value == pytest.approx(6 / 7)
    assert score("rouge-l", "แมวดำ", "แมวดำ").value == 1


@pytest.mark.parametrize("name", ["anls", "edit", "rouge-l"])
def test_composed_and_decomposed_letters_are_the_same(name):
    assert score(name, "cafe\u0301", "caf\u00e9").value == 1
    assert score(name, "**“Café”**", "café").value == 1


def test_words_around_the_answer_cost_their_letters():
    # "the answer is " is 14 of the 27 letters said.
    assert score("edit", "the answer is annual report", "annual report").value == pytest.approx(13 / 27)
    assert score("anls", "the answer is annual report", "annual report").value == 0
    assert score("edit", "the answer is annual report", "annual report", read="tolerant").value == 1


def test_rouge_l_by_hand():
    # LCS "the cat": P = 2/4, R = 2/3, F1 = 4/7, F2 = 5·P·R / (R + 4·P) = 5/8.
    said = score("rouge-l", "the big cat sat", "The cat slept")
    assert said.parts == pytest.approx({"f": 4 / 7, "precision": 1 / 2, "recall": 2 / 3})
    assert score("rouge-l", "the big cat sat", "The cat slept", beta=2.0).value == pytest.approx(5 / 8)
    assert score("rouge-l", "the cat, slept!", "x", "The cat slept").value == 1
    assert score("rouge-l", "-", "x").status == "no_answer"
    with pytest.raises(ValueError, match="beta"):
        score("rouge-l", "a", "a", beta=0.0)


@pytest.mark.parametrize("name", ["anls", "edit", "rouge-l"])
def test_hedges_earn_nothing_unless_they_may(name):
    gold = "the big red circle on the left"
    assert score(name, f"not {gold}", gold).status == "ambiguous"
    assert score(name, f"not {gold}", gold, refuse_hedges=False).value > 0.8
    assert score(name, f"not {gold}", f"not {gold}").value == 1
    row = {"gold": ["red"], "candidates": ["red", "blue"]}
    assert make(name)("<answer>red blue</answer>", **row).status == "ambiguous"


def test_what_is_beyond_the_limit_counts_as_different():
    assert score("edit", "a" * 10_000, "a" * 10_000).value == 1
    assert score("edit", "a" * 20_000, "a" * 20_000).value == 0.5
    assert score("edit", "a" * 20_000, "a" * 10_000).value == 0.5
    assert score("edit", "a" * 20_000 + "b", "a").value == pytest.approx(1 / 20_001)
    assert score("rouge-l", "a " * 8_000, "a " * 8_000).value == pytest.approx(0.5)  # 4,000 of 8,000 on both sides
