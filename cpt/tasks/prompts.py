"""How a question becomes a chat, and an answer a supervised target. The same for every arm."""

from __future__ import annotations

from typing import Any

from cpt.types import PromptStyle, Sample, TargetStyle

INSTRUCTION: dict[PromptStyle, str] = {
    "direct": "Reply as <answer> .",
    "think": "Reply as <think> <answer> .",
}
# Enough for the longest well-formed completion of the built-in tasks, end-of-turn included, and little more.
MAX_COMPLETION_TOKENS: dict[PromptStyle, int] = {"direct": 8, "think": 32}
NO_REASONING = "I see ."


def messages(sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
    """One user turn: a placeholder per image, then the instruction and the question. No gold answer goes in here."""
    content: list[dict[str, Any]] = [{"type": "image"} for _ in sample.images]
    content.append({"type": "text", "text": f"{INSTRUCTION[prompt]} {sample.question}"})
    return [{"role": "user", "content": content}]


def in_format(answer: str, prompt: PromptStyle, reasoning: str = NO_REASONING) -> str:
    """An answer in the format that the prompt asks for."""
    tagged = f"<answer> {answer} </answer>"
    return tagged if prompt == "direct" else f"<think> {reasoning} </think> {tagged}"


def target(sample: Sample, style: TargetStyle, prompt: PromptStyle) -> str:
    """What supervised fine-tuning imitates.

    `dataset` is the bare answer, as real visual question answering data has it; `policy` is the format that the
    prompt asks for, with the model's own shortest reasoning under `think`; `think` spells the worked solution out
    whatever the prompt.
    """
    answer = sample.gold[0]
    if style == "dataset":
        return answer
    if style == "policy":
        return in_format(answer, prompt)
    return in_format(answer, "think", sample.reasoning or NO_REASONING)
