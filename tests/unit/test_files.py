"""Files that are whole or absent, and readers that notice what was not written."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from synthetic import RECORD

from cpt.common.errors import RunFailed
from cpt.common.files import append_jsonl, atomic_path, disk_may_be_full, read_json, read_jsonl, write_json_atomic
from cpt.store.records import read_records, write_records
from cpt.store.schemas import Done
from cpt.types import Record


def test_records_come_back_as_written(tmp_path: Path) -> None:
    records = [RECORD, replace(RECORD, sample_id="which-row/test/1", completion='"zeilen\n<script>', gold=[])]
    write_records(tmp_path / "a.parquet", records)
    write_records(tmp_path / "b.parquet", records)
    assert read_records(tmp_path / "a.parquet") == records
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_no_records_are_a_readable_file(tmp_path: Path) -> None:
    write_records(tmp_path / "empty.parquet", [])
    assert read_records(tmp_path / "empty.parquet") == []


@pytest.mark.parametrize("keep", [0, 3, 100, -10])
def test_truncated_records_are_a_clear_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "records.parquet"
    write_records(path, [RECORD] * 50)
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(ValueError, match=r"records\.parquet: not a whole parquet file"):
        read_records(path)


def test_records_from_before_questions_had_ids_are_read(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    write_records(path, [RECORD])
    pq.write_table(pq.read_table(path).drop_columns("question_id"), path)
    assert read_records(path) == [replace(RECORD, question_id="")]


def test_records_of_another_layout_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"arm": ["a"]}), tmp_path / "records.parquet")
    with pytest.raises(ValueError, match="columns missing: seed"):
        read_records(tmp_path / "records.parquet")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json_atomic(path, {"a": 1})

    def interrupted_write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        interrupted_write()
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_json_never_holds_nan(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 1.5]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"key": ', "damaged JSON"),
        (b"", "damaged JSON"),
        (b"\xff\xfe", "damaged JSON"),
        (b"[" * 10**5, "damaged JSON"),
        (b'{"key": ' + b"9" * 5000 + b"}", "damaged JSON"),
        (b"[]", "a list instead of a JSON object"),
        (b"null", "null instead of a JSON object"),
        (b"7", "a number instead of a JSON object"),
        (b'"text"', "a text instead of a JSON object"),
        (b"true", "true or false instead of a JSON object"),
        (b"{}", "key: field required"),
        (b'{"key": 7, "records": 1}', "key: input should be a valid string"),
        (b'{"key": "k", "records": "1"}', "records: input should be a valid integer"),
        (b'{"key": "k", "records": true}', "records: input should be a valid integer"),
        (b'{"key": "k", "records": -1}', "records: input should be greater"),
        (b'{"key": "k", "records": 1, "files": []}', "files: input should be a valid dictionary"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_that_is_not_ours_names_the_file_and_what_to_do(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "DONE.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"DONE\.json: .*{problem}.*; delete the file and run the same") as error:
        read_json(path, Done)
    assert "\n" not in str(error.value)


def test_json_that_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(ValueError, match=f"{name}: not a regular file"):
            read_json(tmp_path / name)
    with pytest.raises(ValueError, match="absent is missing"):
        read_json(tmp_path / "absent")


def test_a_seal_shows_any_changed_value(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json_atomic(path, {"a": 1.5, "b": {"c": ["ä", None, True]}}, sealed=True)
    assert read_json(path, sealed=True) == {"a": 1.5, "b": {"c": ["ä", None, True]}}
    whole = path.read_text()
    for old, new in (("1.5", "1.6"), ("ä", "a"), ("null", "0"), ("true", "false"), ('"c"', '"d"')):
        path.write_text(whole.replace(old, new))
        with pytest.raises(ValueError, match=r"x\.json: not what the run wrote: a value is another than its seal says"):
            read_json(path)
    path.write_text(json.dumps(json.loads(whole)))  # other white space is no other content
    assert read_json(path, sealed=True)["a"] == 1.5
    write_json_atomic(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    with pytest.raises(ValueError, match="its seal is missing"):
        read_json(path, sealed=True)


@pytest.mark.parametrize("values", [{"score": 7}, {"score": -100}, {"tolerant": 2}, {"n_tokens": -1}])
def test_values_outside_their_range_are_refused(tmp_path: Path, values: dict[str, int]) -> None:
    write_records(tmp_path / "records.parquet", [RECORD, RECORD])
    table = pq.read_table(tmp_path / "records.parquet")
    ((name, value),) = values.items()
    column = pa.array([1, value], table.schema.field(name).type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), tmp_path / "records.parquet")
    with pytest.raises(ValueError, match=rf"records\.parquet, row 1: .*{value}"):
        read_records(tmp_path / "records.parquet")


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("score", ["1", "1"], "the column score holds string"),
        ("gold", ["a", "b"], "the column gold holds string"),
        ("completion", [b"\xff", b"b"], "the column completion holds binary"),
        ("completion", ["a", None], "the column completion has empty places"),
        ("finish_reason", ["stop", "tired"], "row 1: 4 tokens that end with 'tired'"),
    ],
)
def test_columns_of_another_kind_are_refused(tmp_path: Path, name: str, values: list[object], problem: str) -> None:
    write_records(tmp_path / "records.parquet", [RECORD, RECORD])
    table = pq.read_table(tmp_path / "records.parquet")
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, name, pa.array(values)), tmp_path / "records.parquet")
    with pytest.raises(ValueError, match=problem):
        read_records(tmp_path / "records.parquet")


def test_a_line_cut_off_by_a_kill_is_skipped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"step": 1})
    whole = path.read_bytes()
    append_jsonl(path, {"step": 2, "text": "a } b"})
    both = path.read_bytes()
    for kept in range(len(whole), len(both)):
        path.write_bytes(both[:kept])
        assert read_jsonl(path) == [{"step": 1}], both[:kept]
        path.write_bytes(both[:kept] + bytes(7))  # what a power cut may make of the end
        assert read_jsonl(path) == [{"step": 1}], both[:kept]
        append_jsonl(path, {"step": 2, "loss": 0.5})
        assert read_jsonl(path) == [{"step": 1}, {"step": 2, "loss": 0.5}]


def test_a_line_that_was_changed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3):
        append_jsonl(path, {"step": step, "loss": 0.5, "text": "ä\u2028"})
    whole = path.read_bytes()
    assert [row["text"] for row in read_jsonl(path)] == ["ä\u2028"] * 3
    second = whole.index(b"\n") + 1
    for place in range(second, whole.index(b"\n", second)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2: not what the run wrote"):
                read_jsonl(path)
    path.write_bytes(b'{"step": 1}\n')
    with pytest.raises(ValueError, match="line 1"):
        read_jsonl(path)
    assert read_jsonl(path, sealed=False) == [{"step": 1}]  # of a run of format 1


@pytest.mark.parametrize("rest", [b'{"step": 2}x', b"null", b"7", b"[", b"{}", b'{"step": 2}', b"\xff", b"text"])
def test_an_end_that_no_kill_leaves_is_named(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"step": 1})
    path.write_bytes(path.read_bytes() + rest)
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2"):
        read_jsonl(path)


def test_lines_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(RunFailed, match=r"events\.jsonl: can't be written"):
        append_jsonl(tmp_path / "events.jsonl", {"phase": "x"})
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_temporary_file_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / f".x.json.{os.getpid()}.tmp").symlink_to(tmp_path / "mine")
    write_json_atomic(tmp_path / "x.json", {"a": 1})
    assert (tmp_path / "mine").read_text() == "mine"
    assert read_json(tmp_path / "x.json") == {"a": 1}


def test_a_full_disk_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    append_jsonl(tmp_path / "events.jsonl", {"phase": "x"})
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunFailed, match=r"x\.json: can't be written \(No space left on device\); make room") as error:
        write_json_atomic(tmp_path / "x.json", {"a": 1})
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]


def test_a_library_on_a_full_disk_is_told_in_a_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        with disk_may_be_full(tmp_path / "checkpoint-2"):
            raise RuntimeError("PytorchStreamWriter failed writing file data/0\nframe #0: …")

    with pytest.raises(RuntimeError, match="PytorchStreamWriter"):
        fails()
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(RunFailed, match=r"checkpoint-2: can't be written \(No space left on device\); make room"):
        fails()


def test_scores_are_kept_as_they_are_and_those_of_earlier_versions_are_read(tmp_path: Path) -> None:
    row = Record("sft", 0, 1, "a", "a/test/0", "p", "c", "stop", "c", ["c"], 0.55, 1.0, 3, "q", "vqa", 0.6)
    write_records(tmp_path / "now.parquet", [row])
    assert read_records(tmp_path / "now.parquet") == [row]
    table = pq.read_table(tmp_path / "now.parquet")
    for name, value in (("score", 0), ("tolerant", 1)):  # whole numbers, as they were once written
        table = table.set_column(table.column_names.index(name), name, pa.array([value], pa.int8()))
    table = table.drop_columns(["metric", "right_from"])
    table = table.rename_columns(["strict" if name == "score" else name for name in table.column_names])
    pq.write_table(table, tmp_path / "before.parquet")
    (old,) = read_records(tmp_path / "before.parquet")
    assert (old.score, old.tolerant, old.metric, old.right_from) == (0.0, 1.0, "", 0.5)
    assert (old.right, old.right_in_any_style) == (False, True)
