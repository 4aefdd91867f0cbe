"""Scores as released code computes them: charts, MLLM-CTBench, CoIN, UCIT, MLLM-CL. Values by hand from their rules."""

from __future__ import annotations

import pytest

from rewards.golds import gold_problem
from rewards.registry import make


def score(name: str, answer: str, *gold: str, question: str = "", **parameters):
    return make(name, **parameters)(f"<answer>{answer}</answer>", gold=list(gold), question=question)


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("0.57", "0.57", 1),
        ("10.5", "10", 1),  # exactly 5 %
        ("9.5", "10", 1),
        ("10.51", "10", 0),
        ("-10", "10", 0),
        ("1e1", "10", 1),
        ("12%", "12%", 1),
        ("0.12", "12%", 1),  # percent signs divide by a hundred
        ("12", "12%", 0),
        ("12%", "12", 0),
        ("2019", "1950", 1),  # years are numbers: 69 of 1950 is 3.5 %
        ("1950", "2019", 1),
        ("1900", "2019", 0),
        ("1,000", "1,000", 1),  # a text, right for itself alone
        ("1000", "1,000", 0),
        ("$5", "5", 0),
        ("0", "0", 1),
        ("0.0", "0", 0),  # where gold is 0 the text counts
        ("nan", "10", 0),
        ("inf", "10", 0),
        ("Yes", "yes", 1),
        ("China", "china", 1),
        ("Chinas", "China", 0),
    ],
)
def test_relaxed_accuracy(answer, gold, value):
    assert score("relaxed", answer, gold).value == value


def test_relaxed_accuracy_takes_any_gold_answer_and_another_tolerance():
    assert score("relaxed", "21", "China", "20").value == 1
    assert score("relaxed", "23", "20", relative=0.2).value == 1
    assert make("relaxed")("There are 20.5.", gold=["20"], read="tolerant").value == 1
    assert score("relaxed", "20").status == "error"
    with pytest.raises(ValueError, match="relative must not be negative"):
        score("relaxed", "20", "20", relative=-0.1)


def test_equality_is_that_of_the_letters_but_for_case():
    assert score("equality", "Red Panda", "red panda").value == 1
    assert score("equality", "red panda.", "red panda").value == 0
    assert score("equality", "the red panda", "red panda").value == 0
    assert score("exact", "red panda.", "red panda").value == 1
    assert make("equality")("Answer: red panda.", gold=["red panda"], read="tolerant").value == 1


def test_equality_without_some_characters():
    """MLLM-CL's score for finance, but on both sides."""
    assert score("equality", "A. Rising", "arising", without=" .").value == 1
    assert score("equality", "a rising", "A. Rising", without=" .").value == 1
    assert score("equality", "A, Rising", "arising", without=" .").value == 0
    assert score("equality", ".", " .", without=" .").status == "error"


GOLD = "The painting shows a shepherd with his flock."


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (GOLD, 1),
        (f"I think that {GOLD}", 1),
        ("the painting, shows a SHEPHERD: yes", 1),  # its first 30 characters without punctuation end in "shephe"
        ("the painting shows a sheep", 1),  # 24 of 26 characters in gold's order: 2·24/70 is 0.69
        ("a flock", 0),
        ("a portrait of a lady", 0),
    ],
)
def test_loose_text(answer, value):
    assert score("loose-text", answer, GOLD).value == value


def test_loose_text_by_its_second_version():
    """`_common_v2.py` has no first characters: 30 of gold's 44 are 2·30/(44 + 90) = 0.45 of both texts."""
    long = "the painting shows a shepherd" + " xxxx" * 12
    assert score("loose-text", long, GOLD).value == 1
    assert score("loose-text", long, GOLD, head=0).value == 0
    # abcd and abce: M = 3, but a gold answer of eight characters or fewer has no ratio.
    assert score("loose-text", "abce", "abcd").parts == {"match": 0.0, "ratio": 0.0}
    # abcdefghij and abcdefghix: 2·9/20.
    assert score("loose-text", "abcdefghix", "abcdefghij").parts["ratio"] == pytest.approx(0.9)
    assert score("loose-text", "abcdefghix", "abcdefghij", ratio=0.95).value == 0
    assert score("loose-text", "red", "!").status == "error"


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("3 + 4 = 7", "7", 1),
        ("7 of 12", "7", 0),
        ("1,234", "1234", 1),
        ("7.0009", "7", 1),
        ("7.0011", "7", 0),
        ("5-3", "-3", 1),
        ("7.", "so 3 and 4 are 7", 1),
        ("seven", "7", 0),
    ],
)
def test_last_number(answer, gold, value):
    assert score("last-number", answer, gold).value == value


def test_last_number_says_what_is_missing():
    assert score("last-number", "seven", "7").status == "no_answer"
    assert gold_problem(make("last-number"), {"gold": ["7", "seven"]}) == "gold answer 'seven' holds no number"
    assert score("last-number", "7.5", "7", tolerance=0.6).value == 1
    with pytest.raises(ValueError, match="tolerance has to be above 0"):
        score("last-number", "7", "7", tolerance=0.0)


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [("B", "B", 1), ("B\nBecause it flies.", "B\nIt has wings.", 1), ("b", "B", 0), ("The answer is B", "B", 0)],
)
def test_first_letter(answer, gold, value):
    assert score("first-letter", answer, gold).value == value


STANCES = ("hawkish", "dovish", "neutral")


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("Dovish", "dovish", 1),
        ("dovish, not hawkish", "dovish", 1),
        ("not dovish but hawkish", "hawkish", 0),
        ("its neutrality", "neutral", 1),
        ("hawkish", "B. Hawkish", 1),
        ("unclear", "neutral", 0),
    ],
)
def test_first_label(answer, gold, value):
    assert score("first-label", answer, gold, labels=STANCES).value == value


def test_labels_come_from_the_parameter_or_the_row():
    row = {"gold": ["not relevant"], "choices": ["relevant", "not relevant"], "candidates": ["x"]}
    first = make("first-label")
    assert first("<answer>not relevant</answer>", **row).extracted == "not relevant"
    assert first("<answer>relevant, not?</answer>", **row).value == 0
    assert first("<answer>x</answer>", **row).status == "no_answer"
    assert first("<answer>x</answer>", gold=["x"], candidates=["x", "y"]).value == 1
    assert first("<answer>x</answer>", gold=["x"]).detail.startswith("there are no labels: give the parameter labels")
    problem = gold_problem(make("first-label", labels=STANCES), {"gold": ["A"]})
    assert problem == "gold answer 'A' has none of the labels hawkish, dovish, neutral"


# MLLM-CL's rule for remote sensing and driving, and the two plain ones.
@pytest.mark.parametrize(
    ("answer", "gold", "none", "one", "both"),
    [
        ("red", "red", 1, 1, 1),
        ("A red ball.", "red", 1, 1, 1),
        ("infrared", "red", 1, 1, 0),  # one word: anywhere
        ("infrared light", "red", 1, 1, 0),  # before a space
        ("the redness", "red", 1, 1, 0),  # behind a space
        ("an infrareder lamp", "red", 1, 0, 0),
        ("redder than it", "red", 1, 0, 0),
        ("it, (red)", "red", 1, 0, 1),
        ("the ball is red, I say", "red", 1, 1, 1),
        ("two infrared lights", "red light", 1, 1, 0),  # several words: anywhere
        ("a blue ball", "red", 0, 0, 0),
        ("the x is 5.", "5.", 1, 1, 1),  # one word loses its full stop
    ],
)
def test_containment(answer, gold, none, one, both):
    found = {bounds: score("contains", answer, gold, bounds=bounds).value for bounds in ("none", "one", "both")}
    assert found == {"none": none, "one": one, "both": both}


def test_containment_either_way_and_without_characters():
    assert score("contains", "tiger", "tiger cat").value == 0
    assert score("contains", "tiger", "tiger cat", either=True).value == 1
    assert score("contains", "in front", "infront").value == 0
    assert score("contains", "It is in front.", "infront", without=" \n.").value == 1


def test_an_answer_that_declines_contains_nothing_else():
    assert score("contains", "Unanswerable, not red", "red").value == 0
    assert score("contains", "unanswerable", "Unanswerable").value == 1


def test_tolerant_containment_looks_everywhere_but_in_the_reasoning():
    contains = make("contains", read="tolerant")
    assert contains("<think>red</think> It is blue.", gold=["red"]).value == 0
    assert contains("I see one ball. It is red, I think.", gold=["red"]).value == 1
    assert contains("red <answer>blue</answer>", gold=["red"]).value == 0
    assert contains("<answer>red</answer> \\boxed{blue}", gold=["red"]).status == "ambiguous"


MAP = "Which states have the value of 3?"


@pytest.mark.parametrize(
    ("answer", "question", "value"),
    [
        ("Iowa,Ohio,Utah", MAP, 1),
        ("utah, iowa", MAP, 2 / 3),
        ("Ohio", MAP, 1 / 3),
        ("all but Ohio", MAP, 0),
        ("Iowa, Ohio, Utah, Texas, Maine", MAP, 1),  # wrong ones cost nothing
        ("the list is iowa, ohio, utah", "Name them.", 1),  # containment
        ("Utah, Iowa, Ohio", "Name them.", 0),
    ],
)
def test_list_share(answer, question, value):
    assert score("list-share", answer, "Iowa, Ohio, Utah", question=question).value == pytest.approx(value)


def test_list_share_of_every_question():
    assert score("list-share", "Ohio", "Iowa, Ohio", question="Name them.", asks="").value == 0.5
    assert score("list-share", "Ohio", ",", question=MAP).status == "error"
