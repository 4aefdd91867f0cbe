"""Chats to token ids as TRL's trainers make them: chat template, generation prompt, each image expanded to its run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cpt.models.inputs import ModelInputs

if TYPE_CHECKING:
    from PIL.Image import Image

Conversation = Sequence[dict[str, Any]]


def encode_prompts(
    processor: Any, conversations: Sequence[Conversation], images: Sequence[Sequence[Image]]
) -> list[list[int]]:
    """Token ids of every prompt, the generation prompt included and each image expanded to its run of placeholders.

    Args:
        processor: a Hugging Face processor with a chat template.
        conversations: B chats, with one `{"type": "image"}` block where each picture goes.
        images: B sequences of pictures, in the order of the blocks; empty for a text-only prompt.

    Returns:
        B lists of ids of different lengths, without padding.

    Raises:
        ValueError: a chat has more or fewer image blocks than pictures, or the processor refuses it.
    """
    for conversation, pictures in zip(conversations, images, strict=True):
        fill_images(conversation, range(len(pictures)))  # as many blocks as pictures, which stay unread
    return encode_texts(processor, render_prompts(processor, conversations), images)


def encode_texts(processor: Any, texts: Sequence[str], images: Sequence[Sequence[Image]]) -> list[list[int]]:
    """Token ids of prompts that are rendered already. ValueError if the processor refuses one."""
    return [prompt.ids for prompt in ModelInputs(processor).read(texts, images)]


def render_prompts(processor: Any, conversations: Sequence[Conversation]) -> list[str]:
    """The text of every prompt as the chat template renders it, one placeholder per image."""
    if not conversations:
        return []
    rendered = processor.apply_chat_template(list(conversations), tokenize=False, add_generation_prompt=True)
    return list(rendered)


def fill_images(conversation: Conversation, images: Sequence[Any]) -> list[dict[str, Any]]:
    """The chat with a picture in every image block. ValueError if their numbers differ."""
    left = list(images)
    filled = []
    for message in conversation:
        content = message["content"]
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        blocks = []
        for block in content:
            if block["type"] == "image":
                if not left:
                    raise ValueError(
                        f"a prompt has more image blocks than pictures ({len(images)}): {_text(conversation)}"
                    )
                block = {"type": "image", "image": left.pop(0)}
            blocks.append(block)
        filled.append({**message, "content": blocks})
    if left:
        raise ValueError(f"a prompt has {len(images)} pictures, {len(left)} without a block: {_text(conversation)}")
    return filled


def _text(conversation: Conversation) -> str:
    parts = []
    for message in conversation:
        content = message["content"]
        parts += [content] if isinstance(content, str) else [block.get("text", "") for block in content]
    return " ".join(part for part in parts if part)[:120]
