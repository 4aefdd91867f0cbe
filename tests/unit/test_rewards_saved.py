"""Saved completions: what can be read, what is refused in one line, and what a reward made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt.store.records import write_records
from cpt.types import Record
from rewards.lab.breakdown import by_group, summarise, with_scores
from rewards.lab.saved import read_saved, score_saved, write_table
from rewards.registry import COLUMNS
from rewards.score import Score


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def right(completion: str, *, gold: list[str], **_: object) -> Score:
    """1 if the completion is a gold answer; a completion of "crash" makes it fail."""
    if completion == "crash":
        return Score(0.0, status="error", detail="crashed")
    value = float(completion in gold)
    return Score(value, {"accuracy": value}, completion, "ok" if completion else "no_answer")


def test_our_records_are_read_as_they_are(tmp_path):
    record = Record("sft", 0, 1, "parity", "parity/test/0/0", "odd ?", "yes", "stop", "yes", ["yes"], 1, 1, 3)
    write_records(tmp_path / "records.parquet", [record])
    found = read_saved(tmp_path / "records.parquet", constants={"template": "think"})
    ((completion, row),) = found.rows()
    assert completion == "yes"
    assert row == {"gold": ["yes"], "finish_reason": "stop", "n_tokens": 3, "task": "parity", "template": "think"}


def test_json_lines_with_other_names(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"output": "3", "answer": 3}, {"output": "4", "answer": [4, 4.5, [0, 1]]})
    found = read_saved(path, {"completion": "output", "gold": "answer"})
    assert [row for _, row in found.rows()] == [{"gold": ["3"]}, {"gold": ["4", "4.5", "[0, 1]"]}]


def test_gold_as_annotators_rows(tmp_path):
    rows = [{"answer": "red", "answer_confidence": "yes"}, {"answer": "dark red", "answer_confidence": "no"}]
    path = lines(tmp_path / "a.jsonl", {"completion": "red", "gold": rows})
    assert [row["gold"] for _, row in read_saved(path).rows()] == [["red", "dark red"]]


def test_a_missing_value_is_left_out(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"completion": "3", "choices": None}, {"completion": "4", "choices": ["a", "b"]})
    assert [row for _, row in read_saved(path).rows()] == [{}, {"choices": ["a", "b"]}]


def test_chats_are_read_for_their_last_message(tmp_path):
    chat = [{"role": "tool", "content": "2 + 1"}, {"role": "assistant", "content": [{"type": "text", "text": "3"}]}]
    path = lines(tmp_path / "a.jsonl", {"completion": chat}, {"completion": [{"role": "assistant", "content": "4"}]})
    assert [completion for completion, _ in read_saved(path).rows()] == ["3", "4"]


def test_every_column_of_the_protocol_is_passed_on_and_no_other_but_the_task(tmp_path):
    values = dict.fromkeys(COLUMNS, "3") | {"template": "think", "n_tokens": 1, "max_tokens": 9, "meta": {"a": 1}}
    path = lines(tmp_path / "a.jsonl", values | {"completion": "3", "task": "parity", "advantage": 0.5})
    ((_, row),) = read_saved(path).rows()
    assert set(row) == {*COLUMNS, "task"}
    assert row["meta"] == {"a": 1}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "has no rows"),
        ("a.jsonl", '{"completion": "3"}\n{"comp', "line 2: not JSON"),
        ("a.jsonl", "[1]\n", "line 1: has to be an object"),
        ("a.jsonl", '{"output": "3"}\n', "has no column 'completion'"),
        ("a.parquet", "PAR1", "not a whole parquet file"),
        ("a.csv", "completion", "unknown kind of file"),
    ],
)
def test_files_that_can_not_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_saved(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_nothing_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        read_saved(tmp_path / "a.jsonl")
    with pytest.raises(ValueError, match="is a folder"):
        read_saved(tmp_path)
    pq.write_table(pa.table({"completion": pa.array([], pa.string())}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no rows"):
        read_saved(tmp_path / "a.parquet")


def test_missing_columns_are_named_with_what_to_do(tmp_path):
    found = read_saved(lines(tmp_path / "a.jsonl", {"completion": "3", "golden": "3"}))
    with pytest.raises(ValueError, match=r"has no column 'gold', which reward mine needs.*did you mean 'golden'\?"):
        score_saved(found, right, "mine")
    with pytest.raises(ValueError, match=r"has no column 'gloden'; did you mean 'golden'\?"):
        read_saved(found.path, {"gold": "gloden"})


def test_a_row_without_a_needed_value_is_none_of_the_rewards_business(tmp_path):
    path = lines(tmp_path / "a.jsonl", {"completion": "3", "gold": "3"}, {"completion": "4", "gold": None})
    found = read_saved(path)
    scores = score_saved(found, right, "mine")
    assert [score and score.value for score in scores] == [1.0, None]
    summary = summarise(scores)
    assert (summary.n, summary.not_applicable, summary.failed, summary.mean) == (2, 1, 0, 1.0)
    assert with_scores(found, {"mine": scores})["mine/status"] == ["ok", None]
    empty = read_saved(lines(tmp_path / "b.jsonl", {"completion": "3", "gold": None}))
    with pytest.raises(ValueError, match="no row has all of gold, which reward mine needs"):
        score_saved(empty, right, "mine")


def test_an_exception_is_an_error_of_that_row_and_a_refusal_when_it_hits_every_row(tmp_path):
    def divides(completion: str, **_: object) -> Score:
        return Score(1 / int(completion))

    found = read_saved(lines(tmp_path / "a.jsonl", {"completion": "1"}, {"completion": "0"}))
    first, second = score_saved(found, divides, "mine")
    assert first is not None and first.value == 1.0
    assert second is not None and (second.status, second.detail) == ("error", "ZeroDivisionError: division by zero")
    broken = read_saved(lines(tmp_path / "b.jsonl", {"completion": "0"}))
    with pytest.raises(ValueError, match="reward mine could score no row; the first: error: ZeroDivisionError"):
        score_saved(broken, divides, "mine")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"completion": None}, "row 2, column completion: has to be text or a chat's messages, not None"),
        ({"completion": 3}, "row 2, column completion: has to be text"),
        ({"completion": "3", "template": "thnk"}, "row 2, column template: there is no template 'thnk'; did you mean"),
        ({"completion": "3", "n_tokens": 2.5}, "row 2, column n_tokens: has to be a whole number, not 2.5"),
        ({"completion": "3", "meta": "{"}, "row 2, column meta: not JSON"),
    ],
)
def test_a_value_of_no_use_is_named_with_its_row(tmp_path, row, message):
    path = lines(tmp_path / "a.jsonl", {"completion": "3"}, row)
    with pytest.raises(ValueError, match=message):
        list(read_saved(path).rows())


def test_means_are_over_what_could_be_judged(tmp_path):
    rows = [
        {"completion": text, "gold": "3", "task": task}
        for text, task in [("3", "a"), ("4", "a"), ("", "b"), ("crash", "b")]
    ]
    found = read_saved(lines(tmp_path / "a.jsonl", *rows))
    scores = score_saved(found, right, "mine")
    summary = summarise(scores)
    assert (summary.n, summary.failed, summary.mean) == (4, 1, pytest.approx(1 / 3))
    assert summary.parts == {"accuracy": pytest.approx(1 / 3)}
    assert summary.statuses == {"ok": 2, "no_answer": 1, "ambiguous": 0, "malformed": 0, "error": 1, "timeout": 0}
    groups = by_group(found, scores, ["task"])
    assert {key: (group.n, group.mean) for key, group in groups.items()} == {("a",): (2, 0.5), ("b",): (2, 0.0)}


def test_nothing_judged_has_no_mean():
    summary = summarise([Score(0.0, {"accuracy": 0.0}, status="timeout")])
    assert (summary.mean, summary.parts, summary.failed) == (None, {}, 1)


@pytest.mark.parametrize("kind", [".parquet", ".jsonl"])
def test_what_is_written_can_be_read_and_has_no_number_for_what_failed(tmp_path, kind):
    rows = [{"completion": "3", "gold": "3"}, {"completion": "crash", "gold": ["3", "4"]}]
    found = read_saved(lines(tmp_path / "a.jsonl", *rows))
    write_table(tmp_path / f"b{kind}", with_scores(found, {"mine": score_saved(found, right, "mine")}), kind)
    again = read_saved(tmp_path / f"b{kind}")
    assert again.columns["mine/value"] == [1.0, None]
    assert again.columns["mine/part/accuracy"] == [1.0, None]
    assert again.columns["mine/status"] == ["ok", "error"]
    assert again.columns["mine/detail"] == ["", "crashed"]
    assert [completion for completion, _ in again.rows()] == ["3", "crash"]


@pytest.mark.parametrize("kind", [".parquet", ".jsonl"])
def test_text_that_utf_8_can_not_hold_is_written_all_the_same(tmp_path, kind):
    path = tmp_path / "a.jsonl"
    path.write_text('{"completion": "a\\ud800\\u0000b", "gold": "a"}\n')
    found = read_saved(path)
    write_table(tmp_path / f"b{kind}", with_scores(found, {"mine": score_saved(found, right, "mine")}), kind)
    (said,) = read_saved(tmp_path / f"b{kind}").columns["completion"]
    assert said == ("a\\ud800\x00b" if kind == ".parquet" else "a\ud800\x00b")
