"""Data in keys: what a task's samples are is known, stated or read, and a changed one is other work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from folders import load_arm
from PIL import Image

import cpt.tasks.registry
from cpt.evaluate.evaluators.base import Subject, measured_key
from cpt.evaluate.evaluators.generation import GenerationEvaluator
from cpt.plan.make import make_plan
from cpt.plan.stages import BasePlan, StagePlan
from cpt.store.folder import StageDir
from cpt.store.run_store import RunStore
from cpt.tasks.fingerprint import samples_fingerprint
from cpt.tasks.registry import data_fingerprint
from cpt.tasks.world import builtin
from cpt.tasks.world.data_digests import DATA, first_samples
from cpt.tasks.world.format import FORMAT
from cpt.train.data import check_data
from cpt.types import Sample
from rewards.score import Score

ARM = "{method: {type: sft, max_steps: 2}}"


def picture(colour: str = "red") -> Image.Image:
    return Image.new("RGB", (8, 8), colour)


SAMPLE = Sample("own/train/0", "count-colour", "How many ?", (picture(),), ("two", "2"), "I see two .", {"a": {1, 2}})


@dataclass(eq=False)
class Own:
    """A task over data of a user's."""

    changed: dict[tuple[str, int], Sample] = field(default_factory=dict)
    name: str = "count-colour"
    family: str = "own"
    role: str = "stage"
    about: str = "a task of a test"
    asked: int = 0

    def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
        self.asked += 1
        plain = [replace(SAMPLE, id=f"own/{split}/{seed}/{number}") for number in range(n)]
        return [self.changed.get((split, number), sample) for number, sample in enumerate(plain)]

    messages = staticmethod(FORMAT.messages)
    target = staticmethod(FORMAT.target)


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Put a task in the place of count-colour."""
    registry = cpt.tasks.registry._registry()

    def enter(task: Any) -> Any:
        monkeypatch.setattr(cpt.tasks.registry, "_registry", lambda: {**registry, "count-colour": task})
        return task

    return enter


def test_the_stated_data_of_the_built_in_world_are_what_it_makes():
    made = {task.name: first_samples(task) for task in builtin.tasks()}
    assert made == DATA, "a task's data changed: write its new digest into cpt/tasks/world/data_digests.py"


def test_a_stated_fingerprint_costs_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cpt.tasks.world.base.BuiltinTask.sample", lambda *_: pytest.fail("a sample was made"))
    assert data_fingerprint("which-row", "train", 10**6) == DATA["which-row"]


def test_a_task_of_the_world_that_states_nothing_is_read(monkeypatch: pytest.MonkeyPatch):
    task = cpt.tasks.get_task("which-row")
    monkeypatch.delitem(DATA, "which-row")
    assert data_fingerprint("which-row", "train", 3) == samples_fingerprint(task, "train", 3)


@pytest.mark.parametrize(
    "other",
    [
        {"id": "own/train/1"},
        {"question": "How many ? "},
        {"gold": ("2", "two")},
        {"gold": ("two",)},
        {"reasoning": "I see 2 ."},
        {"meta": {"a": {1, 3}}},
        {"meta": {}},
        {"images": (picture("blue"),)},
        {"images": (picture(), picture())},
        {"images": (picture().convert("L"),)},
        {"images": (picture().resize((4, 16)),)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_a_sample_holds_counts(enter, other: dict[str, Any]):
    same = data_fingerprint("count-colour", "train", 3) if enter(Own()) else ""
    assert enter(Own()) and data_fingerprint("count-colour", "train", 3) == same
    assert enter(Own({("train", 1): replace(SAMPLE, **other)})) and data_fingerprint("count-colour", "train", 3) != same


def test_what_the_model_is_shown_and_what_it_imitates_count(enter):
    same = data_fingerprint("count-colour", "test", 1) if enter(Own()) else ""
    other = enter(Own())
    other.messages = replace(FORMAT, instruction={**FORMAT.instruction, "think": "Think ."}).messages
    assert data_fingerprint("count-colour", "test", 1) != same
    other = enter(Own())
    other.target = replace(FORMAT, no_reasoning="I guess .").target
    assert data_fingerprint("count-colour", "test", 1) != same


def test_a_task_may_say_it_itself(enter):
    task = enter(Own())
    task.fingerprint = lambda split, n, seed: f"{split}/{n}/{seed}"
    assert data_fingerprint("count-colour", "test", 5, 7) == "test/5/7"
    assert task.asked == 0


class Colour(Enum):
    RED = 1
    BLUE = 2


def test_a_member_of_an_enum_counts_by_its_name(enter):
    def of(meta: dict[str, Any]) -> str:
        enter(Own({("train", 1): replace(SAMPLE, meta=meta)}))
        return data_fingerprint("count-colour", "train", 3)

    red, blue = of({"a": Colour.RED}), of({"a": Colour.BLUE})
    assert red != blue
    assert red == of({"a": ["Colour", "RED"]})


@dataclass(slots=True)
class Slots:
    of: Any


class Nameless:
    __slots__ = ()


def test_what_is_known_by_its_place_in_memory_is_no_data(enter):
    enter(Own({("train", 1): replace(SAMPLE, id="own/1", meta={"a": Slots((1, Path("a.png")))})}))
    assert data_fingerprint("count-colour", "train", 3)
    for strange in (Nameless(), Slots(Nameless())):
        enter(Own({("train", 1): replace(SAMPLE, id="own/1", meta={"a": [strange]})}))
        with pytest.raises(ValueError, match=r"sample own/1: its meta holds .*Nameless.* put plain data .*fingerprint"):
            data_fingerprint("count-colour", "train", 3)


def test_data_that_a_plan_can_not_read_are_named(enter, tmp_path: Path):
    recipe = load_arm(tmp_path, ARM, "data.samples=64")
    task = enter(Own())
    task.samples = lambda split, n, seed=0: (tmp_path / f"{split}.jsonl").read_text()
    with pytest.raises(ValueError, match=r"task count-colour, split test: .*No such file.*test\.jsonl"):
        make_plan(recipe)
    task.samples = lambda split, n, seed=0: [{"question": "How many ?"}] * n
    with pytest.raises(ValueError, match=r"task count-colour gives samples that are no cpt\.types\.Sample but dict"):
        make_plan(recipe)


def test_data_are_read_once_in_a_process(enter):
    task = enter(Own())
    for _ in range(3):
        data_fingerprint("count-colour", "train", 5, 1)
    assert task.asked == 1


def test_changed_training_data_change_the_keys_of_their_stage_and_of_those_after(enter, tmp_path: Path):
    recipe = load_arm(tmp_path, ARM, "data.samples=64", "tasks=[which-row, count-colour]")
    enter(Own())
    plain = make_plan(recipe)
    enter(Own({("train", 63): replace(SAMPLE, gold=("3",))}))
    changed = make_plan(recipe)
    assert [a.key == b.key for a, b in zip(plain.stages, changed.stages, strict=True)] == [True, False]
    assert plain.bases[0].key == changed.bases[0].key
    enter(Own({("train", 64): replace(SAMPLE, gold=("3",))}))  # beyond what is read
    assert [stage.key for stage in make_plan(recipe).stages] == [stage.key for stage in plain.stages]


def test_changed_test_data_change_what_is_measured_and_no_policy(enter, tmp_path: Path):
    recipe = load_arm(tmp_path, ARM, "evaluation.samples=4")
    enter(Own())
    plain = make_plan(recipe)
    enter(Own({("test", 3): replace(SAMPLE, gold=("3",))}))
    changed = make_plan(recipe)
    assert [stage.key for stage in plain.stages] == [stage.key for stage in changed.stages]
    where = StageDir(tmp_path)
    for rows in zip(plain.bases, changed.bases, strict=True), zip(plain.stages, changed.stages, strict=True):
        for one, other in rows:
            assert _measured(one, where) != _measured(other, where)


def _measured(row: BasePlan | StagePlan, where: StageDir) -> str | None:
    return measured_key(GenerationEvaluator(), Subject(row, "", where))


class Halves(Own):
    """The same data, of which another part is paid."""

    def reward(self, sample: Sample, completion: str, prompt: str) -> Score:
        return Score(0.5 * (completion in sample.gold))


class Thirds(Own):
    def reward(self, sample: Sample, completion: str, prompt: str) -> Score:
        return Score(completion in sample.gold and 1 / 3)


def test_what_an_answer_is_worth_belongs_to_the_key(enter, tmp_path: Path):
    recipe = load_arm(tmp_path, "{method: {type: grpo, max_steps: 2}}", "tasks=[count-colour]")
    keys = []
    for task in (Halves(), Halves(), Thirds(), Halves()):
        if len(keys) == 3:
            task.right_from = 0.4
        enter(task)
        keys.append(make_plan(recipe).stages[0].key)
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    paid = load_arm(tmp_path, "{method: {type: grpo, max_steps: 2}, reward: [{type: exact, weight: 1}]}")
    assert make_plan(paid).stages[0].key not in keys


def test_a_threshold_counts_beside_a_fingerprint_of_the_tasks_own(enter):
    task = Own()
    task.fingerprint = lambda split, n, seed: "mine"
    enter(task)
    assert data_fingerprint("count-colour", "train", 3) == "mine"
    task.right_from = 0.4
    assert data_fingerprint("count-colour", "train", 3) == "mine right from 0.4"


def test_replayed_data_belong_to_the_key(enter, tmp_path: Path):
    arm = "{method: {type: sft, max_steps: 2}, replay: {type: buffer, tasks: [exists], samples: 32}}"
    recipe = load_arm(tmp_path, arm, "data.samples=64", "general=[exists]")
    assert set(make_plan(recipe).stages[1].data) == {"which-row", "count-colour", "exists"}
    joint = load_arm(tmp_path, "{method: {type: sft, max_steps: 2}, schedule: joint}", "data.samples=64")
    assert set(make_plan(joint).stages[0].data) == {"which-row", "count-colour"}


@pytest.mark.parametrize(
    ("split", "told"), [("train", "the training samples of count-colour"), ("test", "the test samples of count-colour")]
)
def test_the_same_command_on_changed_labels_says_what_changed(enter, tmp_path: Path, split: str, told: str):
    recipe = load_arm(tmp_path, ARM, "data.samples=64", "evaluation.samples=4")
    enter(Own())
    with RunStore(tmp_path / "run").open_or_create(recipe) as store:
        store.write_plan(make_plan(recipe))
    enter(Own({(split, 1): replace(SAMPLE, gold=("3",))}))
    with (
        RunStore(tmp_path / "run").open_or_create(recipe) as store,
        pytest.raises(ValueError, match=f"{told} changed since this run was made; .*--fresh"),
    ):
        store.write_plan(make_plan(recipe))
    enter(Own())
    with RunStore(tmp_path / "run").open_or_create(recipe) as store:
        store.write_plan(make_plan(recipe))  # the refusal left the plan as it was


def test_a_changed_base_model_is_named(tmp_path: Path):
    recipe = load_arm(tmp_path, ARM)
    with RunStore(tmp_path / "run").open_or_create(recipe) as store:
        store.write_plan(make_plan(recipe))
        weights = tmp_path / "model" / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        with pytest.raises(ValueError, match="the base model's folder changed since this run was made"):
            store.write_plan(make_plan(recipe))


def test_data_that_change_while_a_run_is_under_way_stop_the_stage(enter, tmp_path: Path):
    recipe = load_arm(tmp_path, ARM, "data.samples=64")
    enter(Own())
    stage = make_plan(recipe).stages[0]
    check_data(stage)
    enter(Own({("train", 1): replace(SAMPLE, gold=("3",))}))
    with pytest.raises(ValueError, match="the training samples of count-colour changed while the run was under way"):
        check_data(stage)
