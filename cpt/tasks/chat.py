"""The chat that asks a sample's question: that it gives no answer away, and has a place for every picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cpt.types import PromptStyle, Sample, Task

_UNSEEN = "\u241f no answer \u241f"


def checked_prompt(task: Task, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
    """The sample's chat, after a check that it does not give the answer away.

    Two leaks are possible: the prompt is built with the gold answer (then it changes when the answer does), or the
    question's text holds a worked solution or a finished target (the released code of arXiv 2508.08275 does that for
    text-only tasks). That a question names the right option among others is no leak.

    Raises:
        ValueError: on a leak, or if the chat does not go with the pictures (`check_blocks`); the sample is named.
    """
    chat = task.messages(sample, prompt)
    check_blocks(sample, chat)
    blocks = [block for turn in chat for block in _blocks(turn)]
    text = " ".join(block.get("text", "") for block in blocks)
    blind = replace(sample, gold=(_UNSEEN,), reasoning=_UNSEEN)
    # A plain target is the answer itself, which a question may name among others.
    answer = task.target(sample, "dataset", prompt)
    targets = [task.target(sample, style, prompt) for style in ("policy", "think")]
    solutions = [sample.reasoning, *(target for target in targets if target != answer)]
    solutions = [solution for solution in solutions if len(solution.split()) > 1]
    if any(turn["role"] == "assistant" for turn in chat):
        raise ValueError(
            f"the prompt of sample {sample.id} has a turn of the assistant: chats of several turns are not supported; "
            "a task's messages are system and user turns alone"
        )
    if task.messages(blind, prompt) != chat:
        raise ValueError(f"the prompt of sample {sample.id} is made from its gold answer")
    if any(solution in text for solution in solutions):
        raise ValueError(f"the prompt of sample {sample.id} holds its solution")
    return chat


def check_blocks(sample: Sample, chat: Sequence[dict[str, Any]]) -> None:
    """Whether a chat is made of text and of one placeholder for each picture of the sample.

    Raises:
        ValueError: it has a block of another kind, a picture of its own (which trainers would take and engines not, and
            which nobody has prepared), or another number of placeholders.
    """
    blocks = [block for turn in chat for block in _blocks(turn)]
    strange = {block["type"] for block in blocks} - {"text", "image"}
    if strange:
        raise ValueError(f"the prompt of sample {sample.id} has a block of type {min(strange)}; use text and image")
    placeholders = [block for block in blocks if block["type"] == "image"]
    if any(len(block) > 1 for block in placeholders):
        raise ValueError(
            f"the prompt of sample {sample.id} brings a picture of its own; put it into the sample's images, and "
            "{'type': 'image'} where it goes"
        )
    if len(placeholders) != len(sample.images):
        raise ValueError(
            f"sample {sample.id} has {len(sample.images)} pictures and {len(placeholders)} image placeholders"
        )


def with_text(chat: Sequence[Mapping[str, Any]], text: str) -> list[dict[str, Any]]:
    """The chat with more text at the end of its last turn, a paragraph of its own."""
    *before, last = chat
    text = "\n\n" + text
    content = last["content"]
    more = content + text if isinstance(content, str) else [*content, {"type": "text", "text": text}]
    return [*map(dict, before), {**last, "content": more}]


def _blocks(turn: dict[str, Any]) -> Iterable[dict[str, Any]]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
