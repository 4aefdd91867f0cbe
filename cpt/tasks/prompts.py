"""Formats: how a question becomes a chat, and an answer a supervised target. A task's format is the same for every arm.

The tags are those that `rewards.extract` reads; the words around them are a format's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpt.types import PromptStyle, Sample, TargetStyle


@dataclass(frozen=True)
class Format:
    """The words of one way to ask.

    Attributes:
        instruction: by prompt, what stands before the question and asks for the format.
        no_reasoning: what a target under `think` says between its tags where there is no worked solution.
    """

    instruction: Mapping[PromptStyle, str]
    no_reasoning: str

    def messages(self, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
        """One user turn: a placeholder per image, then the instruction and the question. No gold answer goes in."""
        content: list[dict[str, Any]] = [{"type": "image"} for _ in sample.images]
        content.append({"type": "text", "text": f"{self.instruction[prompt]} {sample.question}"})
        return [{"role": "user", "content": content}]

    def answered(self, answer: str, prompt: PromptStyle, reasoning: str = "") -> str:
        """An answer in the format that the prompt asks for."""
        tagged = f"<answer> {answer} </answer>"
        return tagged if prompt == "direct" else f"<think> {reasoning or self.no_reasoning} </think> {tagged}"

    def target(self, sample: Sample, style: TargetStyle, prompt: PromptStyle) -> str:
        """What supervised fine-tuning imitates.

        `dataset` is the bare answer, as real visual question answering data has it; `policy` is the format that the
        prompt asks for, with the model's own shortest reasoning under `think`; `think` spells the worked solution out
        whatever the prompt.
        """
        answer = sample.gold[0]
        if style == "dataset":
            return answer
        if style == "policy":
            return self.answered(answer, prompt)
        return self.answered(answer, "think", sample.reasoning)
