"""easy-vqa as LLaVA's rows: questions about one coloured shape, with the splits that it comes with."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from cpt.tasks.real_pictures.writing import write_json

_ABOUT = re.compile(r"\b(red|green|blue|yellow|black|gray|teal|brown|circle|rectangle|triangle)\b")


def make(found: dict[str, Path], out: Path) -> dict[str, int]:
    """`train.json`, `test.json` and `images/<split>/`; a row has, beside LLaVA's columns, a `kind` (presence, absence,
    colour, shape), what the question is `about`, and the bare `answer`, by which a task can choose its rows."""
    counts = {}
    for split in ("train", "test"):
        folder = found["easy-vqa"] / split
        shutil.copytree(folder / "images", out / "images" / split)
        questions = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
        rows = [_row(split, number, *one) for number, one in enumerate(questions)]
        missing = next((row["image"] for row in rows if not (out / str(row["image"])).is_file()), None)
        if missing is not None:
            raise ValueError(f"{folder}: {missing} is asked about, and there is no such picture")
        write_json(out / f"{split}.json", rows)
        counts[f"{split}.json"] = len(rows)
    return counts


def _row(split: str, number: int, question: str, answer: str, picture: int) -> dict[str, object]:
    about = _ABOUT.search(question)
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    return {
        "id": f"{split}-{number}",
        "image": f"images/{split}/{picture}.png",
        "conversations": turns,
        "kind": kind_of(question),
        "about": about[1] if about else "",
        "answer": answer,
    }


def kind_of(question: str) -> str:
    """What is asked for."""
    if question.startswith("what"):
        return "colour" if "color" in question else "shape"
    return "absence" if re.search(r"\b(no|not)\b", question) else "presence"
