"""Data as labs have them, made small: each function writes one set and returns the YAML entry that reads it.

Columns, types and encodings are those of the published formats: LLaMA-Factory's ShareGPT JSON, `datasets.save_to_disk`,
parquet with embedded pictures, EasyR1's parquet, JSONL. Words are the built-in model's.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from cpt.tasks.world.scene import COLOURS

NAMES = tuple(COLOURS)
ASKED = "What colour is the circle ?"
WORDS: Mapping[str, Any] = {
    "prompt": {"direct": "Reply as <answer> . {question}", "think": "Reply as <think> <answer> . {question}"},
    "max_tokens": {"direct": 8, "think": 32},
}
TAGS = {**WORDS, "prompt": {**WORDS["prompt"], "answer_in": "tags"}}


def picture(number: int) -> tuple[Image.Image, str]:
    """A picture of one colour, with a speck that no other has; and the colour's name."""
    name = NAMES[number % len(NAMES)]
    image = Image.new("RGB", (48, 48), COLOURS[name])
    image.putpixel((number % 48, number // 48), (0, 0, 0))
    return image, name


def png(number: int) -> bytes:
    file = io.BytesIO()
    picture(number)[0].save(file, format="PNG")
    return file.getvalue()


def sharegpt(folder: Path, rows: int = 48) -> dict[str, Any]:
    """LLaMA-Factory: messages with `<image>` marks, pictures beside them."""
    (folder / "pictures").mkdir(parents=True)
    found = []
    for number in range(rows):
        image, name = picture(number)
        image.save(folder / "pictures" / f"{number}.png")
        turns = [("user", f"<image>{ASKED}"), ("assistant", name)]
        messages = [{"role": role, "content": said} for role, said in turns]
        found.append({"messages": messages, "images": [f"pictures/{number}.png"]})
    (folder / "train.json").write_text(json.dumps(found))
    return {"name": "lab-sharegpt", "data": {"path": str(folder / "train.json")}, **TAGS}


def saved(folder: Path, rows: int = 48) -> dict[str, Any]:
    """`datasets.save_to_disk` with splits, and ten answers a question as VQA has them."""
    from datasets import Dataset, DatasetDict, Features, Sequence, Value
    from datasets import Image as Picture

    features = Features(
        {
            "question_id": Value("int64"),
            "question": Value("string"),
            "image": Picture(),
            "answers": Sequence(Value("string")),
        }
    )

    def part(first: int, count: int) -> Any:
        numbers = range(first, first + count)
        columns = {
            "question_id": list(numbers),
            "question": [ASKED] * count,
            "image": [picture(number)[0] for number in numbers],
            "answers": [[picture(number)[1]] * 8 + ["red", "blue"] for number in numbers],
        }
        return Dataset.from_dict(columns, features=features)

    DatasetDict({"train": part(0, rows), "validation": part(rows, 16)}).save_to_disk(folder)
    return {"name": "lab-vqa", "data": {"path": str(folder), "train": "train", "test": "validation"}, **TAGS}


def parquet(folder: Path, rows: int = 48) -> dict[str, Any]:
    """Parquet with embedded pictures, options and the index of the right one; every fourth row has no picture."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)

    def part(first: int, count: int, file: str) -> None:
        numbers = range(first, first + count)
        chance = random.Random(first)
        options = [chance.sample(NAMES, 4) for _ in numbers]
        table = {
            "id": [f"q{number}" for number in numbers],
            "image": [
                None if number % 4 == 3 else {"bytes": png(number), "path": f"{number}.png"} for number in numbers
            ],
            "question": [ASKED if number % 4 != 3 else "What colour is red ?" for number in numbers],
            "choices": options,
            "answer": [
                mine.index(picture(number)[1] if number % 4 != 3 else "red")
                for number, mine in zip(numbers, options, strict=True)
            ],
        }
        pq.write_table(pa.table(table), folder / file)

    part(0, rows, "train-00000-of-00001.parquet")
    part(rows, 16, "test-00000-of-00001.parquet")
    asked = {"direct": "Reply as <answer> . {question} {options}", "answer_in": "tags"}
    return {
        "name": "lab-choice",
        "data": {"path": str(folder)},
        "prompt": asked,
        "max_tokens": WORDS["max_tokens"],
        "seed": 1,
    }


def easyr1(folder: Path, rows: int = 48) -> dict[str, Any]:
    """EasyR1: problem, answer and a list of images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True)
    table = {
        "problem": [f"<image>{ASKED}"] * rows,
        "answer": [picture(number)[1] for number in range(rows)],
        "images": [[{"bytes": png(number), "path": None}] for number in range(rows)],
    }
    pq.write_table(pa.table(table), folder / "train.parquet")
    return {"name": "lab-easyr1", "data": {"path": str(folder / "train.parquet")}, **TAGS}


def text_only(folder: Path, rows: int = 64) -> dict[str, Any]:
    """JSONL without pictures."""
    folder.mkdir(parents=True)
    sums = [(a, b) for a in range(5) for b in range(5)]
    lines = [
        json.dumps({"question": f"What is {a} plus {b} ?", "answer": str(a + b), "n": number})
        for number, (a, b) in enumerate((sums * rows)[:rows])
    ]
    (folder / "sums.jsonl").write_text("\n".join(lines) + "\n")
    return {"name": "lab-sums", "data": {"path": str(folder / "sums.jsonl"), "test_share": 0.3}, **TAGS}
