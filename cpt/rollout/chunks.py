"""Pictures of many prompts, a bounded number of pixels at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

PIXELS = 1 << 28  # of the pictures of a chunk: 768 MiB, and the same again on their way to the engines


def in_chunks(albums: Iterable[Sequence[Image]]) -> Iterator[list[tuple[Image, ...]]]:
    """Every prompt's pictures, read once, as many prompts at a time as `PIXELS` allow: one of them at least.

    A chunk is emptied when the next one is asked for, so that its pictures are gone by then.

    Args:
        albums: each prompt's pictures, which may be read when they are looked at.
    """
    chunk: list[tuple[Image, ...]] = []
    held = 0
    for album in albums:
        pictures = tuple(album)
        size = sum(picture.width * picture.height for picture in pictures)
        if chunk and held + size > PIXELS:
            yield chunk
            chunk.clear()
            held = 0
        chunk.append(pictures)
        held += size
    if chunk:
        yield chunk
