"""Where in a model a parameter is, read from its name as transformers gives it (with PEFT's prefix or without)."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLOCK = re.compile(r"(?:^|.*?\.)(?:layers|layer|blocks|h)\.(\d+)\.")
_VISION = re.compile(r"(?:^|\.)(?:visual|vision_tower|vision_model)\.")
_EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|word_embeddings|wte)\.")


def block_of(name: str) -> str | None:
    """The transformer block, vision or text, such as `model.visual.blocks.3.`; None for what is in no block."""
    found = _BLOCK.match(name)
    return found[0] if found else None


def text_layer(name: str) -> int | None:
    """0-based number of the language model's layer; None for what is in none."""
    found = _BLOCK.match(name)
    return int(found[1]) if found and not _VISION.search(name) else None


def is_text_embedding(name: str) -> bool:
    """Whether this is the language model's input embedding."""
    return bool(_EMBEDDING.search(name)) and text_layer(name) is None and not _VISION.search(name)


def relative_depths(names: Iterable[str]) -> dict[str, float]:
    """How deep each parameter lies, from 0 (shallow) to 1: l/(L − 1) in block l of the L blocks of its stack.

    Vision and text blocks are stacks of their own. What is outside of blocks (embeddings, projector, last norms, output
    head) lies at 0, as in LiNeS's code. The only block of a stack lies at 1.
    """
    places: dict[str, tuple[str, int]] = {}
    last: dict[str, int] = {}
    depths: dict[str, float] = {}
    for name in names:
        depths[name] = 0.0
        if found := _BLOCK.match(name):
            stack, number = name[: found.start(1)], int(found[1])
            places[name], last[stack] = (stack, number), max(number, last.get(stack, 0))
    return depths | {name: number / last[stack] if last[stack] else 1.0 for name, (stack, number) in places.items()}
