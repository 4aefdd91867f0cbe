"""The likeliest option and a text's probability, by hand; what tasks of this kind may say."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from cpt.tasks.likelihood import (
    answered_by,
    has_prompt,
    is_right,
    letter,
    likeliest,
    options_of,
    text_of,
    token_probability,
    windows,
)
from cpt.types import Sample


def sample(gold: tuple[str, ...] = ("red",), **meta: Any) -> Sample:
    return Sample("t/test/0", "t", "what ?", (), gold, "", meta)


def test_the_largest_sum_wins_and_per_character_another_may():
    """Sums -3 and -4; per character -3 / 2 = -1.5 and -4 / 8 = -0.5."""
    logprobs, options = [[-1.0, -2.0], [-4.0]], ["no", "purplish"]
    assert likeliest(logprobs, options, normalised=False) == 0
    assert likeliest(logprobs, options, normalised=True) == 1


def test_of_equal_options_the_first_is_taken():
    assert likeliest([[-2.0], [-1.0], [-0.5, -0.5]], ["aa", "b", "c"], normalised=False) == 1
    assert likeliest([[-2.0], [-1.0], [-0.5, -0.5]], ["aa", "b", "c"], normalised=True) == 0


def test_length_is_in_characters_not_in_bytes():
    """-4 / 2 characters = -2 loses to -1 / 1; -4 / 6 bytes would win."""
    assert likeliest([[-4.0], [-1.0]], ["日本", "x"], normalised=True) == 1


@pytest.mark.parametrize("gold", [("B",), ("green",), ("1",), ("B. green",), ("nothing", "green")])
def test_gold_is_a_letter_a_text_or_an_index(gold: tuple[str, ...]):
    options = ["red", "green", "blue"]
    assert [is_right(place, options, gold) for place in range(3)] == [False, True, False]


def test_options_of_one_text_are_right_together():
    assert [is_right(place, ["4", "3", "4"], ["4"]) for place in range(3)] == [True, False, True]


def test_more_options_than_letters():
    options = [f"option number {n}" for n in range(30)]
    assert is_right(29, options, ["option number 29"])
    assert not is_right(28, options, ["option number 29"])
    assert (letter(0), letter(25), letter(26)) == ("A", "Z", "")


def test_gold_that_is_no_option_is_refused():
    with pytest.raises(ValueError, match="gold has to be a letter, one of the choices or its index"):
        is_right(0, ["red", "green"], ["yellow"])


def test_token_probability_is_the_geometric_mean():
    """Probabilities 1/2, 1/4 and 1/8: (1/64)^(1/3) = 1/4, perplexity 4. Rounding never makes it more than 1."""
    assert token_probability([math.log(p) for p in (0.5, 0.25, 0.125)]) == pytest.approx(0.25)
    assert token_probability([1e-9, 1e-9]) == 1
    assert token_probability([-2000.0]) == 0


def test_windows_score_every_token_once_the_last_with_a_full_context():
    """lm-evaluation-harness's own example of 34 tokens in windows of ten."""
    assert windows(list(range(34)), -100, 10) == [
        ([-100], list(range(10))),
        ([9], list(range(10, 20))),
        ([19], list(range(20, 30))),
        ([23, 24, 25, 26, 27, 28, 29], [30, 31, 32, 33]),
    ]
    assert windows([5, 6], 1, 10) == [([1], [5, 6])]
    assert windows(list(range(20)), -1, 10)[1] == ([9], list(range(10, 20)))


def task(**said: Any) -> Any:
    return SimpleNamespace(name="t", **said)


def test_a_task_says_how_it_is_answered():
    assert answered_by(task()) == "generation"
    assert answered_by(task(answered_by="likelihood", metric="likelihood-normalised")) == "likelihood"
    assert has_prompt(task(metric="token-probability"))  # whatever that is of a completion
    assert has_prompt(task(answered_by="likelihood", metric="likelihood"))
    assert not has_prompt(task(answered_by="likelihood", metric="token-probability"))
    with pytest.raises(ValueError, match="task t: answered_by is 'guessing'; set generation or likelihood"):
        answered_by(task(answered_by="guessing"))
    with pytest.raises(ValueError, match=r"task t: metric is 'exact', which scores what is generated; .*token-prob"):
        answered_by(task(answered_by="likelihood", metric="exact"))


def test_what_a_sample_is_scored_by():
    assert options_of(sample(choices=["a", 2])) == ("a", "2")
    assert text_of(sample(text="Once.")) == "Once."
    assert text_of(sample(("Twice.",))) == "Twice."
    for meta in ({}, {"choices": []}, {"choices": ["a", " "]}):
        with pytest.raises(ValueError, match=r"sample t/test/0: its options are .* none of them empty"):
            options_of(sample(**meta))
    for gold, meta in (((), {}), (("",), {}), ((), {"text": "\n"})):
        with pytest.raises(ValueError, match="sample t/test/0: its text is empty; leave the sample out"):
            text_of(sample(gold, **meta))
