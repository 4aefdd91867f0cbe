"""Tasks over data of one's own: from YAML and files to samples, prompts and scores; and what is wrong with either."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from cpt.common.stored_pictures import StoredPictures
from cpt.plan.make import make_plan
from cpt.recipe import RecipeError, load_recipe
from cpt.recipe.task_files import read_task_file
from cpt.tasks import declare, get_task, open_task
from cpt.tasks.chat import checked_prompt
from cpt.tasks.data_task import DataTask
from cpt.tasks.definition import TaskDefinition
from cpt.tasks.limits import completion_limits
from cpt.tasks.registry import data_fingerprint
from cpt.tasks.row import reward_row


@pytest.fixture(autouse=True)
def _own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is gone after it."""
    import cpt.tasks.registry as registry

    monkeypatch.setattr(registry, "_declared", {})


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / f"{number}.png")


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def task(**said: Any) -> DataTask:
    """The task of a definition named `own`."""
    declare([TaskDefinition.model_validate({"name": "own", **said})])
    found = open_task("own")
    assert isinstance(found, DataTask)
    return found


def scans(folder: Path, count: int = 40) -> dict[str, Any]:
    """A CSV beside a folder of pictures, as data of a definition."""
    pictures(folder / "scans", count)
    lines = [f"What is the total?,{number}.50 EUR,{number}.png" for number in range(count)]
    (folder / "invoices.csv").write_text("what,total,file\n" + "\n".join(lines) + "\n")
    columns = {"question": "what", "answer": "total", "images": "file"}
    return {"path": "invoices.csv", "root": str(folder), "images": "scans", "columns": columns}


# ---- samples


def test_a_folder_of_pictures_and_a_csv_are_a_task(tmp_path: Path) -> None:
    own = task(data=scans(tmp_path))
    assert own.size("train") + own.size("test") == 40 and own.size("test") >= 1
    assert "cut off by hash" in own.index.summary()
    first = own.samples("train", 5)
    assert [s.id for s in own.samples("train", 3)] == [s.id for s in first[:3]]
    assert [s.id for s in own.samples("train", 5, seed=1)] != [s.id for s in first]
    sample = first[0]
    assert isinstance(sample.images, StoredPictures) and sample.images.sizes() == ((40, 30),)
    number = int(sample.gold[0].split(".")[0])
    assert sample.images[0].getpixel((0, 0)) == (number, 0, 0)
    assert sample.id == f"own/train/{number + 1}" and sample.meta["where"] == f"invoices.csv, line {number + 2}"
    assert checked_prompt(own, sample, "direct")[0]["content"] == [
        {"type": "image"},
        {"type": "text", "text": "What is the total?\nAnswer the question using a single word or phrase."},
    ]


def test_rows_with_one_picture_are_in_one_split(tmp_path: Path) -> None:
    pictures(tmp_path, 20)
    rows = [{"question": f"{ask} {n}?", "answer": "x", "image": f"{n}.png"} for n in range(20) for ask in ("A", "B")]
    own = task(data={"path": str(jsonl(tmp_path / "rows.jsonl", rows)), "test_share": 0.4})
    shown = {
        split: {s.images.stored[0].name for s in own.samples(split, own.size(split))}  # type: ignore[attr-defined]
        for split in ("train", "test")
    }
    assert shown["train"] and shown["test"] and not shown["train"] & shown["test"]


def test_choices_are_lettered_and_stay_in_their_order(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}?", "choices": ["left", "right", "up"], "answer": 1, "id": f"r{n}"} for n in range(30)]
    path = str(jsonl(tmp_path / "rows.jsonl", rows))
    own = task(data=path)
    sample = own.samples("train", 1)[0]
    assert own.metric == "choice" and sample.gold == ("B",)
    (block,) = checked_prompt(own, sample, "direct")[0]["content"]
    assert "\nA. left\nB. right\nC. up\n" in block["text"]
    assert [own.score(sample, said, "direct").value for said in ("B", "right", "A", "B. right")] == [1, 1, 0, 1]
    moved = task(data=path, shuffle_options=True)
    orders = {tuple(s.meta["choices"]) for s in moved.samples("train", 20)}
    assert len(orders) > 1
    for sample in moved.samples("train", 20):
        assert sample.meta["choices"][ord(sample.gold[0]) - ord("A")] == "right"


def test_ten_answers_are_scored_by_consensus_and_the_commonest_is_imitated(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}?", "answers": ["a cat"] + ["dog"] * 2 + ["cat"] * 7} for n in range(30)]
    own = task(data=str(jsonl(tmp_path / "rows.jsonl", rows)))
    sample = own.samples("train", 1)[0]
    assert own.metric == "vqa" and len(sample.gold) == 10
    assert own.target(sample, "dataset", "direct") == "cat"
    # Leaving one annotator out each time, "dog" agrees with 2 of 8 left, or 1 of 2: (8 · 2/3 + 2 · 1/3) / 10.
    assert own.score(sample, "dog", "direct").value == pytest.approx((8 * 2 / 3 + 2 / 3) / 10)
    assert own.score(sample, "cat", "direct").value == 1


@pytest.mark.parametrize(
    ("words", "prompt", "said", "reward"),
    [
        ({}, "direct", "red", 1.0),
        ({}, "direct", "blue", 0.0),
        ({}, "think", "<think> hm </think> <answer> red </answer>", 1.0),
        ({}, "think", "<think> hm </think> <answer> blue </answer>", 0.1),
        ({}, "think", "red", 0.0),
        ({"answer_in": "boxed"}, "think", "<think> hm </think> \\boxed{red}", 1.0),
        ({"answer_in": "boxed"}, "direct", "\\boxed{red}", 1.0),
        ({"answer_in": "tags"}, "direct", "<answer> red </answer>", 1.0),
        ({"answer_in": {"think": "plain"}}, "think", "<think> hm </think> red", 1.0),
    ],
)
def test_answers_are_read_where_the_words_say(
    tmp_path: Path, words: dict[str, Any], prompt: Any, said: str, reward: float
) -> None:
    rows = [{"question": f"q{n}?", "answer": "red"} for n in range(20)]
    own = task(data=str(jsonl(tmp_path / "rows.jsonl", rows)), prompt=words)
    sample = own.samples("train", 1)[0]
    assert own.reward(sample, said, prompt).value == pytest.approx(reward)
    target = own.target(sample, "policy", prompt)
    assert own.reward(sample, target, prompt).value == pytest.approx(1.0)
    assert own.score(sample, target, prompt).parts == {"strict": 1, "tolerant": 1, "format": 1}
    assert reward_row(sample, prompt)["template"] == own.format.templates()[prompt]


def test_pictures_stand_where_the_question_marks_them(tmp_path: Path) -> None:
    pictures(tmp_path, 40)
    row = {"question": "Is <image 2> brighter than <image 1>? See <image 2>.", "answer": "yes"}
    rows = [{**row, "images": [f"{2 * n}.png", f"{2 * n + 1}.png"]} for n in range(20)]
    own = task(data={"path": str(jsonl(tmp_path / "rows.jsonl", rows)), "test_share": 0.5})
    sample = own.samples("train", 1)[0]
    second, first = (picture.getpixel((0, 0))[0] for picture in sample.images)
    assert second == first + 1
    kinds = [block.get("text", "*") for block in own.messages(sample, "direct")[0]["content"]]
    assert kinds[:5] == ["Is", "*", "brighter than", "*", kinds[4]] and kinds[4].startswith("? See image 2.")


@pytest.mark.parametrize(
    ("words", "direct", "think"),
    [
        (
            {},
            "q?\nAnswer the question using a single word or phrase.",
            "q?\nFirst think about it inside <think> </think>, then give the answer inside <answer> </answer>.",
        ),
        (
            {"answer_in": "boxed"},
            "q?\nGive the answer in \\boxed{}.",
            "q?\nFirst think about it inside <think> </think>, then give the answer in \\boxed{}.",
        ),
        (
            {"direct": "Name it.", "answer_in": {"direct": "tags", "think": "plain"}},
            "Name it.",
            "Name it.\nFirst think about it inside <think> </think>, then give the answer.",
        ),
    ],
)
def test_words_that_are_left_out_fit_those_that_are_there(
    tmp_path: Path, words: dict[str, Any], direct: str, think: str
) -> None:
    rows = [{"question": f"q{n}?", "answer": "x"} for n in range(40)]
    own = task(data=str(jsonl(tmp_path / "rows.jsonl", rows)), prompt=words)
    sample = own.samples("train", 1)[0]
    said = [own.messages(sample, style)[0]["content"][-1]["text"] for style in ("direct", "think")]
    assert [text.replace(sample.question, "q?") for text in said] == [direct, think]


def test_filter_and_leave_out_choose_rows(tmp_path: Path) -> None:
    pictures(tmp_path, 10)
    rows = [
        {
            "question": f"q{n}?",
            "answer": "x",
            "kind": "odd" if n % 2 else "even",
            "image": f"{n}.png" if n < 10 else None,
        }
        for n in range(20)
    ]
    path = str(jsonl(tmp_path / "rows.jsonl", rows))

    def numbers(own: DataTask) -> set[int]:
        return {int(s.id.rsplit("/", 1)[1]) for split in ("train", "test") for s in own.samples(split, own.size(split))}

    half = {"path": path, "test_share": 0.5}
    assert numbers(task(data=half, filter={"kind": "odd"})) == set(range(2, 21, 2))
    assert numbers(task(data=half, filter={"images": False})) == set(range(11, 21))
    assert numbers(task(data={**half, "leave_out": ["rows.jsonl, line 1"]}, filter={"kind": ["odd", "even"]})) == set(
        range(2, 21)
    )


def test_parts_of_a_mix_are_one_task(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", [{"question": f"a{n}?", "answer": "x"} for n in range(20)])
    second = jsonl(tmp_path / "b.jsonl", [{"problem": f"b{n}?", "answer": "y"} for n in range(20)])
    own = task(data={"mix": [{"path": str(first)}, {"path": str(second)}]})
    samples = own.samples("train", own.size("train"))
    assert {s.gold[0] for s in samples} == {"x", "y"} and len({s.id for s in samples}) == len(samples)
    assert {s.id.split("/")[2].split(".")[0] for s in samples} == {"1", "2"}


def test_limits_are_the_task_s_own(tmp_path: Path) -> None:
    path = str(jsonl(tmp_path / "rows.jsonl", [{"question": f"q{n}?", "answer": "x"} for n in range(20)]))
    task(data=path, max_tokens={"direct": 7})
    assert completion_limits(["own"]) == {"direct": 7, "think": 1024}
    assert completion_limits(["own", "count-colour"]) == {"direct": 8, "think": 1024}


# ---- identity


def test_the_fingerprint_is_of_what_is_asked_and_not_of_where_it_lies(tmp_path: Path) -> None:
    def mark(folder: Path, **said: Any) -> str:
        task(data=scans(folder), **said)
        return data_fingerprint("own", "train", 10, 0)

    here = mark(tmp_path / "here")
    assert mark(tmp_path / "there") == here
    assert mark(tmp_path / "here", about="other words") == here
    assert mark(tmp_path / "here", max_tokens=5) != here
    assert mark(tmp_path / "here", prompt={"direct": "{question}!"}) != here
    Image.new("RGB", (40, 30), "white").save(tmp_path / "there" / "scans" / "0.png")
    changed = TaskDefinition.model_validate({"name": "own", "data": scans(tmp_path / "else")})
    for number in range(40):
        Image.new("RGB", (40, 30), "white").save(tmp_path / "else" / "scans" / f"{number}.png")
    declare([changed])
    assert data_fingerprint("own", "train", 10, 0) != here


# ---- recipes and task files


ARMS = {"sft": {"method": {"type": "sft", "max_steps": 1, "per_device_train_batch_size": 4}}}


def recipe(folder: Path, tasks: list[Any], **more: Any) -> Path:
    content = {"version": 1, "name": "own", "model": "builtin/tiny-qwen2_5-vl", "tasks": tasks, "arms": ARMS, **more}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_a_recipe_defines_a_task_or_takes_it_from_a_file(tmp_path: Path) -> None:
    data = scans(tmp_path / "data")
    del data["root"]
    (tmp_path / "data" / "tasks.yaml").write_text(
        yaml.safe_dump(
            {
                "defaults": {"max_tokens": 9, "prompt": {"direct": "{question} Be brief."}},
                "tasks": [{"name": "bills", "data": data}, {"name": "slips", "data": data, "max_tokens": 5}],
            }
        )
    )
    inline = {"name": "inline", "data": {**data, "path": "data/invoices.csv", "images": "data/scans"}}
    path = recipe(tmp_path, [inline, {"file": "data/tasks.yaml", "only": ["slips"], "samples": 8}, "which-row"])
    loaded = load_recipe(path)
    assert loaded.task_names == ["inline", "slips", "which-row"]
    assert loaded.tasks[1].samples == 8 and loaded.tasks[1].max_tokens == {"direct": 5, "think": 5}
    plan = make_plan(loaded)
    sizes = [stage.data_samples for stage in plan.stages]
    assert sizes == [get_task("inline").size("train"), 8, 2048]  # type: ignore[attr-defined]
    assert plan.stages[0].evaluation.limits == {"inline": 64, "slips": 5, "which-row": 8}
    # What the recipe resolves to says all there is, and reads back to the same.
    (tmp_path / "resolved.yaml").write_text(loaded.dump_yaml())
    again = load_recipe(tmp_path / "resolved.yaml")
    assert again == loaded and again.resolved_hash() == loaded.resolved_hash()
    assert [stage.key for stage in make_plan(again).stages] == [stage.key for stage in plan.stages]


def test_a_run_may_find_its_data_elsewhere(tmp_path: Path) -> None:
    def loaded(name: str) -> Any:
        data = scans(tmp_path / name / "data")
        del data["root"]
        (tmp_path / name / "tasks.yaml").write_text(yaml.safe_dump({"name": "bills", "data": {**data, "root": "data"}}))
        return load_recipe(recipe(tmp_path / name, [{"file": "tasks.yaml"}]))

    here, there = loaded("here"), loaded("there")
    assert here.resolved_hash() == there.resolved_hash()
    assert [s.key for s in make_plan(here).stages] == [s.key for s in make_plan(there).stages]


def test_what_names_only_has_nothing_of_a_definition(tmp_path: Path) -> None:
    path = recipe(tmp_path, [{"name": "which-row", "metric": "choice"}])
    with pytest.raises(RecipeError, match=r"tasks\.0.*metric belongs to a task's definition, which needs data"):
        load_recipe(path)


# ---- bad input, in one line


def problem_of(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    (line,) = str(caught.value).splitlines()
    return line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "gone.csv"}, "gone.csv"),
        ({"columns": {"question": "what", "answer": "totl", "images": "file"}}, "did you mean 'total'?"),
        ({"images": "elsewhere"}, "there is no picture"),
        ({"hub": "org/name", "path": None}, "needs a revision"),
        ({"path": None}, "set one of path"),
        ({"train": "nowhere.csv"}, "nowhere.csv"),
    ],
)
def test_data_that_can_t_be_used_are_told_in_a_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    data = {key: value for key, value in (scans(tmp_path) | change).items() if value is not None}
    told = problem_of(recipe(tmp_path, [{"name": "bills", "data": data}]))
    assert message in told and told.startswith(f"{tmp_path}/recipe.yaml:") and "tasks.0" in told


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"metric": "exakt"}, "did you mean 'exact'?"),
        ({"metric": "choice"}, "needs choices: name their column under data.columns.choices"),
        ({"metric": "number", "metric_options": {"relativ": 0.1}}, "did you mean 'relative'?"),
        ({"prompt": {"direct": "{question} {total}"}}, "{total} would put the answer into the prompt"),
        ({"prompt": {"direct": "{question} {nothing}"}}, "there is no column 'nothing'"),
        ({"prompt": {"direct": "{question"}}, "a brace that is meant is written twice"),
        ({"filter": {"colour": "red"}}, "filter: there is no column 'colour'"),
        ({"name": "which-row"}, "a built-in task is called 'which-row'"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"promt": {}}, "promt"),
        ({"answered_by": "likelihood"}, "is answered by likelihood, and nothing can be imitated or rewarded"),
    ],
)
def test_a_definition_that_does_not_fit_its_rows_is_told_in_a_line(
    tmp_path: Path, said: dict[str, Any], message: str
) -> None:
    told = problem_of(recipe(tmp_path, [{"name": "bills", "data": scans(tmp_path), **said}]))
    assert message in told and "tasks.0" in told


def test_too_many_unusable_rows_stop_and_few_are_left_out(tmp_path: Path) -> None:
    rows = [{"question": f"q{n}?", "answer": "x"} for n in range(98)] + [{"question": "q?", "answer": ""}] * 2
    path = str(jsonl(tmp_path / "rows.jsonl", rows))
    with pytest.raises(
        ValueError, match=r"2 of \d+ rows can't be used, more than data.drop_at_most \(0.01\): .*line 99"
    ):
        task(data=path)
    own = task(data={"path": path, "drop_at_most": 0.1})
    assert own.size("train") + own.size("test") == 98 and "2 rows left out" in own.index.summary()


def test_pictures_that_nothing_reads_and_rows_that_are_not_there_are_told(tmp_path: Path) -> None:
    pictures(tmp_path, 40)
    rows = [{"question": f"q{n}?", "answer": "x", "foto": f"{n}.png"} for n in range(40)]
    path = str(jsonl(tmp_path / "rows.jsonl", rows))
    with pytest.raises(ValueError, match=r"line 1: the column 'foto' has pictures and is not read: write data.columns"):
        task(data=path)
    assert task(data=path, filter={"images": False}).samples("train", 1)[0].images == ()
    own = task(data={"path": path, "columns": {"images": "foto"}})
    assert len(own.samples("train", 1)[0].images) == 1
    with pytest.raises(
        ValueError, match=r"data.leave_out: no row is 'rows.jsonl, line 41'; write .* 'rows.jsonl, line 1'"
    ):
        task(data={"path": path, "columns": {"images": "foto"}, "leave_out": ["rows.jsonl, line 41"]})


def test_files_of_tasks_and_their_names_are_checked(tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text("tasks:\n  - name: a\n    data: {path: x.csv}\n    metrik: exact\n")
    with pytest.raises(RecipeError, match=r"tasks.yaml:4: .*metrik"):
        read_task_file(tmp_path / "tasks.yaml")
    told = problem_of(recipe(tmp_path, [{"file": "taks.yaml"}]))
    assert "tasks.0.file: there is no task file" in told
    (tmp_path / "tasks.yaml").write_text("tasks:\n  - name: a\n    data: {path: x.csv}\n")
    assert "has no task 'b'" in problem_of(recipe(tmp_path, [{"file": "tasks.yaml", "only": "b"}]))


# ---- pictures as a person sees them


def stored(content: bytes) -> StoredPictures:
    from cpt.common.stored_pictures import StoredPicture

    class Held(StoredPicture):
        name = "held"

        def read(self) -> bytes:
            return content

    return StoredPictures([Held()], "sample s")


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return file.getvalue()


def test_a_turned_picture_is_seen_upright_and_sized_so() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures = stored(encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif))
    assert pictures.sizes() == ((20, 40),) and pictures[0].size == (20, 40)


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGBA", "CMYK", "1"])
def test_pictures_of_any_mode_are_rgb(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    pictures = stored(encoded(Image.new(mode, (20, 10)), kind))
    assert pictures[0].mode == "RGB" and pictures.sizes() == ((20, 10),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no picture", "can't read held"),
        (encoded(Image.new("RGB", (40, 30), "red"), "PNG")[:-30], "can't read held"),
        (encoded(Image.new("RGB", (40, 30), "red"), "JPEG")[:-30], "can't read held \\(it is cut off\\)"),
        (encoded(Image.new("RGB", (1, 1), "red"), "PNG"), "1 × 1 pixels, with a side below 4"),
    ],
)
def test_a_picture_that_can_t_be_used_is_found_without_decoding(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"sample s: the picture.* {message}"):
        stored(content).sizes()
