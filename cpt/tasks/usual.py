"""What a definition need not say: words, metric and limits that a person would expect."""

from __future__ import annotations

from collections.abc import Mapping

from cpt.tasks.definition import AnswerIn, PromptWords, fields_of
from cpt.tasks.rows import Fields
from cpt.types import AnsweredBy, PromptStyle

_SHORT = "Answer the question using a single word or phrase."
_LETTER = "Answer with the option's letter from the given choices directly."
_WHERE: Mapping[AnswerIn, str] = {"plain": "", "tags": " inside <answer> </answer>", "boxed": " in \\boxed{}"}
_ASKED = "{question}\n{options}\n{form}"


def usual_words(words: PromptWords) -> dict[PromptStyle, str]:
    """The words of each style of prompt where the definition has none. `think` asks what its `direct` asks."""
    own = words.direct or _ASKED
    return {"direct": _ASKED, "think": own if "form" in fields_of(own) else f"{own}\n{{form}}"}


def forms(words: PromptWords) -> dict[bool, dict[PromptStyle, str]]:
    """What `{form}` stands for, by whether a row has choices: it fits the place where the definition reads answers."""
    return {choices: _form(words, choices) for choices in (False, True)}


def _form(words: PromptWords, choices: bool) -> dict[PromptStyle, str]:
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


def usual_metric(example: Fields, answered_by: AnsweredBy) -> str:
    """The metric of a task that names none, by its first row."""
    if answered_by == "likelihood":
        return "likelihood" if example.choices else "token-probability"
    if example.choices:
        return "choice"
    return "vqa" if len(example.answers) == VQA_ANSWERS else "exact"
