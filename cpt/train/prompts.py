"""A group of rollouts shares one prompt: encode it once, not once per completion.

TRL tokenises every row of a batch and runs its pictures through the image processor, twice a step; with eight
completions to a prompt seven eighths of that is repetition (a third of a step's CPU time for the built-in model).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

_PER_ROW = {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"}
_PER_IMAGE = {"pixel_values", "image_grid_thw"}


def run_lengths(keys: Sequence[Any]) -> list[int]:
    """Lengths of the runs of equal neighbours: [a, a, b, a] gives [2, 1, 1]."""
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(keys), start=1) if a != b), len(keys)]
    return [stop - start for start, stop in pairwise(breaks)] if keys else []


def repeated(items: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """Every item `count` times, neighbours together."""
    return [item for item, count in zip(items, counts, strict=True) for _ in range(count)]


def first_of_runs(items: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """The inverse of `repeated`."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [items[start] for start in starts]


class OncePerPrompt:
    """A processor whose batches may hold a prompt several times in a row: encodes it once and repeats the result.

    Everything else is the processor's own. Pictures count as equal when they are the same object.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._rendered: tuple[Any, Any, str] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """As the processor's; the text of the same chat twice in a row is rendered once."""
        if options.get("tokenize") is not False:
            return self._processor.apply_chat_template(conversation, **options)
        if self._rendered is None or self._rendered[:2] != (conversation, options):
            text = self._processor.apply_chat_template(conversation, **options)
            self._rendered = (conversation, options, text)
        return self._rendered[2]

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> Any:
        """As the processor's: padded tensors per row, pixels and grids per picture in the rows' order."""
        if not isinstance(text, list) or not isinstance(images, list) or len(images) != len(text):
            return self._processor(images=images, text=text, **options)
        keys = [(line, *(id(image) for image in pictures or ())) for line, pictures in zip(text, images, strict=True)]
        counts = run_lengths(keys)
        few = [first_of_runs(column, counts) for column in (images, text)]
        encoded = self._processor(images=few[0], text=few[1], **options)
        if set(encoded) - _PER_ROW - _PER_IMAGE:  # another family's layout: not known how to repeat it
            return self._processor(images=images, text=text, **options)
        return _repeat(encoded, [len(pictures or ()) for pictures in few[0]], counts)


def _repeat(encoded: Any, pictures: Sequence[int], counts: Sequence[int]) -> Any:
    """Rows and pictures of a batch of prompts, `counts` times each. `pictures`: number of each prompt's pictures."""
    import torch

    for name in _PER_ROW & set(encoded):
        encoded[name] = encoded[name].repeat_interleave(torch.tensor(counts), dim=0)
    if "image_grid_thw" in encoded:
        grids = encoded["image_grid_thw"].split(list(pictures))
        patches = encoded["pixel_values"].split([int(grid.prod(dim=1).sum()) for grid in grids])
        encoded["image_grid_thw"] = torch.cat(repeated(grids, counts))
        encoded["pixel_values"] = torch.cat(repeated(patches, counts))
    return encoded
