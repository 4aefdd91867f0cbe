"""What the makers of data sets share."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

_TEST_OF = 5


def number_of(content: bytes) -> int:
    """A number that only depends on the content, to decide what would otherwise be drawn."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def is_test(content: bytes) -> bool:
    """Whether a picture of these bytes is one of the fifth that is kept for testing."""
    return number_of(content) % _TEST_OF == 0


def png(picture: Image.Image) -> bytes:
    """The picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def write_json(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A list of rows, one a line, so that a person can read it."""
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with the first row's names as its header."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
