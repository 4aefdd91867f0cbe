"""What a definition need not say: words, metric and limits that a person would expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from cpt.tasks.rows import Fields
from cpt.types import PromptStyle

_THINK = "First think about it inside <think> </think>, then give the answer inside <answer> </answer>."

WORDS: Mapping[PromptStyle, str] = {
    "direct": "{question}\n{options}\n{form}",
    "think": "{question}\n{options}\n{form}",
}
# By whether a row has choices: what `{form}` stands for.
FORM: Mapping[bool, Mapping[PromptStyle, str]] = {
    False: {"direct": "Answer the question using a single word or phrase.", "think": _THINK},
    True: {
        "direct": "Answer with the option's letter from the given choices directly.",
        "think": _THINK.replace("the answer", "the option's letter"),
    },
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
