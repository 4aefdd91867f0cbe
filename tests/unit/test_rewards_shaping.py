"""Shaping by length, repetition and truncation, computed by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards import registry
from rewards.shaping import cosine_length, length, repetition, truncation

RIGHT, WRONG = "<answer> 3 </answer>", "<answer> 4 </answer>"


@pytest.mark.parametrize(("tokens", "value"), [(1, 1.0), (10, 1.0), (15, 0.75), (20, 0.5), (30, 0.0), (99, 0.0)])
def test_length_falls_linearly(tokens, value):
    assert length("some words", n_tokens=tokens, low=10, high=30).value == pytest.approx(value)


def test_length_in_words_and_up_to_the_limit():
    assert length("one two three", unit="words", high=4).value == 0.25
    assert length("one", n_tokens=8, max_tokens=32).value == 0.75


def test_length_says_what_it_needs():
    with pytest.raises(ValueError, match="needs the column n_tokens; use unit: words"):
        length("one", high=3)
    with pytest.raises(ValueError, match="length needs high"):
        length("one", unit="words")
    with pytest.raises(ValueError, match="low 5 and high 5"):
        length("one", n_tokens=1, low=5, high=5)


def cosine(completion: str, n_tokens: int, **parameters: float) -> float:
    return cosine_length(completion, gold=["3"], n_tokens=n_tokens, max_tokens=100, **parameters).value


@pytest.mark.parametrize(
    ("completion", "tokens", "reward"),
    [
        (RIGHT, 0, 2.0),
        (RIGHT, 50, 1.5),
        (RIGHT, 25, 1 + (1 + math.sqrt(0.5)) / 2),
        (WRONG, 0, -10.0),
        (WRONG, 50, -5.0),
        (WRONG, 75, -10 * (1 - math.sqrt(0.5)) / 2),
        (RIGHT, 100, -10.0),
        (WRONG, 100, -10.0),
    ],
)
def test_cosine_length_is_the_papers_reward_mapped_to_0_1(completion, tokens, reward):
    assert cosine(completion, tokens) == pytest.approx((reward + 10) / 12)


def test_cosine_length_prefers_short_right_and_long_wrong_answers():
    right, wrong = ([cosine(text, n) for n in range(0, 100, 10)] for text in (RIGHT, WRONG))
    assert right == sorted(right, reverse=True) and len(set(right)) == 10
    assert wrong == sorted(wrong) and len(set(wrong)) == 10
    assert min(right) > max(wrong)


def test_cosine_length_with_other_values():
    values = {"right_short": 1.0, "right_long": 0.5, "wrong_short": 0.0, "wrong_long": 0.0, "exceeded": 0.0}
    assert [cosine(RIGHT, n, **values) for n in (0, 50, 100)] == pytest.approx([1.0, 0.75, 0.0])
    assert cosine(WRONG, 50, **values) == 0.0
    with pytest.raises(ValueError, match="values that differ"):
        cosine(RIGHT, 1, **dict.fromkeys(values, 1.0))


def test_cosine_length_says_how_the_answer_was_read():
    score = cosine_length("4", gold=["3"], n_tokens=1, max_tokens=10)
    assert (score.status, score.parts) == ("malformed", {"match": 0.0})
    assert cosine_length(RIGHT, gold=[], n_tokens=1, max_tokens=10).status == "error"


@pytest.mark.parametrize(
    ("text", "n", "value"),
    [
        ("a b c d", 3, 1.0),
        ("a b a b a b", 2, 2 / 5),  # ab ba ab ba ab
        ("A b a B", 2, 2 / 3),
        ("a a a a", 3, 1 / 2),
        ("a b", 3, 1.0),
        ("a a b", 1, 2 / 3),
    ],
)
def test_repetition_is_the_share_of_distinct_n_grams(text, n, value):
    assert repetition(text, n=n).value == pytest.approx(value)


def test_repetition_needs_a_size():
    with pytest.raises(ValueError, match="n ≥ 1"):
        repetition("a b", n=0)


def test_repetition_without_spaces():
    # 18 characters, 16 trigrams, of which the 6 of one round are distinct.
    assert repetition("一只红色的狗一只红色的狗一只红色的狗").value == pytest.approx(6 / 16)
    assert repetition("一只红色的狗").value == 1
    # 15 times "ha": 13 trigrams, one of them distinct.
    assert repetition("ha" * 15).value == pytest.approx(1 / 13)
    assert repetition("so " + "a" * 20).value == pytest.approx(2 / 19)


@pytest.mark.parametrize(
    "text", ["banana", "1000000", "hahaha", "-" * 40, "Donaudampfschifffahrtsgesellschaft", "aaa bbb ccc"]
)
def test_words_that_only_look_repetitive(text):
    assert repetition(text).value == 1


@pytest.mark.parametrize(
    "reason", ["length", "max_tokens", "MAX_TOKENS", "abort", "content_filter", "error", "", "unknown"]
)
def test_what_did_not_end_by_itself(reason):
    assert truncation("a", finish_reason=reason).value == 0


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos_token", "end_turn", "stop_sequence"])
def test_what_ended_by_itself(reason):
    assert truncation("a", finish_reason=reason).value == 1


def test_length_in_words_counts_characters_where_there_are_no_spaces():
    assert length("一只狗", unit="words", high=4).value == 0.25


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_silence_is_worth_nothing(text):
    columns = {"gold": ["3"], "n_tokens": 0, "max_tokens": 10, "finish_reason": "stop"}
    for function in (length, cosine_length, repetition, truncation):
        score = function(text, **columns)
        assert (score.value, score.status) in ((0.0, "no_answer"), (0.0, "malformed"))


@given(st.text(st.characters(codec=None)), st.integers(0, 120), st.sampled_from(["stop", "length"]))
def test_always_between_0_and_1(text, tokens, reason):
    columns = {"gold": ["3"], "n_tokens": tokens, "max_tokens": 100, "finish_reason": reason}
    for name in ("length", "cosine-length", "repetition", "truncation"):
        assert registry.get(name).family == "shaping"
        score = registry.make(name)(text, **columns)
        assert 0.0 <= score.value <= 1.0
        assert not score.failed
