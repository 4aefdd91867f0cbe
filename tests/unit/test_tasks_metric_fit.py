"""A metric that does not fit a task's rows is told when the task is opened, and gets what it needs beyond a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cpt.tasks.audit.scan import audit
from cpt.tasks.data_task import DataTask
from cpt.tasks.definition import TaskDefinition


def task(folder: Path, metric: str, rows: list[dict[str, Any]], **options: Any) -> DataTask:
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {"path": str(folder), "train": "train.jsonl", "test": "test.jsonl"}
    return DataTask(
        TaskDefinition.model_validate({"name": "mine", "data": data, "metric": metric, "metric_options": options})
    )


@pytest.mark.parametrize(
    ("metric", "row", "options", "problem"),
    [
        (
            "choice",
            {"question": "?", "answer": "red"},
            {},
            "metric choice needs choices: name their column under data.columns.choices",
        ),
        ("number", {"question": "?", "answer": "red"}, {}, "gold answer 'red' holds no number"),
        (
            "iou",
            {"question": "?", "answer": "[1, 2, 3, 4]"},
            {"coordinates": "thousandths"},
            "metric iou needs the picture's width and height",
        ),
        (
            "first-label",
            {"question": "?", "answer": "red"},
            {"labels": ["blue", "green"]},
            "gold answer 'red' has none of the labels blue, green",
        ),
        ("length", {"question": "?", "answer": "red"}, {}, "reward length is no metric"),
        ("format", {"question": "?", "answer": "red"}, {}, "reward format is no metric"),
        ("accuracy-format", {"question": "?", "answer": "red"}, {}, "reward accuracy-format is no metric"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(tmp_path, metric, row, options, problem):
    with pytest.raises(ValueError, match=problem.replace("[", r"\[")):
        task(tmp_path, metric, [row] * 3, **options).open()


def test_captions_get_document_frequencies_of_their_split(tmp_path):
    rows = [{"question": "What is there ?", "answer": f"a {what} on the grass"} for what in ("cat", "dog", "cow")]
    captions = task(tmp_path, "cider", rows)
    captions.open()
    one, other = captions.samples("test", 2)
    assert one.meta["document_frequencies"] is other.meta["document_frequencies"]
    assert one.meta["document_frequencies"].documents == 3
    assert one.meta["document_frequencies"].counts["on the grass"] == 3
    assert captions.score(one, one.gold[0], "direct").value == pytest.approx(1)
    assert captions.score(one, "red", "direct").value == 0
    # Only what all have in common: it weighs nothing.
    assert captions.score(one, "on the grass", "direct").value == 0
    assert len(captions.fingerprint("test", 3, 0)) == 32


def test_boxes_get_the_size_of_their_picture(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "wide.png")
    row = {"question": "Where is it ?", "answer": "[20, 10, 60, 30]", "image": "wide.png"}
    boxes = task(tmp_path, "iou", [row] * 3, coordinates="square")
    boxes.open()
    (sample,) = boxes.samples("test", 1)
    assert (sample.meta["width"], sample.meta["height"]) == (200, 100)
    assert boxes.score(sample, "[0.1, 0.3, 0.3, 0.4]", "direct").value == pytest.approx(1)
    assert "width" not in task(tmp_path, "iou", [row] * 3).samples("test", 1)[0].meta


def test_the_audit_tells_gold_answers_that_the_metric_can_not_use(tmp_path):
    """And not those that no answer can satisfy: a caption beside others, a consensus."""
    rows = [{"question": f"How many in {n} ?", "answer": answer} for n, answer in enumerate(("3", "red", "5"))]
    found = [one for one in audit(task(tmp_path, "number", rows)).findings if one.kind == "gold"]
    assert {one.detail for one in found} == {"gold answer 'red' holds no number"}
    assert len(found) == 2  # in the training rows and in the test rows
    found = [one for one in audit(task(tmp_path, "yes-no", rows)).findings if one.kind == "gold"]
    assert {one.detail for one in found} == {
        f"metric yes-no: gold has to be yes or no, not [{n!r}]" for n in ("3", "red", "5")
    }
    rows = [{"question": f"What is in {n} ?", "answer": answer} for n, answer in enumerate(("a dog", "a cat"))]
    assert not [one for one in audit(task(tmp_path, "cider", rows)).findings if one.kind == "gold"]
    assert [one.detail for one in audit(task(tmp_path, "list-share", rows)).findings if one.kind == "gold"] == []
