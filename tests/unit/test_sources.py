"""Where rows come from: each kind of source, which split is which, and what is wrong in one line."""

from __future__ import annotations

import csv
import io
import json
import pickle
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cpt.common.stored_pictures import StoredPicture
from cpt.report.sample_cards import held_out_samples
from cpt.tasks import declare
from cpt.tasks.definition import Data, TaskDefinition
from cpt.tasks.sources import Rows, open_rows
from cpt.tasks.sources.hub import without_network

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets` writes into a folder of the test's own, and draws no bars."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def opened(folder: Path, part: str = "all", **data: Any) -> Rows:
    rows = found(folder, part, **data)
    assert rows is not None
    return rows


def found(folder: Path, part: str = "all", **data: Any) -> Rows | None:
    return open_rows(Data.model_validate({"root": str(folder), **data}), part)  # type: ignore[arg-type]


def refused(folder: Path, part: str = "all", **data: Any) -> str:
    with pytest.raises(ValueError, match=r".") as error:
        found(folder, part, **data)
    assert "\n" not in str(error.value)
    return str(error.value)


def whole(rows: Rows) -> list[dict[str, Any]]:
    """All rows, which are the same one by one, in a pass, and in another process."""
    listed = [dict(row) for row in rows]
    assert listed == [rows[number] for number in range(len(rows))]
    assert listed == list(pickle.loads(pickle.dumps(rows)))
    with pytest.raises(IndexError):
        rows[len(rows)]
    return listed


def png(number: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number, 0, 0)).save(file, format="PNG")
    return file.getvalue()


def write_pictures(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))


def write_parquet(file: Path, columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file)


# Text files


def test_a_csv_file_as_spreadsheets_write_it(tmp_path: Path):
    text = '\ufeffquestion,answer\r\n"x, y",1\r\n\r\n"two\r\nlines é",2\r\n'
    (tmp_path / "rows.csv").write_bytes(text.encode())
    rows = opened(tmp_path, path="rows.csv")
    assert whole(rows) == [{"question": "x, y", "answer": "1"}, {"question": "two\r\nlines é", "answer": "2"}]
    assert rows.columns == ("question", "answer")
    assert [rows.where(n) for n in range(2)] == ["rows.csv, line 2", "rows.csv, line 4"]
    assert rows.folder == str(tmp_path)


def test_other_delimiters(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("q;a\nx, y;1\n")
    (tmp_path / "rows.tsv").write_text("q\ta\nx, y;\t1\n")
    assert whole(opened(tmp_path, path="rows.csv")) == [{"q": "x, y", "a": "1"}]
    assert whole(opened(tmp_path, path="rows.tsv")) == [{"q": "x, y;", "a": "1"}]


def test_a_field_of_a_page(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("q,a\n" + "x" * 300_000 + ",1\n")
    assert len(opened(tmp_path, path="rows.csv")[0]["q"]) == 300_000


def test_json_lines(tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('\ufeff{"q": "ü", "a": 1}\n\n{"q": "x", "b": [1, null]}')
    rows = opened(tmp_path, path="rows.jsonl")
    assert whole(rows) == [{"q": "ü", "a": 1}, {"q": "x", "b": [1, None]}]
    assert rows.columns == ("q", "a", "b")
    assert rows.where(1) == "rows.jsonl, line 3"


ROWS = [{"q": "é", "x": 1}, {"q": "2"}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS, ensure_ascii=False),
        " \n" + json.dumps(ROWS, indent=2),
        json.dumps({"version": "1", "info": {"n": [1]}, "data": ROWS, "ids": [1, 2], "none": []}),  # TextVQA, VQAv2
        "\n".join(map(json.dumps, ROWS)),  # JSON lines that are called JSON
    ],
)
def test_json_of_all_kinds(tmp_path: Path, text: str):
    (tmp_path / "rows.json").write_text(text)
    rows = opened(tmp_path, path="rows.json")
    assert whole(rows) == ROWS
    assert rows.where(1).startswith("rows.json, ") and rows.where(1).endswith(" 2")


def test_json_of_rows_by_id(tmp_path: Path):
    (tmp_path / "problems.json").write_text(json.dumps({"11": ROWS[0], "12": ROWS[1]}))  # ScienceQA's
    assert whole(opened(tmp_path, path="problems.json")) == [{"id": "11", **ROWS[0]}, {"id": "12", **ROWS[1]}]


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2), max_leaves=4
)


@settings(max_examples=20)
@given(st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), min_size=1, max_size=4), st.booleans())
def test_json_in_any_spelling(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], spaced: bool):
    folder = tmp_path_factory.mktemp("json")
    (folder / "x.json").write_text(json.dumps(rows, indent=1 if spaced else None, ensure_ascii=spaced))
    (folder / "x.jsonl").write_text("".join(json.dumps(row, ensure_ascii=not spaced) + "\n" for row in rows))
    assert list(opened(folder, path="x.json")) == rows
    assert list(opened(folder, path="x.jsonl")) == rows


FIELD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=6)


@settings(max_examples=20)
@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=4))
def test_csv_in_any_spelling(tmp_path_factory: pytest.TempPathFactory, fields: list[tuple[str, str]]):
    folder = tmp_path_factory.mktemp("csv")
    with (folder / "x.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("q", "a"), *fields])
    assert list(opened(folder, path="x.csv")) == [{"q": q, "a": a} for q, a in fields]


def test_lines_of_a_plain_text(tmp_path: Path):
    (tmp_path / "wiki.txt").write_bytes("\ufeff= Ä =\r\n\r\n a b".encode())
    rows = opened(tmp_path, path="wiki.txt")
    assert whole(rows) == [{"text": "= Ä ="}, {"text": " a b"}] and rows.where(1) == "wiki.txt, line 3"


def test_several_files_and_patterns(tmp_path: Path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"q": name}) + "\n")
    assert [row["q"] for row in opened(tmp_path, path="*.jsonl")] == ["a", "b"]
    rows = opened(tmp_path, "train", train=["b.jsonl", "a.jsonl"])
    assert [row["q"] for row in whole(rows)] == ["b", "a"]
    assert rows.where(1) == "a.jsonl, line 1"
    assert found(tmp_path, "all", train="a.jsonl") is None
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "train.jsonl").write_text('{"q": "c"}')
    assert [row["q"] for row in opened(tmp_path, "train", path=".", train="*/train.jsonl")] == ["c"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.json", '[{"a": 1},\n{"a": }]', "x.json, line 2: no JSON (Expecting value)"),
        ("x.json", '[{"a": 1} {"a": 2}]', "x.json, line 1: no JSON (Expecting ',' delimiter)"),
        ("x.json", '[{"a": 1}', "x.json, line 1: no JSON (Expecting ',' delimiter)"),
        ("x.json", '[{"a": 1}, [2]]', "x.json: row 2 is a list, not a mapping of columns"),
        ("x.json", '{"a": {"0": 1}, "b": {"0": 2}}', "there is no list of rows in it"),  # pandas, by columns
        ("x.json", '{"a": [{"x": 1}], "b": [{"x": 2}]}', "there are lists of rows under a, b"),
        ("x.json", '{"messages": [{"role": "user"}]}', "there is no list of rows in it"),
        ("x.json", "3", "neither a list of rows nor an object"),
        ("x.json", "", "x.json, line 1: no JSON (Expecting value)"),
        ("x.json", "[]", "x.json: there are no rows in it"),
        ("x.json", "[" * 100_000, "x.json: "),
        ("x.jsonl", '{"a": 1}\n{"a": \n', "x.jsonl, line 2: no JSON (Expecting value)"),
        ("x.jsonl", '{"a": 1}\n[2]\n', "x.jsonl, line 2: a row is a list, not a mapping"),
        ("x.csv", "a,b\n1,2\n1,2,3\n", "x.csv, line 3: 3 fields where the header has 2"),
        ("x.csv", 'a,b\n1,"2\n', "x.csv, line 2: no CSV (unexpected end of data)"),
        ("x.csv", "a,a\n1,2\n", "x.csv, line 1: two columns are called 'a'"),
        ("x.csv", "a,b\n", "x.csv: there are no rows in it"),
        ("x.txt", "\n \n", "x.txt: there are no rows in it"),
        ("x.md", "a", "is of no kind that can be read (.json"),
    ],
)
def test_damaged_text_files(tmp_path: Path, name: str, content: str, told: str):
    (tmp_path / name).write_text(content)
    assert told in refused(tmp_path, path=name)


def test_text_that_is_not_utf8(tmp_path: Path):
    for name in ("x.csv", "x.jsonl", "x.json", "x.txt"):
        (tmp_path / name).write_bytes('[{"a": "é"}]'.encode("latin-1"))
        assert "not text in UTF-8" in refused(tmp_path, path=name)


def test_a_file_that_changes_while_it_is_used(tmp_path: Path):
    (tmp_path / "x.jsonl").write_text('{"a": 1}\n')
    rows = opened(tmp_path, path="x.jsonl")
    (tmp_path / "x.jsonl").write_text('{"a": 1, "b": 2}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl has changed"):
        rows[0]


# What datasets saves, and parquet


def save(folder: Path, first: int = 0, **options: Any) -> Any:
    from datasets import ClassLabel, Dataset, Features, List, Value
    from datasets import Image as Picture

    features = Features(
        {
            "question": Value("string"),
            "image": Picture(),
            "more": List(Picture()),
            "label": ClassLabel(names=["cat", "dog"]),
            "labels": List(ClassLabel(names=["cat", "dog"])),
            "answers": [{"answer": Value("string"), "answer_id": Value("int64")}],
        }
    )
    columns = {
        "question": [f"q{first + n}" for n in range(3)],
        "image": [{"bytes": png(n), "path": None} if n != 1 else None for n in range(3)],
        "more": [[], [{"bytes": png(9), "path": None}], []],
        "label": [1, 0, -1],
        "labels": [[1, 0], [], None],
        "answers": [[{"answer": "x", "answer_id": 1}, {"answer": "y", "answer_id": 2}]] * 3,
    }
    made = Dataset.from_dict(columns, features=features)
    if options.get("parquet"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.to_parquet(folder)
    elif options.get("shards"):
        made.save_to_disk(folder, num_shards=options["shards"])
    return made


def check_saved(rows: Rows, where: str) -> None:
    listed = whole(rows)
    assert rows.columns == ("question", "image", "more", "label", "labels", "answers")
    assert [row["question"] for row in listed] == ["q0", "q1", "q2"]
    assert [row["label"] for row in listed] == ["dog", "cat", None]
    assert [row["labels"] for row in listed] == [["dog", "cat"], [], None]
    assert listed[0]["answers"] == [{"answer": "x", "answer_id": 1}, {"answer": "y", "answer_id": 2}]
    image = listed[2]["image"]
    assert isinstance(image, StoredPicture) and image.read() == png(2)
    assert listed[1]["image"] is None and listed[0]["more"] == []
    assert [picture.read() for picture in listed[1]["more"]] == [png(9)]
    assert image.name == f"{where}, column image" and rows.where(2) == where
    again = pickle.loads(pickle.dumps(image))
    assert again == image and hash(again) == hash(image) and again.read() == png(2)
    assert image != listed[0]["image"] and image.key != listed[0]["image"].key


def test_a_saved_dataset_in_shards(tmp_path: Path):
    save(tmp_path / "saved", shards=2)
    check_saved(opened(tmp_path, path="saved"), "saved, row 3")


def test_saved_splits(tmp_path: Path):
    from datasets import DatasetDict

    DatasetDict({"train": save(tmp_path), "validation": save(tmp_path, 10)}).save_to_disk(tmp_path / "saved")
    check_saved(opened(tmp_path, "train", path="saved"), "train, row 3")
    assert opened(tmp_path, "test", path="saved")[0]["question"] == "q10"  # without a split test it is validation
    assert found(tmp_path, "all", path="saved") is None
    assert opened(tmp_path, "test", path="saved", test="train")[0]["question"] == "q0"
    assert found(tmp_path, "train", path="saved", test="train") is None
    assert len(opened(tmp_path, "train", path="saved", train=["train", "validation"])) == 6
    assert "no split 'dev' (data.test); known: train, validation" in refused(tmp_path, "test", path="saved", test="dev")


def test_parquet_as_datasets_writes_it(tmp_path: Path):
    save(tmp_path / "rows [v2].parquet", parquet=True)
    check_saved(opened(tmp_path, path="rows [v2].parquet"), "rows [v2].parquet, row 3")


def test_parquet_as_others_write_it(tmp_path: Path):
    struct = [{"bytes": png(n), "path": None} for n in range(2)]
    columns = {
        "problem": ["<image>a", "b"],
        "raw": [png(5), None],
        "path": ["x.png", "y.png"],
        "images": [struct, [{"bytes": None, "path": "there.png"}]],
        "turns": [[{"type": "image", "image": struct[0]}, {"type": "text", "image": None}], None],
        "__index_level_0__": [3, 4],
    }
    write_parquet(tmp_path / "rows.parquet", columns)
    rows = opened(tmp_path, path="rows.parquet")
    assert "__index_level_0__" not in rows.columns
    first, second = whole(rows)
    assert first["raw"].read() == png(5) and second["raw"] is None
    assert [picture.read() for picture in first["images"]] == [png(0), png(1)]
    assert second["images"] == ["there.png"]
    assert first["path"] == "x.png" and rows.folder == str(tmp_path)
    assert first["turns"][0]["image"].read() == png(0) and first["turns"][1] == {"type": "text", "image": None}
    assert first["images"][1].name == "rows.parquet, row 1, column images.2"


def test_parquet_in_the_hubs_layout(tmp_path: Path):
    for split, files in (("train", 2), ("test", 1)):
        for number in range(files):
            name = f"{split}-{number:05}-of-{files:05}.parquet"
            write_parquet(tmp_path / "repo" / "data" / name, {"q": [f"{split}{number}"], "a": ["x"]})
    assert [row["q"] for row in opened(tmp_path, "train", path="repo")] == ["train0", "train1"]
    assert [row["q"] for row in opened(tmp_path, "test", path="repo")] == ["test0"]
    assert opened(tmp_path, "train", path="repo").where(1) == "train-00001-of-00002.parquet, row 1"


def test_damaged_parquet_and_saved_folders(tmp_path: Path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    assert "x.parquet: no parquet file, or a damaged one" in refused(tmp_path, path="x.parquet")
    write_parquet(tmp_path / "a" / "train-0.parquet", {"q": ["a"]})
    write_parquet(tmp_path / "a" / "train-1.parquet", {"q": ["a"], "b": ["c"]})
    assert "have different columns (b)" in refused(tmp_path, "train", path="a")
    write_parquet(tmp_path / "none.parquet", {"q": []})
    assert "there are no rows in it" in refused(tmp_path, path="none.parquet")
    save(tmp_path / "saved", shards=1)
    arrow = tmp_path / "saved" / "data-00000-of-00001.arrow"
    arrow.write_bytes(arrow.read_bytes()[:100])
    assert "saved: not what save_to_disk writes, or damaged" in refused(tmp_path, path="saved")
    arrow.unlink()
    assert "saved: not what save_to_disk writes, or damaged" in refused(tmp_path, path="saved")


def test_a_pass_over_all_rows_reads_no_picture(tmp_path: Path):
    import pyarrow as pa

    size = 100_000
    pictures = [{"bytes": bytes([n]) * size, "path": None} for n in range(50)]
    write_parquet(tmp_path / "rows.parquet", {"question": ["q"] * 50, "image": pictures})
    rows = opened(tmp_path, path="rows.parquet")
    del pictures
    held = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        seen = [row["image"] for row in rows]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < size and pa.total_allocated_bytes() - held < size
    assert seen[7].read() == bytes([7]) * size


def test_rows_of_a_text_file_stay_in_the_file(tmp_path: Path):
    text = json.dumps([{"q": "x" * 1000} for _ in range(1000)])
    for name, content in (("x.json", text), ("x.jsonl", text[1:-1].replace("}, ", "}\n"))):
        (tmp_path / name).write_text(content)
        tracemalloc.start()
        try:
            rows = opened(tmp_path, path=name)
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(rows) == 1000 and held < len(text) / 10


# Folders


def test_pictures_in_folders_of_classes(tmp_path: Path):
    write_pictures(tmp_path, "train/cat/1.png", "train/dog/2.JPG", "test/cat/3.png", "train/.hidden/4.png")
    rows = opened(tmp_path, "train", path=".")
    assert whole(rows) == [{"image": "cat/1.png", "label": "cat"}, {"image": "dog/2.JPG", "label": "dog"}]
    assert rows.folder == str(tmp_path / "train") and rows.where(1) == "dog/2.JPG"
    assert len(opened(tmp_path, "test", path=".")) == 1
    assert len(opened(tmp_path, "test", path=".", test="test/cat")) == 1
    assert opened(tmp_path, path="train/cat").columns == ("image",)


def test_a_class_may_be_called_train(tmp_path: Path):
    write_pictures(tmp_path, "train/1.png", "plane/2.png")
    assert [row["label"] for row in opened(tmp_path, path=".")] == ["plane", "train"]
    assert found(tmp_path, "train", path=".") is None


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_pictures_with_metadata(tmp_path: Path, kind: str):
    write_pictures(tmp_path, "a.png", "sub/b.png")
    rows = [{"file_name": "a.png", "text": "x"}, {"file_name": "sub/b.png", "text": "y"}]
    if kind == "csv":
        (tmp_path / "metadata.csv").write_text("file_name,text\na.png,x\nsub/b.png,y\n")
    elif kind == "jsonl":
        (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        write_parquet(tmp_path / "metadata.parquet", {name: [row[name] for row in rows] for name in rows[0]})
    found = opened(tmp_path, path=".")
    assert whole(found) == [{"image": "a.png", "text": "x"}, {"image": "sub/b.png", "text": "y"}]
    assert found.folder == str(tmp_path)


def test_metadata_in_folders_of_splits(tmp_path: Path):
    for split in ("train", "test"):
        write_pictures(tmp_path, f"{split}/a.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,text\na.png,{split}\n")
    rows = opened(tmp_path, "test", path=".")
    assert whole(rows) == [{"image": "a.png", "text": "test"}] and rows.folder == str(tmp_path / "test")


def test_metadata_with_several_pictures(tmp_path: Path):
    write_pictures(tmp_path, "a.png", "b.png")
    row = {"file_names": ["a.png", "b.png"], "left_file_name": "a.png", "x": 1}
    (tmp_path / "metadata.jsonl").write_text(json.dumps(row))
    assert whole(opened(tmp_path, path=".")) == [{"images": ["a.png", "b.png"], "left": "a.png", "x": 1}]
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"name": "a.png"}))
    assert "no column of the metadata is called file_name" in refused(tmp_path, path=".")


def test_files_of_splits_in_a_folder(tmp_path: Path):
    for name in ("train_x20.json", "test_3000.json", "images.json"):
        (tmp_path / name).write_text(json.dumps([{"q": name}]))
    assert opened(tmp_path, "train", path=".")[0]["q"] == "train_x20.json"
    assert opened(tmp_path, "test", path=".")[0]["q"] == "test_3000.json"
    assert opened(tmp_path, "test", path=".", test="images.json")[0]["q"] == "images.json"
    assert found(tmp_path, "train", path=".", test="images.json") is None  # what is named is all there is


def test_a_folder_with_one_file(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("q,a\n1,2\n")
    write_pictures(tmp_path, "pictures/1.png")
    assert len(opened(tmp_path, path=".")) == 1


def test_folders_that_leave_a_choice(tmp_path: Path):
    for name in ("train.json", "train_x20.json"):
        (tmp_path / name).write_text('[{"q": 1}]')
    told = refused(tmp_path, "train", path=".")
    assert "several files (train.json, train_x20.json); write which is meant as data.train" in told
    for name in ("test_3000.json", "test_4000.json"):  # no pieces of one
        (tmp_path / name).write_text('[{"q": 1}]')
    assert "several files (test_3000.json, test_4000.json)" in refused(tmp_path, "test", path=".")
    write_pictures(tmp_path / "lab", "images/1.png")
    (tmp_path / "lab" / "annotations").mkdir()
    (tmp_path / "lab" / "annotations" / "train.json").write_text('[{"q": 1}]')
    assert "lab has folders with data (annotations): name one as path" in refused(tmp_path, path="lab")
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    assert "empty holds no data" in refused(tmp_path, path="empty")
    assert "of its folders (sub) name one" in refused(tmp_path, path="empty")
    assert "nowhere: there is no such file or folder" in refused(tmp_path, path="nowhere")
    assert "*.json: there is no such file" in refused(tmp_path, path="empty/*.json")
    told = refused(tmp_path, "test", path=".", test="val")
    assert "data.test" in told and "'val'" in told
    told = refused(tmp_path, "test", path="train.json", test="test.json")
    assert "data.test names 'test.json', and there is no such file" in told


def test_a_column_that_says_the_split(tmp_path: Path):
    rows = [{"q": n, "split": split} for n, split in enumerate(["train", "val", "train", "test"])]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    train = opened(tmp_path, "train", path="rows.jsonl", split_column="split")
    assert [row["q"] for row in whole(train)] == [0, 2] and train.where(1) == "rows.jsonl, line 3"
    assert [row["q"] for row in opened(tmp_path, "test", path="rows.jsonl", split_column="split")] == [3]
    validation = opened(tmp_path, "test", path="rows.jsonl", split_column="split", test="val")
    assert [row["q"] for row in validation] == [1]
    assert "no row has 'dev'" in refused(tmp_path, "test", path="rows.jsonl", split_column="split", test="dev")
    assert "no column 'part'" in refused(tmp_path, "test", path="rows.jsonl", split_column="part")


# The Hub


def hub(part: str = "train", **data: Any) -> Rows | None:
    return open_rows(Data(hub="lab/Some-Data", revision=COMMIT, **data), part)  # type: ignore[arg-type]


def test_without_network_the_hub_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *given, **more: asked.append(given))
    with without_network(), pytest.raises(ValueError, match=r"lab/Some-Data, .*: these data are not in the cache"):
        hub()
    assert not asked


def test_a_report_does_not_fetch_data(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[Any] = []
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *given, **more: asked.append(given))
    data = {"hub": "lab/Some-Data", "revision": COMMIT}
    monkeypatch.setattr("cpt.tasks.registry._declared", {})
    declare([TaskDefinition.model_validate({"name": "own", "data": data})])
    assert held_out_samples("own", 3) == {}
    assert not asked


def hub_refused(monkeypatch: pytest.MonkeyPatch, error: BaseException, **data: Any) -> str:
    import datasets

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset_builder", fail)
    with pytest.raises(ValueError, match="lab/Some-Data") as told:
        hub(**data)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_the_hub_refuses(monkeypatch: pytest.MonkeyPatch):
    import httpx
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    def told(error: BaseException, **data: Any) -> str:
        return hub_refused(monkeypatch, error, **data)

    name = "lab/Some-Data"
    gated = f"Dataset '{name}' is a gated dataset on the Hub. You must be authenticated to access it."
    assert "accept its terms" in told(DatasetNotFoundError(gated)) and "hf auth login" in told(
        DatasetNotFoundError(gated)
    )
    unknown = f"Dataset '{name}' doesn't exist on the Hub or cannot be accessed."
    assert "no data set of this id" in told(DatasetNotFoundError(unknown))
    revision = f"Revision '{COMMIT}' doesn't exist for dataset '{name}' on the Hub."
    assert f"no revision {COMMIT}" in told(DatasetNotFoundError(revision))
    for error in (
        ConnectionError(f"Couldn't reach '{name}' on the Hub"),
        OfflineModeIsEnabled("offline"),
        httpx.ConnectError("no"),
    ):
        assert "can't be reached" in told(error) and "HF_HUB_OFFLINE" in told(error)
    config = "BuilderConfig 'x' not found. Available: ['a', 'b']"
    assert "no configuration 'x'; one of a, b" in told(ValueError(config), config="x")
    config = (
        "Config name is missing.\nPlease pick one among the available configs: ['a', 'b']\nExample of usage:\n\t`…`"
    )
    assert "write data.config, one of a, b" in told(ValueError(config))
    script = "Dataset scripts are no longer supported, but found Some-Data.py"
    assert "save_to_disk" in told(RuntimeError(script))
    assert "No (supported) data files" in told(
        DataFilesNotFoundError("No (supported) data files found in lab/Some-Data")
    )
    busy = httpx.Response(503, request=httpx.Request("GET", "https://example.org"))
    assert "busy" in told(HfHubHTTPError("busy\nx", response=busy))


def test_the_hub_is_not_asked_for_what_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put_into_cache(tmp_path, COMMIT, "q0")
    put_into_cache(tmp_path, "f" * 40, "other")
    rows = hub("train")
    assert rows is not None
    assert [row["question"] for row in whole(rows)] == ["q0"]
    assert rows.where(0) == "lab/Some-Data, train, row 1" and rows.folder == ""
    assert hub("test") is None and hub("all") is None
    with pytest.raises(ValueError, match="no split 'dev'"):
        hub("test", test="dev")


def test_another_revision_in_the_cache_is_not_taken(tmp_path: Path):
    """`datasets` itself would: the latest that is there."""
    put_into_cache(tmp_path, "f" * 40, "other")
    with pytest.raises(ValueError, match=r"can't be reached, .*only another revision is in the cache \(ffffffffffff\)"):
        hub("train")


def test_without_network_and_cache():
    with pytest.raises(ValueError, match="the Hub can't be reached, and these data are not in the cache"):
        hub("train")


def put_into_cache(folder: Path, commit: str, question: str) -> None:
    """What `datasets` leaves behind when it has prepared a data set of the Hub, written by its own builder."""
    from datasets import config
    from datasets.packaged_modules.parquet.parquet import Parquet

    file = folder / f"{commit}.parquet"
    write_parquet(file, {"question": [question], "answer": ["a"]})
    builder = Parquet(dataset_name="some-data", hash=commit, config_id="default", data_files={"train": [str(file)]})
    builder.download_and_prepare(str(Path(config.HF_DATASETS_CACHE) / "lab___some-data" / "default" / "0.0.0" / commit))


def test_an_id_has_an_owner():
    """`json` would be the library's own reader, over whatever lies in this folder."""
    with pytest.raises(ValueError, match="'json' is no id of a data set; write owner/name"):
        open_rows(Data(hub="json", revision=COMMIT), "train")


def test_a_revision_is_a_commit():
    with pytest.raises(ValueError, match="full id of a commit"):
        Data(hub="lab/Some-Data", revision="main")
