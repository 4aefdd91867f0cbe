"""What holds of every reward for answers, on any text."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.registry import get, make
from rewards.score import Reward, Score

WORDS: dict[str, Any] = {"gold": ["dark red", "red"], "candidates": ["red", "blue"], "question": "Is it red ?"}
ROWS: dict[str, dict[str, Any]] = {
    "exact": WORDS,
    "normalised": WORDS,
    "yes-no": {**WORDS, "gold": ["yes"]},
    "unanswerable": {**WORDS, "gold": ["unanswerable"]},
    "choice": {**WORDS, "gold": ["B"], "choices": ["red", "blue", "A or B"]},
    "number": {**WORDS, "gold": ["5 cm", "-1/2"]},
    "vqa": {**WORDS, "gold": ["red"] * 6 + ["5"] * 4},
    "vizwiz": {**WORDS, "gold": ["red"] * 6 + ["unanswerable"] * 4},
    "anls": WORDS,
    "edit": WORDS,
    "rouge-l": WORDS,
    "iou": {**WORDS, "gold": ["[1, 2, 3, 4]"], "meta": {"width": 10, "height": 10}},
    "iou-threshold": {**WORDS, "gold": ["[1, 2, 3, 4]"]},
    "set": {**WORDS, "gold": ["red, blue"]},
    "ordered-list": {**WORDS, "gold": ["red, blue"]},
    "equality": WORDS,
    "token-f1": WORDS,
    "code-edit": WORDS,
    "relaxed": {**WORDS, "gold": ["5", "-5%", "red"]},
    "loose-text": {**WORDS, "gold": ["dark red, or blue"]},
    "last-number": {**WORDS, "gold": ["-5"]},
    "first-letter": {**WORDS, "gold": ["B"]},
    "first-label": WORDS,
    "contains": WORDS,
    "list-share": {**WORDS, "gold": ["red, blue"], "question": "Which states are red ?"},
    "cider": {"gold": ["a dark red ball"], "meta": {"document_frequencies": {"documents": 3, "counts": {"red": 2}}}},
    "bleu": {**WORDS, "gold": ["a dark red ball"]},
    "sari": {**WORDS, "gold": ["dark red"]},
    "mmmu": {**WORDS, "gold": ["B"], "choices": ["red", "blue", "5 cm"]},
    "mmlu-pro": {**WORDS, "gold": ["B"], "choices": ["red", "blue", "5 cm"]},
    "pope": {**WORDS, "gold": ["yes"]},
    "mme": {**WORDS, "gold": ["yes"]},
    "ifeval": {**WORDS, "gold": ["punctuation:no_comma"], "meta": {"kwargs": [{}]}},
}
CASE_COUNTS = frozenset(("code-edit",))
RIGHT = {"yes-no": "yes", "choice": "B", "number": "5 cm", "unanswerable": "unanswerable"}
READINGS = ("strict", "tolerant", "answer", "boxed", "last_line", "whole")
TEMPLATES = ("direct", "think", "think_boxed", "boxed")
WRAPPED = ("{}", "<answer>{}</answer>", "<think>a</think><answer>{}</answer>", "\\boxed{{{}}}", "<think>{}</think>")

TAGS = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", "{", "[1, 2, 3, 4]", "[", "$", "\\text{"]
SAID = [
    "red",
    "Blue",
    "yes",
    "no ",
    "B",
    "(b)",
    "A or ",
    "-5 cm",
    "5",
    "1/2",
    "e9",
    ",",
    ";",
    "not ",
    "?",
    "the answer is ",
]
ODD = ["\0", "\x1b", "\ud800", "\udfff", "\u200b", "\u0301", "İ", "ß", "５", "½", "😀", "\r\n", "\u2028", "’"]
PIECES = st.one_of(st.sampled_from(TAGS + SAID + ODD), st.integers(0, sys.maxunicode).map(chr))
TEXTS = st.builds(
    lambda pieces, wrapped: wrapped.format("".join(pieces)), st.lists(PIECES, max_size=8), st.sampled_from(WRAPPED)
)
LONG = 100_000


@cache
def reward(name: str, **parameters: Any) -> Reward:
    return make(name, **parameters)


def right_answer(name: str) -> str:
    return f"<answer> {RIGHT.get(name, ROWS[name]['gold'][0])} </answer>"


def check(name: str, score: Score) -> None:
    assert 0.0 <= score.value <= 1.0 and type(score.value) is float
    assert not score.failed, score.detail
    assert score.parts.keys() == reward(name)(right_answer(name), **ROWS[name]).parts.keys()
    assert all(0.0 <= part <= 1.0 for part in score.parts.values())
    assert bool(score.extracted) == (score.status == "ok")
    assert score.status == "ok" or score.value == 0.0


@pytest.mark.parametrize("name", ROWS)
def test_the_right_answer_earns_everything(name):
    assert reward(name)(right_answer(name), **ROWS[name]).value == 1.0


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=25, deadline=None)
@given(text=TEXTS, read=st.sampled_from(READINGS), template=st.sampled_from(TEMPLATES))
def test_any_text_has_a_score(name, text, read, template):
    score = reward(name, read=read)(text, **ROWS[name], template=template)
    check(name, score)


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=3, deadline=None)
@given(
    pieces=st.lists(PIECES, min_size=1, max_size=4),
    wrapped=st.sampled_from(WRAPPED),
    read=st.sampled_from(("strict", "tolerant")),
)
def test_any_long_text_has_a_score(name, pieces, wrapped, read):
    pattern = "".join(pieces)
    text = wrapped.format((pattern * (LONG // len(pattern) + 1))[: LONG - 100])
    check(name, reward(name, read=read)(text, **ROWS[name]))


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=10, deadline=None)
@given(text=TEXTS, read=st.sampled_from(READINGS), space=st.sampled_from([" ", "\n", " \t\n"]))
def test_white_space_around_changes_nothing(name, text, read, space):
    plain = reward(name, read=read)(text, **ROWS[name])
    around = reward(name, read=read)(f"{space}{text}{space}", **ROWS[name])
    assert (around.value, around.status, around.extracted) == (plain.value, plain.status, plain.extracted)


@pytest.mark.parametrize("name", sorted(ROWS.keys() - CASE_COUNTS))
def test_case_changes_nothing_of_the_right_answer(name):
    tags = ("<answer> ", " </answer>")
    said = right_answer(name).removeprefix(tags[0]).removesuffix(tags[1])
    for other in (said.upper(), said.title()):
        assert reward(name)(other.join(tags), **ROWS[name]).value == 1.0


@pytest.mark.parametrize("name", ROWS)
def test_limits_and_source_are_stated(name):
    entry = get(name)
    assert entry.limits and entry.summary and entry.source and entry.formula
    assert entry.family == "answer"


def test_100_kb_take_no_quadratic_time():
    """Texts on which a careless pattern takes minutes. All take about three seconds; the limit ends what hangs."""
    code = """
from tests.unit.test_rewards_properties import LONG, ROWS, reward
patterns = ["<answer>", "<think>", "\\\\boxed{", "{}", "1,", "[1,", "999,", "- ", "a ", "\\u0323\\u0301", "not ", "A. "]
for number, (name, row) in enumerate(ROWS.items()):
    for pattern in patterns[number % 4 :: 4]:
        text = pattern * (LONG // len(pattern))
        reward(name, read="tolerant")(text, **row)
        reward(name)(f"<answer>{text}</answer>", **row)
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
