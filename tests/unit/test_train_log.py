"""metrics.jsonl: read while it grows, corrected when a stage resumes."""

from __future__ import annotations

import json
from pathlib import Path

from cpt.common.files import append_jsonl
from cpt.train.log import MetricsTail, keep_until


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_the_tail_reports_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    assert tail.read() == []
    append_jsonl(path, {"step": 1, "loss": 0.5})
    append_jsonl(path, {"step": 2, "loss": 0.25})
    assert [row["loss"] for row in tail.read()] == [0.5, 0.25]
    assert tail.read() == []
    append_jsonl(path, {"step": 3, "loss": 0.125})
    assert [row["step"] for row in tail.read()] == [3]
    assert tail.last_step == 3


def test_the_tail_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    path.write_text('{"step": 1}\n{"st')
    assert [row["step"] for row in tail.read()] == [1]
    path.write_text('{"step": 1}\n{"step": 2}\n')
    assert [row["step"] for row in tail.read()] == [2]


def test_a_resumed_stage_rewrites_its_last_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tail = MetricsTail(path)
    for step in range(1, 6):
        append_jsonl(path, {"step": step, "attempt": 1})
    tail.read()
    with path.open("a") as handle:
        handle.write('{"step": 6, "att')  # killed while writing
    keep_until(path, 4)
    assert steps(path) == [1, 2, 3, 4]
    append_jsonl(path, {"step": 5, "attempt": 2})
    assert steps(path) == [1, 2, 3, 4, 5]
    assert tail.read() == [{"step": 5, "attempt": 2}]


def test_a_stage_that_starts_anew_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    keep_until(path, 0)
    assert not path.exists()
    append_jsonl(path, {"step": 1})
    keep_until(path, 0)
    assert path.read_text() == ""
