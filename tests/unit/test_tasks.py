"""The built-in benchmark: determinism, disjoint splits, gold answers that hold, prompts that give nothing away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cpt.tasks.registry
from cpt.cli.build_model import Cell, write_card
from cpt.tasks import get_task, task_names
from cpt.tasks.world import builtin
from cpt.tasks.world.digits import scan_numbers
from cpt.tasks.world.scene import ROWS, Thing, describe, key, render
from cpt.tasks.world.tiny import vocabulary
from cpt.types import Sample, Task

ALL = builtin.tasks()
SPLITS = ("base", "train", "test")


def picture(sample: Sample) -> bytes:
    return b"".join(image.tobytes() for image in sample.images)


def test_there_are_eight_stage_tasks_and_four_general_ones():
    assert len(task_names("stage")) >= 8
    assert len(task_names("general")) >= 4
    assert set(task_names("stage")) | set(task_names("general")) == set(task_names())


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'which-row'"):
        get_task("wich-row")


@pytest.fixture
def own_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task over other data is entered, too: it has neither a `base` split nor what `BuiltinTask` adds."""

    class Own:
        name, role = "own", "stage"

        def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
            raise ValueError("no sample")

    known = {**cpt.tasks.registry._registry(), "own": Own()}
    monkeypatch.setattr(cpt.tasks.registry, "_registry", lambda: known)


def test_the_vocabulary_is_the_shipped_one_whatever_else_is_entered(own_task: None):
    assert "own" in task_names()
    shipped = builtin.MODELS["builtin/tiny-qwen2_5-vl"] / "tokenizer.json"
    assert {word: i for i, word in enumerate(vocabulary())} == json.loads(shipped.read_text())["model"]["vocab"]


def test_the_card_is_of_the_built_in_tasks_whatever_else_is_entered(own_task: None, tmp_path: Path):
    scores = {(task.name, prompt): Cell(0.5, 0.5, None, 1.0) for task in ALL for prompt in ("direct", "think")}
    write_card(tmp_path, scores, samples=8, minutes=1, seed=0)
    card = (tmp_path / "README.md").read_text()
    assert all(f"| {task.name} | {task.role} | 0.500 |" in card for task in ALL)
    assert "| own |" not in card


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_the_same_arguments_give_the_same_samples(task: Task):
    first, again, longer = (task.samples("train", n, seed=3) for n in (5, 5, 8))
    assert [(s.id, s.question, s.gold, picture(s)) for s in first] == [
        (s.id, s.question, s.gold, picture(s)) for s in again
    ]
    assert [s.question for s in longer[:5]] == [s.question for s in first]


@pytest.mark.parametrize("task", [t for t in ALL if t.family == "shapes"], ids=lambda t: t.name)
def test_no_scene_is_in_two_splits(task: Task):
    seen = {split: {picture(s) for s in task.samples(split, 200)} for split in SPLITS}
    assert not seen["base"] & seen["train"]
    assert not seen["base"] & seen["test"]
    assert not seen["train"] & seen["test"]


def test_no_handwriting_is_in_two_splits():
    owned = [set(scan_numbers(split)) for split in SPLITS]
    assert sum(map(len, owned)) == len(set.union(*owned)) == 1797


def test_no_text_question_is_in_two_splits():
    contents = [{s.question for s in get_task("arithmetic").samples(split, 300)} for split in SPLITS]
    assert not contents[0] & contents[1]
    assert not contents[0] & contents[2]
    assert not contents[1] & contents[2]


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_a_target_in_the_asked_format_scores_fully(task: Task):
    for sample in task.samples("test", 20):
        for prompt in ("direct", "think"):
            score = task.score(sample, task.target(sample, "policy", prompt), prompt)
            assert (score.value, score.parts["tolerant"], score.status) == (1.0, 1.0, "ok")
            assert task.reward(sample, task.target(sample, "policy", prompt), prompt).value == pytest.approx(1.0)


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_a_bare_answer_is_wrong_strictly_and_right_tolerantly(task: Task):
    for sample in task.samples("test", 20):
        score = task.score(sample, task.target(sample, "dataset", "direct"), "direct")
        assert (score.value, score.parts["tolerant"]) == (0.0, 1.0), sample.gold


@pytest.mark.parametrize("task", [t for t in ALL if t.role == "stage"], ids=lambda t: t.name)
def test_the_habit_is_a_wrong_answer_often_enough(task: Task):
    samples = task.samples("test", 200)
    wrong = [s for s in samples if not s.meta["easy"] and s.meta["habit"] not in s.gold]
    assert 0.2 <= len(wrong) / len(samples) <= 0.8


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_the_prompt_shows_the_question_and_nothing_of_the_answer_key(task: Task):
    sample = task.samples("test", 1)[0]
    (turn,) = task.messages(sample, "think")
    assert turn["role"] == "user"
    assert [p["type"] for p in turn["content"]] == ["image"] * len(sample.images) + ["text"]
    assert turn["content"][-1]["text"] == f"Reply as <think> <answer> . {sample.question}"


@pytest.mark.parametrize("task", ALL, ids=lambda t: t.name)
def test_questions_come_in_several_phrasings(task: Task):
    skeletons = {s.question.split()[0] + s.question.split()[-1] for s in task.samples("test", 60)}
    assert len(skeletons) >= 2


def test_a_scene_is_read_row_by_row():
    scene = tuple(
        sorted(
            [
                Thing(2, 0, "red", "circle", True),
                Thing(0, 2, "blue", "cross", False),
                Thing(0, 1, "red", "square", True),
            ]
        )
    )
    assert describe(scene) == "red square top center blue cross top right red circle bottom left"


def test_equal_scenes_have_equal_keys_and_pictures_and_others_do_not():
    small, large = (Thing(1, 1, "green", "circle", big) for big in (False, True))
    assert render((small,)).tobytes() != render((large,)).tobytes()
    assert key((small,)) != key((large,))
    assert render((small,)).size == (48, 48)


def test_which_row_is_about_the_named_thing():
    for sample in get_task("which-row").samples("test", 50):
        words = sample.reasoning.split()
        things = [(words[i], words[i + 1], words[i + 2]) for i in range(0, len(words), 4)]
        asked = set(sample.question.split())
        # By its shape, which then is unique, or by colour and shape.
        by_name = [row for colour, shape, row in things if {colour, shape} <= asked]
        (named,) = by_name or [row for _, shape, row in things if shape in asked]
        assert sample.gold == (named,)
        assert named in ROWS


def test_zero_samples_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        get_task("exists").samples("test", 0)
