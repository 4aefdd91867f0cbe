"""Formats: how a question becomes a chat, and an answer a supervised target. A task's format is the same for every arm.

The tags are those that `rewards.extract` reads; the words around them are a format's own.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpt.tasks.definition import PromptWords
from cpt.types import PromptStyle, Sample, TargetStyle
from rewards.templates import Template

MARK = re.compile(r"<image(?: ?(\d+))?>")
"""A picture's place in a question: the next one, or the one of this number, from 1."""


class Format(ABC):
    """One way to ask, and to put answers."""

    @abstractmethod
    def messages(self, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
        """The chat: a placeholder per image, instruction and question. No gold answer goes in."""

    @abstractmethod
    def answered(self, answer: str, prompt: PromptStyle, reasoning: str = "") -> str:
        """An answer in the format that the prompt asks for."""

    def target(self, sample: Sample, style: TargetStyle, prompt: PromptStyle) -> str:
        """What supervised fine-tuning imitates.

        `dataset` is the bare answer, as real visual question answering data has it; `policy` is the format that the
        prompt asks for, with the model's own shortest reasoning under `think`; `think` spells the worked solution out
        whatever the prompt.
        """
        answer = sample.meta.get("target") or sample.gold[0]
        if style == "dataset":
            return answer
        if style == "policy":
            return self.answered(answer, prompt)
        return self.answered(answer, "think", sample.reasoning)


@dataclass(frozen=True)
class TaggedFormat(Format):
    """The words of the built-in world.

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


class WordedFormat(Format):
    """The words of a task's definition around the columns of a row (`Sample.meta["columns"]`).

    Args:
        usual: by prompt, the words where the definition has none.
        form: by whether a sample has choices, and by prompt: what `{form}` stands for.
    """

    def __init__(
        self,
        words: PromptWords,
        usual: Mapping[PromptStyle, str],
        form: Mapping[bool, Mapping[PromptStyle, str]],
    ) -> None:
        self.words, self.form = words, form
        self.text: dict[PromptStyle, str] = {
            "direct": words.direct or usual["direct"],
            "think": words.think or usual["think"],
        }
        self._templates = {prompt: words.template(prompt) for prompt in self.text}

    def messages(self, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
        """See `Format.messages`. Pictures stand where the question marks them, else before everything."""
        columns, words = sample.meta["columns"], self.text[prompt]
        if not columns["options"]:
            words = words.replace("\n{options}", "")
        form = self.form[bool(sample.meta.get("choices"))][prompt]
        said = words.format_map({"form": form, **columns}).strip()
        content = _blocks(said, len(sample.images))
        system = sample.meta.get("system") or self.words.system
        turns = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
        return [*turns, {"role": "user", "content": content}]

    def answered(self, answer: str, prompt: PromptStyle, reasoning: str = "") -> str:
        """See `Format.answered`. Reasoning that there is none of is left empty."""
        template = self.words.template(prompt)
        put = {"direct": f"<answer> {answer} </answer>", "boxed": f"\\boxed{{{answer}}}", "plain": answer}
        thought = template.startswith("think")
        kind = {"think": "direct"}.get(template, template.removeprefix("think_"))
        return f"<think> {reasoning} </think> {put[kind]}" if thought else put[kind]

    def templates(self) -> Mapping[PromptStyle, Template]:
        """By prompt, what rewards call the format that is asked for (`rewards.templates`)."""
        return self._templates


def _blocks(text: str, pictures: int) -> list[dict[str, Any]]:
    """The text with a placeholder for each picture, where it is marked; before everything where none is."""
    if not pictures or not MARK.search(text):
        return [{"type": "image"}] * pictures + [{"type": "text", "text": text}]
    blocks: list[dict[str, Any]] = []
    end = 0
    for mark in MARK.finditer(text):
        before = text[end : mark.start()].strip()
        blocks += [{"type": "text", "text": before}] if before else []
        blocks.append({"type": "image"})
        end = mark.end()
    rest = text[end:].strip()
    return blocks + ([{"type": "text", "text": rest}] if rest else [])
