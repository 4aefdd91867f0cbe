"""The format reward: the whole completion, balanced tags, an answer that is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.extract import read_answer
from rewards.format import format_
from rewards.registry import get

THINK, BOXED = "<think> a < b </think>", "\\boxed{\\frac{1}{2}}"


@pytest.mark.parametrize(
    ("template", "completion"),
    [
        ("direct", "<answer> top </answer>"),
        ("answer", "\n<answer>top</answer> "),
        ("think", f"{THINK} <answer> top </answer>"),
        ("think_answer", f"{THINK}\n\n<answer>top</answer>"),
        ("think_answer", "<think></think><answer>top</answer>"),
        ("boxed", BOXED),
        ("think_boxed", f"{THINK} {BOXED}"),
        ("no_think", "the top"),
        ("no_think", "a < b"),
    ],
)
def test_well_formed(template, completion):
    score = format_(completion, template=template)
    assert (score.value, score.status) == (1.0, "ok")
    assert score.extracted


@pytest.mark.parametrize(
    ("template", "completion", "status"),
    [
        ("answer", "top", "malformed"),
        ("answer", "<answer> top", "malformed"),
        ("answer", "<answer> top </answer> indeed", "malformed"),
        ("answer", "<answer> <answer> top </answer> </answer>", "malformed"),
        ("answer", "<answer> top </answer> <answer> top </answer>", "malformed"),
        ("answer", f"{THINK} <answer> top </answer>", "malformed"),
        ("answer", "<answer> . </answer>", "no_answer"),
        ("answer", "<answer> \u200b </answer>", "no_answer"),
        ("think_answer", "<answer> top </answer>", "malformed"),
        ("think_answer", "<think> a <think> b </think> </think> <answer> top </answer>", "malformed"),
        ("think_answer", "<think> a <answer> top </answer> </think>", "malformed"),
        ("think_answer", "<answer> top </answer> <think> a </think>", "malformed"),
        ("think_answer", f"{THINK} and so <answer> top </answer>", "malformed"),
        ("boxed", "\\boxed{1} \\boxed{1}", "malformed"),
        ("boxed", "\\boxed{\\boxed{1}}", "malformed"),
        ("boxed", "\\boxed{\\frac{1}{2}", "malformed"),
        ("boxed", "\\boxed{}", "no_answer"),
        ("think_boxed", f"{THINK} <answer> top </answer>", "malformed"),
        ("no_think", f"{THINK} top", "malformed"),
        ("no_think", "<answer> top </answer>", "malformed"),
        ("no_think", "\\boxed{top}", "malformed"),
        ("no_think", " . ", "no_answer"),
        ("no_think", "", "no_answer"),
    ],
)
def test_not_well_formed(template, completion, status):
    score = format_(completion, template=template)
    assert (score.value, score.status) == (0.0, status)


def test_an_unknown_template_is_refused():
    with pytest.raises(ValueError, match="template 'thinking' is not known; known: direct"):
        format_("x", template="thinking")


def test_it_knows_its_limits():
    entry = get("format")
    assert (entry.family, entry.required) == ("format", ())
    assert "never looks at what is said" in entry.limits


PIECES = ["<think>", "</think>", "<answer>", "</answer>", "\\boxed{", "}", " top ", "\n", "3 < 4", "\u200b", "\ud800"]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(st.characters(codec=None)))
def test_it_agrees_with_the_strict_reading(text):
    for template in ("direct", "think", "boxed", "think_boxed"):
        score, read = format_(text, template=template), read_answer(text, "strict", template)
        assert score.value in (0.0, 1.0)
        if score.value:
            assert (read.status, read.answer) == ("ok", score.extracted)
        else:
            assert read.status != "ok" or not read.answer.isprintable()


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.sampled_from([" ", "\n", "\t  "]))
def test_white_space_around_does_not_count(text, space):
    for template in ("answer", "think_boxed", "no_think"):
        assert format_(space + text + space, template=template) == format_(text, template=template)
