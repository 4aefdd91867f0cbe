"""What a definition need not say: words, metric and limits that a person would expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from cpt.tasks.definition import AnswerIn, PromptWords
from cpt.tasks.rows import Fields
from cpt.types import PromptStyle

_SHORT = "Answer the question using a single word or phrase."
_LETTER = "Answer with the option's letter from the given choices directly."
_WHERE: Mapping[AnswerIn, str] = {
    "plain": "",
    "tags": " inside <answer> </answer>",
    "boxed": " in \\boxed{}",
}


def usual_words(words: PromptWords) -> dict[PromptStyle, str]:
    """The words of each style of prompt where the definition has none.

    `think` asks what the definition's `direct` asks, and for reasoning first.
    """
    asked = words.direct or "{question}\n{options}"
    return {"direct": "{question}\n{options}\n{form}", "think": asked if "{form}" in asked else f"{asked}\n{{form}}"}


def form_words(words: PromptWords, choices: bool) -> dict[PromptStyle, str]:
    """What `{form}` stands for: what is usually said of an answer's form, for the place where it is read.

    Args:
        choices: whether the row has lettered options.
    """
    what = "the option's letter" if choices else "the answer"
    direct, think = words.place("direct"), words.place("think")
    plain = _LETTER if choices else _SHORT
    return {
        "direct": plain if direct == "plain" else f"Give {what}{_WHERE[direct]}.",
        "think": f"First think about it inside <think> </think>, then give {what}{_WHERE[think]}.",
    }


LIKELIHOOD_WORDS: Mapping[PromptStyle, str] = {"direct": "{question}", "think": "{question}"}
MAX_TOKENS: Mapping[PromptStyle, int] = {"direct": 64, "think": 1024}
VQA_ANSWERS = 10
"""Answers of as many annotators are scored by their consensus."""


def usual_metric(example: Fields, answered_by: Literal["generation", "likelihood"]) -> str:
    """The metric of a task that names none, by its first row."""
    if answered_by == "likelihood":
        return "likelihood" if example.choices else "token-probability"
    if example.choices:
        return "choice"
    return "vqa" if len(example.answers) == VQA_ANSWERS else "exact"
