"""Files of the published streams, a few rows each, in the form in which they are released.

A folder's content is path → what stands there: a list or dict (JSON), a list of `Parquet` rows, or a picture's size.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

RED = (255, 0, 0)
Content = Mapping[str, Any]


def write(root: Path, content: Content) -> None:
    """Write a folder's content; a tuple is a red picture of this size."""
    for name, data in content.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, tuple):
            Image.new("RGB", data, RED).save(file)
        elif file.suffix == ".parquet":
            pq.write_table(data, file)
        else:
            file.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")


def llava(name: str, *rows: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Training rows of LLaVA: (picture or "", question, answer)."""
    return [
        {"id": f"{name}_{number}"}
        | ({"image": picture} if picture else {})
        | {
            "conversations": [
                {"from": "human", "value": f"<image>\n{question}" if picture else question},
                {"from": "gpt", "value": answer},
            ]
        }
        for number, (picture, question, answer) in enumerate(rows)
    ]


def evaluated(*rows: tuple[str, str, Any], answer: str = "answer", **more: Any) -> list[dict[str, Any]]:
    """Test rows of LLaVA's evaluation: (picture or "", question, answer)."""
    return [
        {"question_id": str(number)} | ({"image": picture} if picture else {}) | {"text": question, answer: gold} | more
        for number, (picture, question, gold) in enumerate(rows)
    ]


def sharegpt(*rows: tuple[str, str, str]) -> list[dict[str, Any]]:
    """Rows of LLaMA-Factory: (picture or "", question with its mark, answer)."""
    return [
        {
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            "images": [picture] if picture else [],
        }
        for picture, question, answer in rows
    ]


def easyr1(*rows: tuple[str, str]) -> pa.Table:
    """Rows of EasyR1's parquet: (problem with its mark, answer), a picture of its own inside each."""
    images = []
    for number, _ in enumerate(rows):
        content = io.BytesIO()
        Image.new("RGB", (8, 8), (number % 256, 0, 0)).save(content, "PNG")
        images.append([{"bytes": content.getvalue(), "path": None}])
    kind = pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    return pa.table(
        {
            "images": pa.array(images, kind),
            "problem": [problem for problem, _ in rows],
            "answer": [answer for _, answer in rows],
        }
    )


def ten(*answers: tuple[str, int]) -> list[str]:
    """The answers of ten annotators: (answer, how many gave it)."""
    found = [answer for answer, times in answers for _ in range(times)]
    assert len(found) == 10
    return found


def coco(captions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Captions in COCO's form, those of each picture by its number from 1."""
    rows = [(image, caption) for image, those in enumerate(captions, start=1) for caption in those]
    return {
        "images": [{"id": image} for image, _ in enumerate(captions, start=1)],
        "annotations": [{"image_id": image, "id": n, "caption": caption} for n, (image, caption) in enumerate(rows)],
    }
