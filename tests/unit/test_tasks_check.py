"""`cpt tasks check` finds every planted defect, one of each kind, at its row."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image, ImageDraw

import cpt.tasks.registry as registry
from cpt.cli.app import main
from cpt.tasks.audit.findings import KINDS
from cpt.tasks.audit.pictures import look_of, nearest_looks


@pytest.fixture(autouse=True)
def _own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_declared", {})


def drawing(seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A picture that no other seed's looks like."""
    chance = random.Random(seed)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y = chance.randrange(size[0]), chance.randrange(size[1])
        colour = tuple(chance.randrange(256) for _ in range(3))
        draw.rectangle([x, y, x + size[0] // 4, y + size[1] // 4], fill=colour)
    return picture


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A file of tasks, and where each kind of defect is."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    train: list[dict[str, Any]] = []
    test: list[dict[str, Any]] = []
    where: dict[str, str] = {}

    def row(rows: list[dict[str, Any]], file: str, kind: str = "", **said: Any) -> None:
        number = len(train) + len(test)
        if "image" not in said:
            drawing(number).save(folder / f"{number}.png")
        rows.append({"question": f"What is number {number}?", "answer": "7.5", "image": f"{number}.png", **said})
        if kind:
            where[kind] = f"{file}, line {len(rows)}"

    for _ in range(4):
        row(train, "train.jsonl")
    row(train, "train.jsonl", "row", answer="")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:-40])
    row(train, "train.jsonl", "picture", image="broken.png")
    drawing(100, (400, 10)).save(folder / "long.png")
    row(train, "train.jsonl", "shape", image="long.png")
    row(train, "train.jsonl", "gold", answer="seven or eight")
    row(train, "train.jsonl", "leak", question="Add 3 and 4.5: 3 + 4.5 = 7.5", reasoning="3 + 4.5 = 7.5", answer="7.50")
    row(train, "train.jsonl", "answer-in-question", question="Is it 7.5 that is shown?")
    row(train, "train.jsonl", "markup", question="What?<|im_end|> No.")
    row(train, "train.jsonl", "too-long", question="red " * 900)
    row(train, "train.jsonl", "duplicate", question="What is number 0?", image="0.png")
    row(train, "train.jsonl", "contradiction", question="What is number 1?", image="1.png", answer="8")
    for _ in range(3):
        row(test, "test.jsonl")
    row(test, "test.jsonl", "overlap", question="What is number 2?", image="2.png")
    row(test, "test.jsonl", "same-picture", question="Another question?", image="2.png")
    drawing(3).resize((60, 60)).save(folder / "near.jpg", quality=60)
    row(test, "test.jsonl", "near-picture", image="near.jpg")
    for name, rows in (("train", train), ("test", test)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    data = {"train": "train.jsonl", "test": "test.jsonl", "images": "pictures", "drop_at_most": 0.5}
    content = {"name": "planted", "data": data, "metric": "number", "max_tokens": 8}
    file = tmp_path / "planted.yaml"
    file.write_text(yaml.safe_dump(content))
    return file, where


def check(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["tasks", "check", *arguments])
    return int(end.value.code or 0)


def test_every_planted_defect_is_found_at_its_row(
    planted: tuple[Path, dict[str, str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file, where = planted
    page, found = tmp_path / "page.html", tmp_path / "found.json"
    assert set(where) == set(KINDS)
    model = "builtin/tiny-qwen2_5-vl"
    assert check(str(file), "--model", model, "--out", str(page), "--json", str(found)) == 1
    (report,) = json.loads(found.read_text())
    places: dict[str, list[str]] = {}
    for one in report["findings"]:
        places.setdefault(one["kind"], []).append(one["where"])
    expected = {kind: [place] for kind, place in where.items()}
    assert places == expected
    assert report["rows"] == {"train": 12, "test": 6}
    # Always 7.5 is right on every test row.
    assert report["answers"]["constant"] == "7.5" and report["answers"]["score"] == 1
    said = capfd.readouterr().out
    assert "12 training rows, 6 test rows, 2 rows left out" in said and "tokens; " in said
    assert "of prompt and answer are unknown to the model" in said  # the built-in one has 133 words
    shown = page.read_text()
    assert shown.count("<img") == 3 and "data:image/png;base64," in shown and "<script" not in shown


def test_what_is_left_out_is_no_error_any_more(planted: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    file, where = planted
    content = yaml.safe_load(file.read_text())
    errors = {kind for kind, about in KINDS.items() if about.severity == "error"}
    content["data"]["leave_out"] = [where[kind] for kind in errors]
    file.write_text(yaml.safe_dump(content))
    assert check(str(file)) == 0


def test_a_share_of_errors_may_be_allowed(planted: tuple[Path, dict[str, str]]) -> None:
    file, _ = planted
    assert check(str(file), "--allow", "0.1") == 1
    assert check(str(file), "--allow", "0.9") == 0


def test_model_output_and_data_are_text_on_the_page(tmp_path: Path) -> None:
    rows = [{"question": f"<script>alert({n})</script>", "answer": "<b>x</b>"} for n in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.yaml").write_text("name: own\ndata: rows.jsonl\n")
    check(str(tmp_path / "own.yaml"), "--out", str(tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and "<b>x</b>" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml"),
        (["{file}", "--task", "plantd"], "has no task 'plantd' over data of one's own; there are: planted"),
        (["quickstart"], "over data of one's own; there are: none"),
    ],
)
def test_what_can_t_be_checked_is_told_in_a_line(
    planted: tuple[Path, dict[str, str]], arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file, _ = planted
    assert check(*(one.format(file=file) for one in arguments)) == 2
    assert message in capfd.readouterr().err


def test_pictures_look_alike_after_scaling_and_compression_and_others_do_not() -> None:
    looks = [look_of(drawing(seed)) for seed in range(40)]
    assert None not in looks
    scaled = look_of(drawing(5).resize((50, 50)))
    assert scaled is not None
    near = nearest_looks([scaled], [one for one in looks if one is not None])
    assert near[0] is not None and near[0][0] == 5
    assert nearest_looks([0b1111 << 60], [0]) == [None]  # four bits apart
    assert nearest_looks([0b111 << 61], [0]) == [(0, 3)]
    assert nearest_looks([], [1]) == [] and nearest_looks([1], []) == [None]


def test_a_flat_picture_looks_like_nothing() -> None:
    assert look_of(Image.new("RGB", (50, 50), "red")) is None
