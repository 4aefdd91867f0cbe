"""Captioned drawings as JSONL beside their pictures: Tux Paint's stamps."""

from __future__ import annotations

import shutil
from pathlib import Path

from cpt.tasks.real_pictures.writing import write_jsonl

KINDS = (
    "an animal", "something to eat or a plant", "a letter, a number or a sign", "something in a town or on the road",
)  # fmt: skip
_KIND_OF = {"animals": 0, "food": 1, "plants": 1, "symbols": 2, "town": 3, "vehicles": 3}


def make(found: dict[str, Path], out: Path) -> dict[str, int]:
    """`pictures/` with a caption (.txt) beside each, and `drawings.jsonl` (image, caption, group, kind, kinds).

    `kind` is an index into the four `kinds`, null for drawings of none of them. Left out are drawings without a caption
    and those that there are as SVG only.
    """
    folder = found["tuxpaint-stamps-default"]
    rows = []
    for file in sorted(folder.rglob("*.png")):
        text = file.with_suffix(".txt")
        caption = text.read_text(encoding="utf-8").partition("\n")[0].strip() if text.is_file() else ""
        if not caption:
            continue
        name = file.relative_to(folder)
        target = out / "pictures" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        target.with_suffix(".txt").write_text(f"{caption}\n", encoding="utf-8")
        group = name.parts[0]
        kind = _KIND_OF.get(group)
        rows.append({"image": name.as_posix(), "caption": caption, "group": group, "kind": kind, "kinds": KINDS})
    write_jsonl(out / "drawings.jsonl", rows)
    return {"drawings.jsonl": len(rows)}
