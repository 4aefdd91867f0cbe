"""How the built-in world words prompts and targets, and how long they get: every word is one token of its model."""

from __future__ import annotations

from cpt.tasks.prompts import TaggedFormat
from cpt.types import PromptStyle

FORMAT = TaggedFormat(
    instruction={"direct": "Reply as <answer> .", "think": "Reply as <think> <answer> ."},
    no_reasoning="I see .",
)

# Enough for the longest well-formed completion, end-of-turn included, and little more.
MAX_COMPLETION_TOKENS: dict[PromptStyle, int] = {"direct": 8, "think": 32}

MAX_PROMPT_TOKENS = 64
"""Tokens that no prompt of a built-in task exceeds with the built-in model, nor its target."""
