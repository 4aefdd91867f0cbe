"""Evaluators measure on finished policies: what they measure is no part of those, and can be added or changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import load_arm

from cpt.common.files import write_text_atomic
from cpt.evaluate.evaluators.base import Subject, measured_key
from cpt.evaluate.evaluators.drift import DriftEvaluator
from cpt.evaluate.evaluators.generation import GenerationEvaluator
from cpt.plan.make import make_plan
from cpt.plan.run_plan import RunPlan
from cpt.plan.stages import finished_version
from cpt.recipe import Recipe
from cpt.run import evaluation
from cpt.run import loop as stage_loop
from cpt.run.cluster import Placement
from cpt.run.evaluation import Evaluations
from cpt.run.worker import TrainerDied
from cpt.store.checks import check_results
from cpt.store.folder import StageDir
from cpt.store.run_store import RunStore
from cpt.types import Completion, GenerationRequest, SamplingParams

SFT = "{method: {type: sft, max_steps: 2}}"
ARMS = f"arms={{a: {SFT}, b: {SFT.replace('2', '3')}}}"


class Length:
    """Measures how much it is asked to, and counts how often."""

    name = "length"
    version = 1
    phase = "length"
    needs_engines = True
    needs_model = False

    def __init__(self, asked: int | None, fails: bool = False) -> None:
        self.asked, self.fails = asked, fails
        self.measured: list[str] = []

    def measures(self, subject: Subject) -> dict[str, Any] | None:
        return None if self.asked is None or subject.stage == 0 else {"asked": self.asked}

    def files(self, out: StageDir) -> list[Path]:
        return [out.evaluated / "length.txt"]

    def run(self, subject: Subject, pool: Any) -> dict[str, Any]:
        assert pool.engines.pushed[-1] == (subject.folder, subject.version)
        out = subject.out.evaluated / "length.txt"
        out.parent.mkdir(exist_ok=True)
        write_text_atomic(out, str(self.asked))
        if self.fails:
            raise KeyboardInterrupt
        self.measured.append(subject.label)
        return {"lines": 1}


class Pool:
    """Notes what is pushed and what is asked."""

    engine = "hf"

    def __init__(self) -> None:
        self.pushed: list[tuple[str, str]] = []
        self.asked: list[tuple[Any, ...]] = []

    def push_folder(self, folder: str, version: str) -> str:
        self.pushed.append((folder, version))
        return version

    def generate(self, requests: Any, params: SamplingParams, *, version: str) -> list[list[Completion]]:
        self.asked += [(version, *request.prompt_ids) for request in requests]
        return [[Completion([1], [0.0], f"{request.prompt_ids[0]};", "stop")] for request in requests]


def planned(folder: Path, *overrides: str) -> tuple[Recipe, RunPlan]:
    recipe = load_arm(folder, SFT, ARMS, "evaluation.samples=2", *overrides)
    return recipe, make_plan(recipe)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run whose stages are trained and not evaluated."""
    recipe, plan = planned(tmp_path, "drift.samples=0")
    with RunStore(tmp_path / "run").open_or_create(recipe) as opened:
        opened.write_plan(plan)
        for stage in plan.stages:
            policy = opened.begin_stage(stage).policy
            policy.mkdir()
            (policy / "config.json").write_text("{}")
            opened.mark_trained(stage, steps=stage.steps)
    return opened


class Answers(Length):
    """Asks as many questions as it is told to."""

    def run(self, subject: Subject, pool: Any) -> dict[str, Any]:
        requests = [GenerationRequest([number], (), 0) for number in range(self.asked or 0)]
        answers = pool.generate(requests, SamplingParams(4), version=subject.version)
        subject.out.evaluated.mkdir(exist_ok=True)
        write_text_atomic(subject.out.evaluated / "length.txt", "".join(one.text for (one,) in answers))
        return {}


def measure_all(store: RunStore, plan: RunPlan, evaluator: Length) -> Pool:
    pool, evaluations = Pool(), Evaluations(store, (evaluator,))
    for subject in evaluations.subjects(plan):
        for one in evaluations.missing(subject):
            evaluations.measure(one, subject, pool, lambda: pytest.fail("it loads no model"))
    return pool


EVALUATED_OTHERWISE = [
    ["drift.samples=1"],
    ["evaluation.samples=3"],
    ["evaluation.max_tokens=5"],
    ["evaluation.temperature=1.0"],
    ["general=[exists]"],
    ["tasks=[{name: count-colour, evaluation_samples: 1}, which-row]"],
]


@pytest.mark.parametrize("overrides", EVALUATED_OTHERWISE, ids=str)
def test_what_is_measured_is_no_part_of_a_policy(tmp_path: Path, overrides: list[str]):
    (recipe, plan), (other, changed) = planned(tmp_path), planned(tmp_path, *overrides)
    assert recipe.resolved_hash() == other.resolved_hash()
    assert [stage.key for stage in plan.stages] == [stage.key for stage in changed.stages]
    assert [base.key for base in plan.bases] == [base.key for base in changed.bases]
    evaluators = (GenerationEvaluator(), DriftEvaluator())
    before, after = (
        {one.name: measured_key(one, Subject.of_stage(p.stages[0], StageDir(tmp_path))) for one in evaluators}
        for p in (plan, changed)
    )
    differ = {name for name in before if before[name] != after[name]}
    # Drift asks no more prompts than are evaluated (64 are asked for), as many tokens after each, and general ones too.
    assert differ == {
        "drift.samples=1": {"drift"},
        "evaluation.temperature=1.0": {"generation"},
    }.get(overrides[0], {"generation", "drift"})


def test_sampled_answers_of_the_base_model_are_each_seeds_own(tmp_path: Path):
    _, plan = planned(tmp_path, "seeds=[0, 1]", "evaluation.temperature=1.0")
    keys = {measured_key(GenerationEvaluator(), Subject.of_base(base, StageDir(tmp_path))) for base in plan.bases}
    assert len(keys) == 2
    assert {measured_key(DriftEvaluator(), Subject.of_base(base, StageDir(tmp_path))) for base in plan.bases} == {None}


def test_another_version_of_an_evaluator_measures_again(tmp_path: Path):
    _, plan = planned(tmp_path)
    subject, one = Subject.of_stage(plan.stages[0], StageDir(tmp_path)), Length(7)
    before = measured_key(one, subject)
    one.version = 2
    assert measured_key(one, subject) != before


def test_the_next_stage_calls_a_policy_what_its_evaluators_do(tmp_path: Path):
    """Its filter then finds in the engines what they have pushed."""
    _, plan = planned(tmp_path)
    first, second = plan.stages[:2]
    assert first.arm == second.arm
    assert finished_version(second.parent_key) == Subject.of_stage(first, StageDir(tmp_path)).version


def test_an_evaluator_is_added_to_a_run_that_is_trained(store: RunStore, tmp_path: Path):
    _, plan = planned(tmp_path)
    one = Length(7)
    pool = measure_all(store, plan, one)
    assert one.measured == [stage.label for stage in plan.stages]  # of the base model nothing is asked
    assert pool.pushed == [(str(store.stage(s).policy), f"{s.key}:final") for s in plan.stages]
    where = store.stage(plan.stages[0])
    marker = json.loads((where.evaluated / "length.json").read_text())
    assert (marker["key"], marker["lines"], list(marker["files"])) == (plan.stages[0].key, 1, ["evaluated/length.txt"])
    measure_all(store, plan, one)
    assert len(one.measured) == 4  # not again
    check_results(store, plan.stages, [])
    (where.evaluated / "length.txt").write_text("8")
    with pytest.raises(ValueError, match=r"length\.txt is not what the run wrote.*delete .*evaluated/length\.json"):
        check_results(store, plan.stages, [])


def test_what_an_evaluator_left_is_no_result_of_training(store: RunStore, tmp_path: Path):
    _, plan = planned(tmp_path)
    stage = plan.stages[0]
    measure_all(store, plan, Length(7))
    where = store.stage(stage)
    where.drift.write_text("left by an interruption")
    (where.policy / "config.json").unlink()  # somebody made room: the stage is trained again
    policy = store.begin_stage(stage).policy
    (policy / "config.json").write_text("{}")
    store.mark_trained(stage, steps=stage.steps)
    assert list(json.loads(where.trained.read_text())["files"]) == ["policy/config.json"]
    assert [one.name for one in Evaluations(store, (Length(7),)).missing(Subject.of_stage(stage, where))] == ["length"]


def test_more_questions_to_the_same_policies_are_all_that_is_generated(store: RunStore, tmp_path: Path):
    _, plan = planned(tmp_path)
    versions = [f"{stage.key}:final" for stage in plan.stages]
    assert measure_all(store, plan, Answers(2)).asked == [(version, n) for version in versions for n in (0, 1)]
    assert measure_all(store, plan, Answers(3)).asked == [(version, 2) for version in versions]
    where = store.stage(plan.stages[0])
    assert (where.evaluated / "length.txt").read_text() == "0;1;2;"
    check_results(store, plan.stages, [])  # what has been answered is no result


def test_a_policy_that_was_trained_again_is_asked_again(store: RunStore, tmp_path: Path):
    """Its key is the same. Its weights may be others: only on a CPU does training repeat itself to the last bit."""
    _, plan = planned(tmp_path)
    stage = plan.stages[0]
    measure_all(store, plan, Answers(2))
    (store.stage(stage).policy / "config.json").unlink()
    (store.begin_stage(stage).policy / "config.json").write_text('{"other": 1}')
    store.mark_trained(stage, steps=stage.steps)
    assert measure_all(store, plan, Answers(2)).asked == [(f"{stage.key}:final", n) for n in (0, 1)]


def test_an_interrupted_evaluator_measures_again(store: RunStore, tmp_path: Path):
    _, plan = planned(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        measure_all(store, plan, Length(7, fails=True))
    where = store.stage(plan.stages[0])
    assert (where.evaluated / "length.txt").exists() and where.markers() == []
    check_results(store, plan.stages, [])
    one = Length(7)
    measure_all(store, plan, one)
    assert len(one.measured) == 4


def test_what_is_asked_otherwise_is_forgotten_at_once_and_measured_again(store: RunStore, tmp_path: Path):
    _, plan = planned(tmp_path)
    measure_all(store, plan, Length(7))
    assert Evaluations(store, (Length(7),)).forget_changed(plan) == {}
    assert Evaluations(store, (Length(None),)).forget_changed(plan) == {}  # not asked any more: it stays
    other = Length(8)
    assert Evaluations(store, (other,)).forget_changed(plan) == {"length": 4}
    assert not any(store.stage(stage).markers() for stage in plan.stages)
    measure_all(store, plan, other)
    assert len(other.measured) == 4
    assert (store.stage(plan.stages[0]).evaluated / "length.txt").read_text() == "8"


@pytest.mark.parametrize("deaths", [2, 3])
def test_a_process_that_dies_while_it_measures_is_replaced_twice(store: RunStore, tmp_path: Path, monkeypatch, deaths):
    _, plan = planned(tmp_path)
    subject = Evaluations(store).of_stage(plan.stages[0])
    evaluator, processes, told = Length(7), iter("abcd"), []
    evaluator.needs_model = True

    def measured(worker: str, evaluator: Length, subject: Subject, pool: Pool) -> dict[str, Any]:
        if worker in "abcd"[:deaths]:
            raise TrainerDied(f"process {worker} died")
        return evaluator.run(subject, pool)

    monkeypatch.setattr(evaluation, "run_evaluator", measured)
    monkeypatch.setattr(stage_loop, "start_worker", lambda **_: next(processes))
    progress: Any = SimpleNamespace(stage=lambda *_: None, message=told.append)
    run = stage_loop.Run(plan, store, progress, Placement(0, 0))
    run.evaluations, run.pool = Evaluations(store, (evaluator,)), Pool()  # type: ignore[assignment]
    if deaths == 3:
        with pytest.raises(TrainerDied, match="process c died"):
            run.evaluate(subject)
    else:
        run.evaluate(subject)
    assert told == ["process a died; measuring again", "process b died; measuring again"]
    assert evaluator.measured == [subject.label] * (3 - deaths)
    assert run.evaluations.missing(subject) == [evaluator] * (deaths - 2)


def test_a_changed_evaluation_is_noted_in_the_attempt(store: RunStore, tmp_path: Path):
    recipe, plan = planned(tmp_path, "drift.samples=4")
    with RunStore(store.root).open_or_create(recipe) as again:
        again.write_plan(plan)
    first, second = json.loads(store.manifest_path.read_text())["attempts"]
    assert "recipe_changes" not in first
    assert second["recipe_changes"] == ["-   samples: 0", "+   samples: 4"]
    assert all(map(store.is_trained, plan.stages))


def test_some_arms_alone_are_not_evaluated_otherwise(store: RunStore, tmp_path: Path):
    """Their matrix would not be the others', and the base model's row, which all share, can go with one only."""
    recipe, _ = planned(tmp_path, "evaluation.samples=3")
    with RunStore(store.root).open_or_create(recipe) as again:
        with pytest.raises(ValueError, match=r"evaluation is another than that of a; run the command without --arm"):
            again.write_plan(make_plan(recipe, ["b"]))
        again.write_plan(make_plan(recipe))
        again.write_plan(make_plan(recipe, ["b"]))


def test_drift_of_some_arms_alone_is_not_measured_on_other_prompts(store: RunStore, tmp_path: Path):
    """A mean over one prompt beside one over two compares no policies; drift of some arms alone does no harm."""
    (few, _), (more, _) = planned(tmp_path, "drift.samples=1"), planned(tmp_path, "drift.samples=2")
    with RunStore(store.root).open_or_create(few) as again:
        again.write_plan(make_plan(few, ["a"]))  # b has none
        again.write_plan(make_plan(few))
    with RunStore(store.root).open_or_create(more) as again:
        with pytest.raises(ValueError, match=r"drift is another than that of a; run the command without --arm"):
            again.write_plan(make_plan(more, ["b"]))
        again.write_plan(make_plan(more))
        again.write_plan(make_plan(more, ["b"]))


def test_test_samples_that_are_others_without_being_asked_for_are_refused(store: RunStore, tmp_path: Path):
    recipe, plan = planned(tmp_path, "drift.samples=0")
    data = {**plan.stages[0].evaluation.data, "which-row": "changed"}
    evaluation = replace(plan.stages[0].evaluation, data=data)
    arms = {key: [replace(stage, evaluation=evaluation) for stage in stages] for key, stages in plan.arms.items()}
    changed = pytest.raises(ValueError, match=r"the test samples of which-row changed since this run was made")
    with RunStore(store.root).open_or_create(recipe) as again, changed:
        again.write_plan(replace(plan, arms=arms))


def test_greedy_answers_of_the_base_model_are_asked_once_for_all_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _, plan = planned(tmp_path, "seeds=[0, 1]")
    asked: list[int] = []

    def ask(*args: Any, seed: int, **labels: Any) -> list[Any]:
        asked.append(seed)
        return []

    monkeypatch.setattr("cpt.evaluate.evaluators.generation.ask", ask)
    monkeypatch.setattr(GenerationEvaluator, "_asked", lambda self, subject: None)
    one, pool = GenerationEvaluator(), SimpleNamespace()
    for base in plan.bases:
        one.records(Subject.of_base(base, StageDir(tmp_path)), pool)
    assert asked == [0]


def test_drift_on_other_test_data_is_another_measurement(tmp_path: Path):
    stage = make_plan(load_arm(tmp_path, SFT, "drift.samples=4")).stages[0]
    data = dict.fromkeys(stage.evaluation.data, "changed")
    changed = replace(stage, evaluation=replace(stage.evaluation, data=data))
    out, drift = StageDir(tmp_path / "stage"), DriftEvaluator()
    keys = {measured_key(drift, Subject.of_stage(one, out)) for one in (stage, changed)}
    assert len(keys) == 2
