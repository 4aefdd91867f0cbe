"""The streams that come with cpt, each task on files in its published form: what is asked, and what answers are worth.

A new task is a row of `stream_cases`. What is known of the real files and what is not stands in the tasks' `about`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
from stream_cases import (
    CASES,
    CATS,
    DAKOTA,
    DOGS,
    OCR,
    STATES,
    UNSEEN,
    VAL,
    WORD,
    WORDINGS,
    Case,
    ability,
    coin,
    ctbench,
    domain,
)
from stream_files import RED, Content, coco, evaluated, llava, sharegpt, write

import cpt.tasks.registry
from cpt.recipe.task_files import read_task_file, shipped_task_files
from cpt.tasks import declare, get_task, open_task
from cpt.tasks.chat import checked_prompt
from cpt.tasks.definition import TaskDefinition
from cpt.types import Sample, Split

FILES = {name: file for name, file in shipped_task_files().items() if name.startswith("streams/")}
TABLE = [(file, name) for file, cases in CASES.items() for name in cases]


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What `datasets` writes of parquet files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(autouse=True)
def undeclared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test declares is unknown to others."""
    monkeypatch.setattr(cpt.tasks.registry, "_declared", {})


@functools.cache
def definitions(file: str, root: Path) -> dict[str, TaskDefinition]:
    return {one.name: one for one in read_task_file(FILES[file], str(root))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a stream, with the files of all its tasks."""

    @functools.cache
    def folder(file: str) -> Path:
        root = tmp_path_factory.mktemp("stream")
        for case in CASES[file].values():
            write(root, case.content)
        return root

    return folder


def opened(file: str, name: str, root: Path, content: Content | None = None) -> Any:
    """The task on the files in a folder, after they are written there."""
    write(root, content or {})
    declare([definitions(file, root)[name]])
    return open_task(name)


def first(task: Any, split: Split = "test") -> Sample:
    (sample,) = task.samples(split, 1)
    return sample


def said(sample: Sample, case: Case) -> str:
    return case.gold or sample.gold[0]


def text_of(chat: Sequence[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for turn in chat for block in turn["content"] if block["type"] == "text")


def completed(task: Any, answer: str, prompt: str) -> str:
    """An answer in the format that the prompt asks for."""
    completion: str = task.format.answered(answer, prompt, "I see it." if prompt == "think" else "")
    return completion


# ---- all tasks


def test_every_task_of_every_file_is_here(tmp_path: Path):
    assert {file: list(definitions(file, tmp_path)) for file in FILES} == {
        file: [*cases] if file != UNSEEN else list(definitions(file, tmp_path)) for file, cases in CASES.items()
    }
    assert set(definitions(UNSEEN, tmp_path)) == set(CASES[UNSEEN])
    names = [name for cases in CASES.values() for name in cases]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("file", "name"), TABLE, ids=[name for _, name in TABLE])
def test_what_is_asked_and_what_answers_are_worth(file: str, name: str, whole: Callable[[str], Path]):
    case = CASES[file][name]
    task = opened(file, name, whole(file))
    assert get_task(name) is task
    assert task.role == ("stage" if "train" in case.splits else "general")
    for split in case.splits:
        sample = first(task, split)
        assert len(sample.images) == case.pictures == len(list(sample.images))
        for prompt, words in (("direct", case.asks), ("think", [case.thinks])):
            chat = checked_prompt(task, sample, prompt)
            blocks = [block for turn in chat for block in turn["content"]]
            assert [block["type"] for block in blocks].count("image") == case.pictures
            for one in words:
                assert one in text_of(chat)
            assert "<image>" not in text_of(chat)
    sample = first(task)
    for prompt in ("direct", "think"):
        score = task.score(sample, completed(task, said(sample, case), prompt), prompt)
        assert score.parts["format"] == 1.0
        if case.full is None:
            assert 0 < score.value <= 1
        else:
            assert (score.parts["strict"], score.parts["tolerant"]) == pytest.approx((case.full, case.full))
        wrong = task.score(sample, completed(task, case.wrong, prompt), prompt)
        assert wrong.value <= case.at_most < score.value and not wrong.failed
        if case.partial is not None:
            answer, worth = case.partial
            assert task.score(sample, completed(task, answer, prompt), prompt).value == pytest.approx(worth, abs=0.01)
    thought = task.target(sample, "think", "think")
    assert thought.startswith("<think>") and task.score(sample, thought, "think").parts["format"] == 1.0


ABOUT = re.compile(r"Source: (.+?) Asks: (.+?) Licence: (.+?) Rows: (.+?) Unverified: (.+)")


@pytest.mark.parametrize("file", FILES)
def test_every_task_says_where_it_is_from_and_what_nobody_has_checked(file: str, tmp_path: Path):
    for one in definitions(file, tmp_path).values():
        assert ABOUT.fullmatch(one.about), one.name
        assert one.metric and one.max_tokens
    header = FILES[file].read_text(encoding="utf-8").partition("\ndefaults:")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert re.search("Where the files are: |in the form\n# that EasyR1|see there for the files", header)


# ---- what the released data are known to get wrong


def test_a_problem_that_holds_its_solution_is_refused(tmp_path: Path):
    """The released reinforcement learning of MLLM-CTBench asks text-only questions with their solution."""
    content = ctbench("fomc", "The stance of: rates may rise?", "hawkish", picture=False)
    leaked = [{**row, "problem": row["problem"] + " " + row["solution"]} for row in content["reasoning_test/fomc.json"]]
    task = opened("streams/mllm-ctbench", "ctbench-fomc", tmp_path, {**content, "reasoning_test/fomc.json": leaked})
    sample = first(task)
    for prompt in ("direct", "think"):
        with pytest.raises(ValueError, match=r"ctbench-fomc/test/.* holds its solution"):
            checked_prompt(task, sample, prompt)
    assert checked_prompt(task, first(task, "train"), "direct")


def test_a_solution_is_reasoning_and_answer(whole: Callable[[str], Path]):
    sample = first(opened("streams/mllm-ctbench", "ctbench-art", whole("streams/mllm-ctbench")))
    assert sample.gold == ("It was painted by Vermeer.",)
    assert sample.reasoning == "Let me look at it."
    task = get_task("ctbench-art")
    assert task.target(sample, "think", "think") == (
        "<think> Let me look at it. </think> <answer> It was painted by Vermeer. </answer>"
    )
    assert task.target(sample, "dataset", "direct") == "It was painted by Vermeer."


def test_a_sentence_as_gold_is_right_in_its_own_words_alone(whole: Callable[[str], Path]):
    """Super-CLEVR, as published."""
    task = opened("streams/rft-vs-sft", "rft-super-clevr", whole("streams/rft-vs-sft"))
    sample = first(task)
    assert sample.gold == ("The bicycle is blue and brown",)
    worth = {answer: task.score(sample, answer, "direct").value for answer in (sample.gold[0], "blue and brown")}
    assert worth == {"The bicycle is blue and brown": 1.0, "blue and brown": 0.0}


def test_boxes_and_pictures_are_on_the_same_square(whole: Callable[[str], Path]):
    task = opened("streams/coin", "coin-grounding", whole("streams/coin"))
    assert (task.size("train"), task.size("test")) == (1, 1)
    for split in ("train", "test"):
        (picture,) = first(task, split).images
        assert picture.size == (8, 8)
        # The stored picture of 8 × 4 fills the middle rows, a quarter of the height from the top.
        assert [picture.getpixel((4, y)) == RED for y in range(8)] == [
            False,
            False,
            True,
            True,
            True,
            True,
            False,
            False,
        ]
    assert first(task, "train").gold == first(task, "test").gold == ("[0.0, 0.25, 0.5, 0.75]",)
    assert (
        task.score(first(task), "[0.0, 0.0, 0.5, 1.0]", "direct").parts["strict"] == 1.0
    )  # overlap 0.5: see the metric
    assert task.score(first(task), "[0.0, 0.0, 0.5, 0.4]", "direct").value == 0.0


def test_a_damaged_picture_that_is_to_be_padded_is_named(tmp_path: Path):
    content = CASES["streams/coin"]["coin-grounding"].content
    task = opened("streams/coin", "coin-grounding", tmp_path, content)
    sample = first(task)
    file = tmp_path / "cl_dataset/COCO2014/train2014/1.png"
    file.write_bytes(file.read_bytes()[:40])
    for look in (lambda: sample.images[0], sample.images.sizes):
        with pytest.raises(ValueError, match=r"^sample coin-grounding/test/.*test\.json.*can't read.*1\.png"):
            look()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("coin-asd-scienceqa", CASES["streams/coin-asd"]["coin-asd-scienceqa"].content),
        ("coin-asd-grounding", CASES["streams/coin-asd"]["coin-asd-grounding"].content),
    ],
)
def test_answers_in_other_styles_are_imitated_whatever_the_metric_can_grade(
    name: str, content: Content, tmp_path: Path
):
    told = "West Virginia lies farther north, so the answer is option A."
    train = next(file for file in content if file.endswith("train_x20.json"))
    (row,) = content[train]
    (made,) = llava("x", (row["image"], "Explain it in detail.", told))
    task = opened("streams/coin-asd", name, tmp_path, {**content, train: [made]})
    assert task.target(first(task, "train"), "dataset", "direct") == told


def test_questions_without_a_picture_are_no_rows_of_rft_vs_sft_and_rows_of_coin(tmp_path: Path):
    rows = sharegpt(("p.png", f"<image>\n{STATES}", "A"), ("", STATES, "B"))
    content = {"ScienceQA_train.json": rows, "ScienceQA_test.json": rows, "p.png": (8, 8)}
    task = opened("streams/rft-vs-sft", "rft-scienceqa", tmp_path / "rft", content)
    assert (task.size("train"), task.size("test")) == (1, 1)
    folder = "Instruction_Original/ScienceQA"
    content = {
        f"{folder}/train.json": llava("s", ("a/1.png", STATES, "A"), ("", STATES, "B")),
        f"{folder}/test.json": evaluated(("a/1.png", STATES, "A"), ("", STATES, "B")),
        "cl_dataset/a/1.png": (8, 8),
    }
    task = opened("streams/coin", "coin-scienceqa", tmp_path / "coin", content)
    assert (task.size("train"), task.size("test")) == (2, 2)
    assert {(len(sample.images), sample.gold) for sample in task.samples("test", 2)} == {(1, ("A",)), (0, ("B",))}


def test_a_question_that_names_its_answer_among_others_is_no_leak(tmp_path: Path):
    question = f"Is it light red or dark blue?\n{WORD}"
    task = opened("streams/coin", "coin-gqa", tmp_path, coin("GQA", question, "dark blue"))
    assert checked_prompt(task, first(task), "direct")


def test_ten_answers_come_from_the_annotators_file(whole: Callable[[str], Path]):
    task = opened("streams/coin", "coin-textvqa", whole("streams/coin"))
    assert first(task).gold == tuple(DAKOTA)
    assert first(task, "train").gold == ("dakota",)
    assert task.score(first(task), "dakota", "direct").value == 1.0


def test_captions_go_with_the_number_of_their_row_and_know_all_references(whole: Callable[[str], Path]):
    task = opened("streams/ucit", "ucit-vizwiz-caption", whole("streams/ucit"))
    of_dogs, of_cats = sorted(task.samples("test", 2), key=lambda sample: sample.id)
    assert (of_dogs.gold, of_cats.gold) == (DOGS, CATS)
    assert task.score(of_dogs, DOGS[0], "direct").value > 0.3 > task.score(of_dogs, CATS[0], "direct").value
    assert task.score(of_cats, CATS[0], "direct").value > 0.3


def test_what_a_caption_is_worth_changes_with_the_captions_of_other_rows(tmp_path: Path):
    def known(dogs: Sequence[str], cats: Sequence[str], folder: str) -> tuple[tuple[str, ...], str]:
        files = CASES["streams/ucit"]["ucit-vizwiz-caption"].content
        references = {"instructions/VizWiz/val_coco_type_3000.json": coco([dogs, cats])}
        task = opened("streams/ucit", "ucit-vizwiz-caption", tmp_path / folder, {**files, **references})
        return first(task).gold, task.fingerprint("test", 1, 0)

    gold, digest = known(DOGS, CATS, "a")
    assert known(DOGS, CATS, "b") == (gold, digest)
    dogs, cats = (DOGS, [*CATS, "one grey animal"]) if gold == DOGS else ([*DOGS, "one grey animal"], CATS)
    others, changed = known(dogs, cats, "c")
    assert others == gold and changed != digest


def test_the_words_added_to_finance_questions_are_the_same_for_all(tmp_path: Path):
    """The released script adds other words where the answer is Yes or No."""
    task = opened("streams/mllm-cl-domain", "mllm-cl-fin", tmp_path, domain("Fin", "Up?", "Yes"))
    yes = text_of(task.messages(first(task), "direct"))
    other = opened("streams/mllm-cl-domain", "mllm-cl-fin", tmp_path / "other", domain("Fin", "Up?", "B"))
    assert text_of(other.messages(first(other), "direct")) == yes


def test_questions_for_states_earn_their_share_and_others_containment(tmp_path: Path):
    task = opened("streams/mllm-cl-domain", "mllm-cl-sci", tmp_path, domain("Sci", "What is the highest?", "Iowa"))
    assert task.score(first(task), "iowa of course", "direct").value == 1.0


def test_abilities_are_trained_and_tested_on_different_pictures(tmp_path: Path):
    content = ability("OCR", "what is written?", "OPEN")
    task = opened("streams/mllm-cl-ability", "mllm-cl-ocr", tmp_path, {**content, "OCR_test/a/1.png": (16, 8)})
    assert [first(task, split).images[0].size for split in ("train", "test")] == [(8, 8), (16, 8)]
    assert not any("app" in name.split("-") for name in definitions("streams/mllm-cl-ability", tmp_path))


@pytest.mark.parametrize("task", WORDINGS)
def test_instructions_in_other_words_replace_the_streams_own(task: str, whole: Callable[[str], Path]):
    numbers, own = WORDINGS[task]
    asked = []
    for number in numbers:
        name = f"cvit-{task}-words-{number}"
        found = opened(UNSEEN, name, whole(UNSEEN))
        asked.append(text_of(found.messages(first(found), "direct")))
        assert own not in asked[-1]
    assert len(set(asked)) == len(numbers) >= 4
    if task == "gqa":
        assert asked[0] == "Is it red?\nAnswer the question with a single word or a brief, descriptive phrase."


# ---- what is wrong with files is said


def test_a_file_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"Instruction_Original/GQA/train\.json"):
        opened("streams/coin", "coin-gqa", tmp_path, {})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], r"TextVQA_0\.5\.1_val\.json: there is no key 'data' \(data\.answers_from\.list\)"),
        ({"data": [{"question_id": 0}]}, r"number 1: there is no key 'answers' \(data\.answers_from\)"),
        ({"data": {"0": []}}, "no list; name its key under data.answers_from.list"),
        ({"data": [{"question_id": 7, "answers": ["dakota"]}]}, "it has no answer"),
    ],
    ids=["no list", "no answers", "an object", "another question"],
)
def test_a_file_of_answers_that_does_not_fit_is_named(content: Any, said: str, tmp_path: Path):
    files = coin("TextVQA", OCR, "dakota", "val", more={f"cl_dataset/{VAL}": content})
    with pytest.raises(ValueError, match=said):
        opened("streams/coin", "coin-textvqa", tmp_path, files)


def test_a_column_of_answers_that_is_not_there_is_named(tmp_path: Path):
    content = dict(CASES["streams/coin"]["coin-textvqa"].content)
    rows = [
        {k: v for k, v in row.items() if k != "question_id"} for row in content["Instruction_Original/TextVQA/val.json"]
    ]
    with pytest.raises(ValueError, match=r"answers_from\.row: there is no column 'question_id'"):
        opened("streams/coin", "coin-textvqa", tmp_path, {**content, "Instruction_Original/TextVQA/val.json": rows})
