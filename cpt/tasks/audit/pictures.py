"""What two pictures have in common: the same bytes, or nearly the same looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

NEAR = 3
"""Bits of 64 in which the hashes of pictures that look alike differ at most."""
_FLAT = 6
"""A picture whose hash has fewer bits of either kind is one colour, or two: nothing tells such pictures apart."""
_AT_ONCE = 1 << 20  # comparisons: 9 MiB


def look_of(picture: Image) -> int | None:
    """A difference hash (dHash): of the grey picture in 9 × 8 pixels, whether each is darker than its right neighbour.

    64 bits. Scaling, compression and small changes of colour leave nearly all of them. None for a flat picture.
    """
    greys = np.asarray(picture.convert("L").resize((9, 8), reducing_gap=3.0), dtype=np.int16)
    bits = (greys[:, :-1] < greys[:, 1:]).flatten()
    ones = int(bits.sum())
    if not _FLAT <= ones <= 64 - _FLAT:
        return None
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def nearest_looks(those: Sequence[int], among: Sequence[int]) -> list[tuple[int, int] | None]:
    """Of each hash the nearest among others, as (its number, bits of difference); None beyond `NEAR`.

    Takes len(those) × len(among) comparisons of eight bytes, in chunks.
    """
    if not those or not among:
        return [None] * len(those)
    others: NDArray[np.uint64] = np.array(among, dtype=np.uint64)
    found: list[tuple[int, int] | None] = []
    step = max(1, _AT_ONCE // len(others))
    for start in range(0, len(those), step):
        chunk = np.array(those[start : start + step], dtype=np.uint64)
        bits = np.bitwise_count(chunk[:, None] ^ others[None, :])
        best = bits.argmin(axis=1)
        for row, column in enumerate(best):
            apart = int(bits[row, column])
            found.append((int(column), apart) if apart <= NEAR else None)
    return found
