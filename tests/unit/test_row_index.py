"""Which rows of a task can be used, and what they are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cpt.tasks.definition import TaskDefinition
from cpt.tasks.row_index import RowIndex


def index(folder: Path, rows: list[dict[str, Any]], data: dict[str, Any] | None = None, **task: Any) -> RowIndex:
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"root": str(folder), "test": "rows.jsonl", **(data or {})}
    return RowIndex(TaskDefinition.model_validate({"name": "mine", "data": source, **task}))


def names(found: RowIndex) -> list[str]:
    return [found.name_of(place, found.read_row(place)[1]) for place in found.of("test")]


ROWS = [{"question": f"q{n}", "answer": "a"} for n in range(3)]


def test_rows_without_ids_are_called_by_number(tmp_path: Path):
    assert names(index(tmp_path, ROWS)) == ["1", "2", "3"]


def test_rows_are_called_by_their_ids_if_no_two_are_the_same(tmp_path: Path):
    rows = [{"id": f"r{n}", **row} for n, row in enumerate(ROWS)]
    assert names(index(tmp_path, rows)) == ["r0", "r1", "r2"]
    rows[2]["id"] = "r0"
    assert names(index(tmp_path, rows)) == ["1", "2", "3"]


def test_a_row_that_cannot_be_read_can_be_left_out(tmp_path: Path):
    rows = [*ROWS, {"question": "q", "answer": {"what": 1}}]
    assert len(index(tmp_path, rows, {"leave_out": ["rows.jsonl, line 4"]}).unusable) == 0
    assert [one.place.row for one in index(tmp_path, rows).unusable] == [3]


def test_a_filter_by_columns_comes_before_reading(tmp_path: Path):
    rows = [{"kind": "a", **row} for row in ROWS] + [{"question": "q", "answer": {"what": 1}}]
    found = index(tmp_path, rows, filter={"kind": ["a"]})
    assert names(found) == ["1", "2", "3"] and not found.unusable  # the last row has no kind
    with pytest.raises(ValueError, match="task mine: filter: there is no column 'kinds'; did you mean 'kind'"):
        index(tmp_path, rows, filter={"kinds": "a"}).of("test")


def test_what_is_wrong_with_data_names_the_task(tmp_path: Path):
    with pytest.raises(ValueError, match=r"^task mine: no column is called question"):
        index(tmp_path, [{"frage": "q", "answer": "a"}]).of("test")
