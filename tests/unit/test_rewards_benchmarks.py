"""MMMU, MMLU-Pro, POPE, MME: what their official scripts read from a text, quirks included. Values by their rules."""

from __future__ import annotations

import pytest

from rewards.mmmu import open_answers, option
from rewards.registry import make

CHOICES = ["red ball", "blue box", "green cat", "yellow dog"]


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),  # the full stop at the end goes first
        ("I think (A), no, (C) is right", "C"),  # the last one
        ("(A) is it, B is not", "A"),  # brackets go first
        ("A or B or C ?", "C"),
        ("The answer is B. blue box", "B"),  # not in MMMU's own script, which would take the text
        ("b", ""),
        ("blue box", ""),  # up to five words only letters count
        ("I can see that it is a Blue Box", "B"),
        ("It is a blue box and not a red ball", "A"),  # the last one, whatever is said of it
        ("that is no boxer in a blue boxer suit", "B"),  # within a word
        ("I do not know at all what", ""),
        ("A dog", "A"),  # an article
        ("E", ""),
        ("B!", "B"),
        ("'B!'", ""),  # the exclamation mark is tried before the quotes are gone
    ],
)
def test_mmmu_reads_an_option(response, letter):
    assert option(response, CHOICES) == letter


@pytest.mark.parametrize(
    ("response", "answers"),
    [
        ("12", {12.0}),
        ("Red.", {"red"}),
        ("x", {" x", "x "}),
        ("so the answer is 3.456", {3.46}),
        ("The answer is 5 apples\nso x = 1,234", {"5 apples", 5.0, 1234.0, 234.0}),  # what is left of 1,234
        ("1e3", {1000.0, 3.0}),
        ("y = 2\nIt grows", {"y = 2\nit grows", 2.0}),  # "=" counts in the last line
        ("It is blue. So it is 4", {4.0}),  # no sentences: the shortest tail of the line
        ("answer :", {"answer :"}),  # trivial
    ],
)
def test_mmmu_reads_an_open_answer(response, answers):
    assert open_answers(response) == answers


def mmmu(said: str, *gold: str, **row):
    return make("mmmu", read=row.pop("read", "strict"))(said, gold=list(gold), **row)


def test_mmmu_scores_options():
    row = {"choices": CHOICES}
    assert mmmu("<answer>(B)</answer>", "B", **row).value == 1
    assert mmmu("<answer>(B)</answer>", "blue box", **row).extracted == "B"
    assert mmmu("<answer>(B)</answer>", "1", **row).value == 1
    assert mmmu("<answer>(C)</answer>", "B", **row).value == 0
    assert mmmu("It is (B).", "B", **row).status == "malformed"
    assert mmmu("<think>(C)</think> It is (B).", "B", read="tolerant", **row).value == 1
    # Where the script draws an option, there is no answer.
    assert mmmu("<answer>the second</answer>", "B", **row).status == "no_answer"
    assert mmmu("<answer>(B)</answer>", "pink", **row).status == "error"


@pytest.mark.parametrize(
    ("said", "gold", "value"),
    [
        ("The answer is 3.14159", ["3.14"], 1),
        ("3.15", ["3.14"], 0),
        ("about 24/7 a week", ["24/7"], 1),  # gold's text within a phrase
        ("The result is Central Park", ["park", "garden"], 1),
        ("The sparkle", ["park"], 1),  # within a word
        ("xy", ["x"], 0),  # a letter needs a space beside it
        ("x y", ["x"], 1),
    ],
)
def test_mmmu_scores_open_answers(said, gold, value):
    assert mmmu(f"<answer>{said}</answer>", *gold).value == value


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is (C).", "C"),
        ("the answer is C, the answer is D", "C"),  # the first
        ("The answer is c.", ""),
        ("Answer: A, no, Answer: B\nAnswer: D", "B"),  # the last of the first line that has one
        ("Answer:\n\nJ", "J"),
        ("Answer: A. But the answer is B", "B"),  # "answer is" goes first
        ("A or B, so B it is, and C is not", "C"),
        ("I see it", "I"),
        ("(H)", "H"),
        ("Bold", ""),
        ("K", ""),
    ],
)
def test_mmlu_pro(response, letter):
    found = make("mmlu-pro", read="whole")(response, gold=["C"], choices=[f"option {n}" for n in range(10)])
    assert found.extracted == letter
    assert found.value == float(letter == "C")
    assert (found.status == "ok") == bool(letter)


def test_mmlu_pro_takes_gold_as_letter_text_or_index():
    choices = [
        f"text {word}" for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    ]
    for gold in ("J", "text ten", "9"):
        assert make("mmlu-pro")("<answer>J</answer>", gold=[gold], choices=choices).value == 1
    assert make("mmlu-pro")("<answer>J</answer>", gold=["J"]).value == 1
    assert make("mmlu-pro")("<answer>J</answer>", gold=["eleven"], choices=choices).status == "error"


@pytest.mark.parametrize(
    ("response", "pope", "mme"),
    [
        ("Yes", "yes", "yes"),
        ("no.", "no", "no"),
        ("No, there is no dog", "no", "no"),
        ("There is not a dog", "no", ""),
        ("There is a dog", "yes", ""),
        ("Yes. There is no cat", "yes", "yes"),  # the first sentence alone
        ("Yes, there is no cat", "no", "yes"),
        ("NO", "yes", "no"),  # capitals are no "no" for POPE
        ("No!", "yes", "no"),
        ("n", "yes", "no"),
        ("Y", "yes", "yes"),
        ("none", "yes", "no"),
        ("eyes", "yes", "yes"),
        ("I can't tell", "yes", ""),
    ],
)
def test_yes_and_no_as_pope_and_mme_read_them(response, pope, mme):
    for name, says in (("pope", pope), ("mme", mme)):
        for gold in ("yes", "No"):
            found = make(name)(f"<answer>{response}</answer>", gold=[gold])
            assert found.extracted == says, name
            right = float(says == gold.lower())
            assert (found.value, found.parts) == (right, {"match": right, "yes": float(says == "yes")}), name


def test_yes_and_no_need_such_gold_and_an_answer():
    for name in ("pope", "mme"):
        assert make(name)("<answer>yes</answer>", gold=["maybe"]).status == "error"
        assert make(name)("<answer> </answer>", gold=["yes"]).status == "no_answer"
        assert make(name)("<answer>!</answer>", gold=["yes"]).status == "no_answer"
        assert make(name)("yes", gold=["yes"]).status == "malformed"
        assert make(name, read="tolerant")("<think>no</think>yes", gold=["yes"]).value == 1
