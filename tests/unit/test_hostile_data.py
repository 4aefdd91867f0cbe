"""Data and definitions that are wrong, strange or hostile: each ends in one clear line, and nothing is done for it."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import cpt
from PIL import Image

import cpt.tasks.registry as registry
from cpt.common.stored_pictures import PictureFile, SquarePicture, StoredPictures
from cpt.recipe import RecipeError, load_recipe
from cpt.recipe.task_files import definitions_in, read_task_file
from cpt.tasks.data_task import DataTask
from cpt.tasks.definition import Data, TaskDefinition
from cpt.tasks.rows import layout_of
from cpt.tasks.sources import open_rows


@pytest.fixture(autouse=True)
def _own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_declared", {})


def asked(number: int, **more: Any) -> dict[str, Any]:
    return {"question": f"Question {number}?", "answer": "yes" if number % 2 else "no", **more}


def write(folder: Path, rows: list[Mapping[str, Any] | str], name: str = "rows.jsonl") -> Path:
    file = folder / name
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def task(folder: Path, **said: Any) -> DataTask:
    return DataTask(
        TaskDefinition.model_validate({"name": "own", "data": {"path": "rows.jsonl", "root": str(folder)}, **said})
    )


def recipe(folder: Path, entry: Any, **more: Any) -> Path:
    content = {
        "version": 1, "name": "x", "model": "builtin/tiny-qwen2_5-vl", "tasks": [entry], "data": {"samples": 8},
        "evaluation": {"samples": 2},
        "arms": {"sft": {"method": {"type": "sft", "max_steps": 1, "per_device_train_batch_size": 2}}},
    }  # fmt: skip
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**content, **more}, sort_keys=False))
    return file


def refused(folder: Path, entry: Any, *overrides: str, **more: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(folder, entry, **more), overrides)
    return str(caught.value)


# Rows

_ROWS: tuple[dict[str, Any], ...] = (
    {"id": "1", "question": "q", "answer": "a", "choices": ["a", "b"], "image": "p.png", "reasoning": "r"},
    {"question": "q", "answers": [{"answer": "x"}] * 10, "images": ["a.png"]},
    {"conversations": [{"from": "human", "value": "<image>q"}, {"from": "gpt", "value": "a"}], "image": "p.png"},
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "system": "s", "id": 1},
    {"messages": [{"role": "user", "content": [{"type": "image", "image": "p.png"}, {"type": "text", "text": "q"}]}]},
    {"prompt": [{"role": "user", "content": "q"}], "reward_model": {"ground_truth": "a"}, "images": []},
    {"prompt": "q", "completion": "a", "images": []},
    {"question": "q", "A": "x", "B": "y", "C": "z", "answer": "A"},
    {"instruction": "i", "input": "x", "output": "y"},
    {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"},
)
_STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, float("nan"), float("inf"), "", " ", "A", "<image>", "<image 1><image 3>", "[1]", "['a']",
    "{", "\ud800", "x" * 5000, "http://x", 10**30, b"x", [], [None], [[]], ["a"], [["a"], {"b": [1]}], {}, {"a": 1},
    {"text": 5}, {"text": ["a"], "label": 5}, {"text": ["a"], "label": [1]}, {"text": ["a", "b"], "label": {"a": 1}},
    {"bytes": 5}, {"path": ["a"]}, {"role": ["user"], "content": 1}, {"answer": {"answer": [{}]}},
    [{"role": "user", "content": [{"type": ["x"]}]}], [{"text": "a"}, {"text": ["b"]}], {"from": ["human"]},
)  # fmt: skip


def _with_one_strange_value(value: Any, strange: Any, chance: random.Random) -> Any:
    if isinstance(value, dict) and chance.random() < 0.7:
        key = chance.choice(list(value))
        return {**value, key: _with_one_strange_value(value[key], strange, chance)}
    if isinstance(value, list) and value and chance.random() < 0.7:
        at = chance.randrange(len(value))
        return [*value[:at], _with_one_strange_value(value[at], strange, chance), *value[at + 1 :]]
    return strange


def test_a_strange_value_anywhere_in_a_row_is_read_or_refused_in_a_sentence() -> None:
    read, told = 0, []
    for seed in range(3000):
        chance = random.Random(seed)
        row = chance.choice(_ROWS)
        key = chance.choice(list(row))
        strange = {**row, key: _with_one_strange_value(row[key], chance.choice(_STRANGE), chance)}
        for first in (row, strange):
            try:
                layout_of(Data(path="x"), list(row), first)(strange)
                read += 1
            except ValueError as error:
                told.append(str(error))
    assert all(one and "\n" not in one for one in told)
    assert read > 500 and len(told) > 500


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ('{"question": "q", "answer": ' + "[" * 900 + "]" * 900 + "}", "its values are nested too deep"),
        ({"question": "q", "answer": "red", "choices": ["red", "red"]}, "'red' is the text of several choices"),
        ({"question": "q", "answer": "a", "image": "p\\1.png"}, "p\\1.png (data.images says where relative paths"),
        ({"question": "q", "answer": "a", "image": "HTTP://127.0.0.1:9/x.png"}, "not fetched from addresses"),
        ({"question": "q", "answer": "a", "hint": ["x"]}, "column hint, which the prompt shows: ['x'] is no text"),
        ({"question": "q \ud800", "answer": "a"}, "half a character ('\\ud800')"),
    ],
)
def test_a_row_that_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path, row: Any, reason: str) -> None:
    columns = {"choices": [], "image": None, "hint": "h"}
    write(tmp_path, [*(asked(n, **columns) for n in range(40)), row])
    own = task(tmp_path, prompt={"direct": "{hint} {question}"})
    (found,) = own.index.unusable
    assert own.index.where(found.place) == "rows.jsonl, line 41"
    assert reason in found.reason
    assert str(tmp_path) in found.reason or "p\\1" not in reason  # a missing file is named as a whole


def test_a_column_of_the_prompt_that_a_row_lacks_is_empty(tmp_path: Path) -> None:
    hints: list[dict[str, Any]] = [{"hint": "look"}, {"hint": None}, {}, {"hint": 3.0}]
    write(tmp_path, [asked(n, **hints[n % 4]) for n in range(40)])
    own = task(tmp_path, prompt={"direct": "{hint}|{question}"})
    said = {
        own.messages(sample, "direct")[0]["content"][0]["text"].partition("|")[0]
        for sample in own.samples("train", own.size("train"))
    }
    assert said == {"look", "", "3"}


def test_test_rows_that_a_hash_did_not_find_are_told_with_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [asked(1)])
    (tmp_path / "own.yaml").write_text("name: own\ndata: rows.jsonl\n")
    assert cpt("tasks", "check", str(tmp_path / "own.yaml")) == 2
    told = capsys.readouterr().err
    assert "no usable row of split test" in told and "(1) into train; change data.test_share" in told


def test_a_task_with_test_rows_alone_is_no_stage_and_not_replayed(tmp_path: Path) -> None:
    write(tmp_path, [asked(n) for n in range(20)])
    alone = {"name": "own", "data": {"test": "rows.jsonl"}}
    told = refused(tmp_path, alone)
    assert told.splitlines() == [
        f"{tmp_path / 'recipe.yaml'}:5: tasks.0: 'own' has test rows alone; name its training rows under data.train"
    ]
    replay = {"type": "static", "tasks": ["own"], "weights": {"count-colour": 1, "own": 1}, "samples": 4}
    arms = {"a": {"method": {"type": "sft", "max_steps": 1, "per_device_train_batch_size": 2}, "replay": replay}}
    told = refused(tmp_path, "count-colour", general=[alone], arms=arms)
    assert "arms.a.replay.samples: task own has no rows of split train" in told


def test_pictures_of_a_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "pictures").mkdir(parents=True)
    Image.new("RGB", (8, 9)).save(tmp_path / "home" / "pictures" / "1.png")
    write(tmp_path, [asked(n, image="1.png") for n in range(2)])
    data = {"test": "rows.jsonl", "root": str(tmp_path), "images": "~/pictures"}
    own = DataTask(TaskDefinition.model_validate({"name": "own", "data": data}))
    assert [sample.images[0].size for sample in own.samples("test", 2)] == [(8, 9)] * 2


# Pictures


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def _sizes(file: Path) -> tuple[tuple[int, int], ...]:
    return StoredPictures([PictureFile(file)], "sample own/train/1").sizes()


def test_a_picture_that_would_take_the_memory_is_refused_by_its_header(tmp_path: Path) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(_png(50_000, 50_000))
    with pytest.raises(ValueError, match=r"sample own/train/1: the picture: can't read .*2500000000 pixels"):
        _sizes(file)
    with file.open("wb") as opened:
        opened.truncate(1 << 40)  # of which the disk has none
    with pytest.raises(ValueError, match=r"its file has 1099511627776 bytes"):
        _sizes(file)


def test_a_large_scan_is_opened_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "scan.png").write_bytes(_png(10_000, 10_000))
    opened = "from cpt.common.pictures import Image\nprint(Image.open('scan.png').size)"
    found = subprocess.run([sys.executable, "-c", opened], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (found.stdout, found.stderr) == ("(10000, 10000)\n", "")


def test_a_thin_picture_is_not_padded_to_a_square_beyond_memory(tmp_path: Path) -> None:
    file = tmp_path / "thin.png"
    Image.new("L", (4, 200_000)).save(file)
    with pytest.raises(ValueError, match=r"the picture: .*thin.png has 4 × 200000 pixels, too many when padded"):
        StoredPictures([SquarePicture(PictureFile(file))], "sample own/train/1").sizes()
    file.write_bytes(_png(50_000, 50_000))
    with pytest.raises(ValueError, match=r"the picture: can't read .*2500000000 pixels"):
        StoredPictures([SquarePicture(PictureFile(file))], "sample own/train/1").sizes()


def test_a_picture_that_is_a_program_is_not_executed(tmp_path: Path) -> None:
    file = tmp_path / "drawing.png"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\n(owned) print\n%%EOF\n")
    assert Image.open(file).format == "EPS"
    with pytest.raises(ValueError, match="is an EPS file, which is a program and is not executed"):
        _sizes(file)
    with pytest.raises(ValueError, match="is an EPS file, which is a program and is not executed"):
        StoredPictures([PictureFile(file)], "sample own/train/1")[0]


def test_a_file_that_is_no_picture_is_told_without_a_place_in_memory(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0:secret")
    with pytest.raises(ValueError, match="it is no picture of a kind that can be read") as caught:
        _sizes(tmp_path / "passwd")
    assert "0x" not in str(caught.value) and "secret" not in str(caught.value)


# Files


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(ValueError, match=r"rows\.jsonl is no file"):
        open_rows(Data(path="rows.jsonl", root=str(tmp_path)), "all")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("https://example.org/rows.jsonl", "nothing is fetched from addresses"),
        ("row.jsonl", "there is no such file or folder; did you mean 'rows.jsonl'?"),
        ("~nobody-of-this-name/rows.jsonl", "there is no such user"),
        ("a" * 300 + ".jsonl", "File name too long"),
    ],
)
def test_a_path_that_leads_nowhere(tmp_path: Path, path: str, told: str) -> None:
    write(tmp_path, [asked(n) for n in range(20)])
    said = refused(tmp_path, {"name": "own", "data": path})
    assert told in said and "tasks.0.data: task own" in said and "\n" not in said


# Definitions, in a recipe and in a file of their own


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"promt": {}}, "promt: unknown key; did you mean 'prompt'?"),
        ({"prompt": {"drect": "x"}}, "prompt.drect: unknown key; did you mean 'direct'?"),
        ({"prompt": {"answer_in": {"drect": "tags"}}}, "prompt.answer_in.drect: unknown key; did you mean 'direct'?"),
        ({"prompt": {"direct": "{question:>9}"}}, "prompt: {question} is written with : or ! in its braces"),
        ({"prompt": {"direct": "{question:{width}}"}}, "prompt: {question} is written with : or ! in its braces"),
        ({"prompt": {"direct": "{question!r}"}}, "prompt: {question} is written with : or ! in its braces"),
        ({"data": {"path": "x", "colums": {}}}, "data.colums: unknown key; did you mean 'columns'?"),
        (
            {"data": {"path": "x", "columns": {"quetsion": "q"}}},
            "quetsion: unknown key; did you mean 'question'?",
        ),
        (
            {"data": {"path": "x", "columns": {"answer": 3}}},
            "answer: must be text, or a list, as in [a, b], not 3",
        ),
        ({"data": {"mix": [{"path": "x", "roww": 1}]}}, "data.mix.0.roww: unknown key; did you mean 'rows'?"),
        ({"data": {"path": "x", "root": 3}}, "data.root: must be text, not 3"),
        ({"data": {"path": "x", "train": []}}, "data.train: is empty; give at least one"),
        ({"data": ""}, "data.path: is empty"),
        ({"data": None}, "data is empty: say where its rows are"),
        ({"data": {"path": "x", "hub": "a/b"}}, "data: set one of path (a file or a folder), hub"),
        ({"filter": {"k": {"a": 1}}}, "filter.k: must be true or false, or a whole number"),
        ({"max_tokens": "many"}, "max_tokens: must be a whole number, or one for each style"),
        ({"max_tokens": {"drect": 5}}, "max_tokens.drect: unknown key; did you mean 'direct'?"),
        ({"samples": "many"}, "samples: must be a whole number, not 'many'"),
    ],
)
def test_a_wrong_definition_is_told_alike_in_a_recipe_and_in_a_file(
    tmp_path: Path, said: dict[str, Any], told: str
) -> None:
    entry = {"name": "own", "data": "rows.jsonl", **said}
    file = tmp_path / "tasks.yaml"
    file.write_text(yaml.safe_dump({"tasks": [{"name": "first", "data": "rows.jsonl"}, entry]}, sort_keys=False))
    write(tmp_path, [asked(n) for n in range(20)])
    with pytest.raises(RecipeError) as caught:
        read_task_file(file)
    for found, where in ((refused(tmp_path, entry), "tasks.0"), (str(caught.value), "tasks.1")):
        assert told in found and f": {where}" in found
        assert not any(word in found for word in ("\n", "constrained", "Input", "Extra", "should", "str]"))


def test_a_run_of_another_version_is_told_by_its_key() -> None:
    written = {"tasks": [{"name": "own", "data": {"path": "x", "later": 1}, "samples": 3}]}
    with pytest.raises(ValueError, match=r"^the run's recipe.yaml: tasks.0.data.later: unknown key; known: [^\n]*$"):
        definitions_in(yaml.safe_dump(written))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"task": []}, "task: unknown key of a task file; did you mean 'tasks'?"),
        ({"defaults": [1], "tasks": [{"name": "own", "data": "x"}]}, "defaults: must be a mapping"),
        ({"tasks": []}, "tasks: must be a list of definitions"),
        ({"tasks": [{"name": "own", "data": "x"}] * 2}, "tasks.1: 'own' stands here twice"),
        ({"tasks": [{"name": "exists"}]}, "tasks.0: has no data: say where its rows are"),
    ],
)
def test_a_wrong_file_of_tasks(tmp_path: Path, content: Any, told: str) -> None:
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError, match=r"tasks\.yaml:[12]: ") as caught:
        read_task_file(tmp_path / "tasks.yaml")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"only": 3}, "only: must be a list of tasks' names, not 3"),
        ({"only": [["own"]]}, "only: must be a list of tasks' names"),
        ({"only": []}, "only: must be a list of tasks' names"),
        ({"root": 3}, "root: must be text, not 3"),
        ({"root": "~nobody-of-this-name"}, "there is no such user"),
        ({"file": 3}, "file: must be text, not 3"),
        ({"file": "x" * 300}, "file: there is no task file"),
        ({"metric": "number"}, "metric: belongs to a definition, and this entry takes them from 'tasks.yaml'"),
    ],
)
def test_a_wrong_entry_that_names_a_file(tmp_path: Path, entry: dict[str, Any], told: str) -> None:
    write(tmp_path, [asked(n) for n in range(20)])
    (tmp_path / "tasks.yaml").write_text("name: own\ndata: rows.jsonl\n")
    said = refused(tmp_path, {"file": "tasks.yaml", **entry})
    assert told in said and "tasks.0" in said and "\n" not in said


def test_the_command_line_reaches_into_data_that_are_a_bare_path(tmp_path: Path) -> None:
    write(tmp_path, [asked(n) for n in range(40)])
    write(tmp_path, [asked(n) for n in range(50, 90)], "other.jsonl")
    file = recipe(tmp_path, {"name": "own", "data": "rows.jsonl"})
    loaded = load_recipe(file, ["tasks.0.data.path=other.jsonl", "tasks.0.data.test_share=0.5"])
    assert loaded.tasks[0].data is not None
    assert (loaded.tasks[0].data.path, loaded.tasks[0].data.test_share) == ("other.jsonl", 0.5)
    assert loaded.tasks[0].data.root == str(tmp_path)


def test_a_question_that_is_the_answer_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [asked(n) for n in range(20)])
    entry = {"name": "own", "data": {"path": "rows.jsonl", "columns": {"question": "answer"}}}
    assert "'answer' is both question and answer" in refused(tmp_path, entry)


# Terminals and models


def test_what_data_and_task_files_say_does_not_act_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "\x1b]0;owned\x07[/nope]"
    for number in range(30):
        folder = tmp_path / "pictures" / ("cat" if number % 2 else f"dog{hostile.replace('/', '')}")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}\x1b[2J.png")
    said = {
        "name": "own",
        "about": "[/nope] of a stranger",
        "data": {"path": "pictures"},
        "prompt": {"direct": "What?"},
    }
    (tmp_path / "tasks.yaml").write_text(yaml.safe_dump(said))
    assert cpt("tasks", "list", str(tmp_path / "tasks.yaml")) == 0
    assert cpt("tasks", "check", str(tmp_path / "tasks.yaml")) == 0
    shown = capsys.readouterr().out
    assert "[/nope] of a stranger" in shown and "\\x1b[2J.png" in shown
    assert "\x1b]" not in shown and "\x1b[2J" not in shown and "\x07" not in shown
