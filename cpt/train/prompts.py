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


def picture_slices(pictures: Sequence[int], patches: Sequence[int], size: int) -> list[tuple[slice, slice, slice]]:
    """Rows, pictures and patches of each chunk of `size` rows.

    Args:
        pictures: number of each row's pictures.
        patches: number of each picture's patches (rows of pixel_values).
    """
    chunks = []
    image = patch = 0
    for start in range(0, len(pictures), size):
        more = sum(pictures[start : start + size])
        pixels = sum(patches[image : image + more])
        chunks.append((slice(start, start + size), slice(image, image + more), slice(patch, patch + pixels)))
        image, patch = image + more, patch + pixels
    return chunks


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
        """As the processor's: padded tensors per row, pixels and grids per picture in the rows' order.

        In a mixed batch TRL writes None for a row without pictures, which processors refuse; here it is as good as [].
        """
        if isinstance(images, list):
            images = [pictures or [] for pictures in images] if any(images) else None
        if not isinstance(text, list) or (images is not None and len(images) != len(text)):
            return self._processor(images=images, text=text, **options)
        rows = images or [[]] * len(text)
        counts = run_lengths([(line, *map(id, pictures)) for line, pictures in zip(text, rows, strict=True)])
        few = first_of_runs(rows, counts)
        encoded = self._processor(images=few if images else None, text=first_of_runs(text, counts), **options)
        if set(encoded) - _PER_ROW - _PER_IMAGE:  # another family's layout: not known how to repeat it
            return self._processor(images=images, text=text, **options)
        return _repeat(encoded, [len(pictures) for pictures in few], counts)


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
