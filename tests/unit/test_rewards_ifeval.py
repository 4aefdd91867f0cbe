"""IFEval: each instruction on a text that follows it and on one that does not; all of a row's together."""

from __future__ import annotations

from typing import Any

import pytest

from rewards.ifeval import followed, ifeval
from rewards.instructions import INSTRUCTIONS, UNCHECKED, follows, loosened, problem, sentences

Case = tuple[str, dict[str, Any], str, str]
FEW, MANY = "less than", "at least"

# Instruction, arguments, a text that follows it, one that does not.
CASES: list[Case] = [
    ("keywords:existence", {"keywords": ["apple", "red"]}, "A Reddish APPLE.", "A red pear."),
    ("keywords:existence", {"keywords": ["C++"]}, "In C++ it is short.", "In C it is long."),
    ("keywords:frequency", {"keyword": "cat", "relation": MANY, "frequency": 2}, "Cat, and cats.", "One cat."),
    ("keywords:frequency", {"keyword": "cat", "relation": FEW, "frequency": 2}, "One cat.", "Cat, and cats."),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "Concatenate.", "A Cat."),
    ("keywords:letter_frequency", {"letter": "E", "let_relation": MANY, "let_frequency": 3}, "Eee", "ee"),
    ("keywords:letter_frequency", {"letter": "!", "let_relation": FEW, "let_frequency": 1}, "no", "yes!"),
    ("length_constraints:number_sentences", {"relation": FEW, "num_sentences": 3}, "One. Two.", "One. Two! Three?"),
    ("length_constraints:number_sentences", {"relation": MANY, "num_sentences": 3}, "One. Two! Three", "Dr. No. So."),
    ("length_constraints:number_words", {"relation": MANY, "num_words": 4}, "it's three, no", "it's three"),
    ("length_constraints:number_words", {"relation": FEW, "num_words": 4}, "it's three", "it's three, no"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo\n***", "one\n***\n***\ntwo"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 1}, "one", "one *** two"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        "First.\n\n'then, it rained.",
        "First.\n\nAnd then.",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "then"},
        "First.\n\nThen.\n\n",
        "First.\n\nThen.\n\nLast.",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] and [address]", "[name] and [\nx]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye.\np. s. More.", "Bye. P.S more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S more", "P.S. more"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n - two\n**bold**", "* one\n* two\n* three"),
    ("detectable_format:constrained_response", {}, "My answer is maybe.", "My answer is perhaps."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and ****"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection2\nb",
        "Section 1\na\nsection 2\nb",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{'a': 1}"),
    ("detectable_format:title", {}, "<<A poem>>\nRoses.", "<< >>\n<A poem>"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:two_responses", {}, "******one******two******", "one******two******three"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi."}, " say hi.\nhi", "hi. Say hi."),
    ("startend:end_checker", {"end_phrase": "That is all."}, 'So: "that is ALL."', "That is all. Bye"),
    ("startend:quotation", {}, ' "So it is." ', '"'),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": MANY, "capital_frequency": 2},
        "STATE-OF-THE-ART, and NEW",
        "One NEW thing",
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_relation": FEW, "capital_frequency": 1},
        "Nothing new",
        "SOMETHING new",
    ),
    ("change_case:english_capital", {}, "ALL OF 3.", "All OF 3."),
    ("change_case:english_lowercase", {}, "all of 3.", "All of 3."),
    ("punctuation:no_comma", {}, "one; two", "one, two"),
]


def test_all_24_that_need_no_language_detector_are_here():
    assert {case[0] for case in CASES} == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 24 and len(UNCHECKED) == 1


@pytest.mark.parametrize(("name", "arguments", "right", "wrong"), CASES, ids=[case[0] for case in CASES])
def test_an_instruction_is_followed_or_not(name: str, arguments: dict[str, Any], right: str, wrong: str):
    assert follows(name, right, arguments) is True
    assert follows(name, wrong, arguments) is False
    assert follows(name, " \n", arguments) is False  # an empty text follows none, as published


def test_arguments_of_other_instructions_are_none():
    """As Parquet has them: every row has all keys."""
    arguments = {"num_words": None, "relation": None, "keyword": None, "num_bullets": 1.0}
    assert follows("detectable_format:number_bullet_lists", "- one", arguments)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("", 0),
        ("One", 1),
        ("One. Two", 2),
        ("Dr. A. Smith came, e.g. today. He left.", 2),
        ("1. First\n2. Second", 1),
        ("It costs 3.50 now. Really?! Yes…", 3),
        ('She said "Go." Then she left.', 2),
        ("Wait... what?", 2),
    ],
)
def test_sentences_are_counted(text: str, number: int):
    assert sentences(text) == number


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("language:response_language", {"language": "de"}, "needs a language detector"),
        ("punctuation:no_colon", {}, "there is no instruction 'punctuation:no_colon'"),
        ("keywords:existence", {"keywords": []}, "needs keywords, and its kwargs have none"),
        ("length_constraints:number_words", {"relation": "at most", "num_words": 3}, "one of less than, at least"),
        ("length_constraints:number_words", {"relation": "at least", "num_words": "3"}, "num_words is '3', which is"),
        ("keywords:existence", {"keywords": "red"}, "keywords is 'red', which is not of its kind"),
    ],
)
def test_what_can_not_be_checked_is_named(name: str, arguments: dict[str, Any], said: str):
    assert said in problem(name, arguments)
    with pytest.raises(ValueError, match=said):
        follows(name, "text", arguments)
    score = ifeval("text", gold=[name], meta={"kwargs": [arguments]}, template="plain")
    assert score.failed and said in score.detail


def test_the_eight_texts_of_loose_scoring():
    assert loosened("a*\nb\nc*") == ["a*\nb\nc*", "b\nc*", "a*\nb", "b", "a\nb\nc", "b\nc", "a\nb"]


TWO = {"gold": ["punctuation:no_comma", "length_constraints:number_words"], "template": "plain"}
ROW = {**TWO, "meta": {"kwargs": [{}, {"relation": "at least", "num_words": 2, "keyword": None}]}}


@pytest.mark.parametrize(
    ("text", "strict", "loose", "share", "marks"),
    [
        ("one two", 1, 1, 1, "++"),
        ("one, two", 0, 0, 0.5, "-+"),
        ("Sure, here:\none two", 0, 1, 0.5, "~+"),  # the first line is left out
        ("one,", 0, 0, 0, "--"),
    ],
)
def test_all_instructions_have_to_be_followed(text: str, strict: float, loose: float, share: float, marks: str):
    score = ifeval(text, **ROW)
    assert (score.value, score.parts) == (strict, {"match": strict, "instructions": share})
    assert score.extracted == f"{marks[0]}punctuation:no_comma {marks[1]}length_constraints:number_words"
    known = {"+": "strictly", "~": "loosely", "-": "not"}
    assert followed(score.extracted) == [known[mark] for mark in marks]
    assert ifeval(text, **ROW, read="tolerant").value == loose


def test_the_text_is_taken_as_it_stands():
    """Quotation marks and asterisks are decoration elsewhere, and here what is asked for."""
    row = {"gold": ["startend:quotation", "detectable_format:number_highlighted_sections"], "template": "plain"}
    assert ifeval('"*so*"', **row, meta={"kwargs": [{}, {"num_highlights": 1}]}).value == 1


@pytest.mark.parametrize(
    ("template", "text", "strict", "loose"),
    [
        ("think_plain", "<think> a, b </think> one two", 1, 1),
        ("think_plain", "one two", 0, 1),
        ("direct", "<answer>one two</answer>", 1, 1),
        ("plain", "<answer>one two</answer>", 0, 1),
        ("plain", "<think> one two", 0, 0),
    ],
)
def test_reasoning_is_no_part_of_the_answer(template: Any, text: str, strict: float, loose: float):
    row = {**ROW, "template": template}
    assert (ifeval(text, **row).value, ifeval(text, **row, read="tolerant").value) == (strict, loose)


def test_a_row_without_arguments_is_named():
    score = ifeval("one two", **TWO)
    assert score.failed and "2 instructions and 0 kwargs" in score.detail
