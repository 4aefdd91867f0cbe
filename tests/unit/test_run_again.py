"""A run that is finished: the same command starts nothing, says so, and leaves a page that says so too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import load_arm
from synthetic import mark_done, record

from cpt.evaluate.evaluators.base import Subject, measured_key
from cpt.evaluate.evaluators.generation import GenerationEvaluator
from cpt.plan.make import make_plan
from cpt.recipe import Recipe
from cpt.run import loop as stage_loop
from cpt.run.evaluation import Evaluations
from cpt.store.run_store import RunStore
from cpt.types import Record


def leave_records(store: RunStore, subject: Subject, rows: list[Record]) -> None:
    mark_done(store, subject.out, subject.key, rows, measured_key(GenerationEvaluator(), subject) or "")


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Recipe, Path]:
    """The folder of a run with every stage trained and evaluated, by hand."""
    recipe = load_arm(tmp_path, "{method: {type: sft, max_steps: 2}}", "evaluation.samples=2", "drift.samples=0")
    plan, out = make_plan(recipe), tmp_path / "run"
    with RunStore(out).open_or_create(recipe) as store:
        store.write_plan(plan)

        def records(arm: str, stage: int) -> list:
            return [record(arm, 0, stage, task, number, number) for task in recipe.task_names for number in (0, 1)]

        evaluations = Evaluations(store)
        for subject in evaluations.subjects(plan)[:1]:
            leave_records(store, subject, records("base", 0))
        for stage in plan.stages:
            policy = store.begin_stage(stage).policy
            policy.mkdir()
            (policy / "config.json").write_text("{}")
            store.mark_trained(stage, steps=stage.steps)
            leave_records(store, evaluations.of_stage(stage), records("a", stage.index))
        store.finish("interrupted")
    return recipe, out


def test_a_finished_run_starts_nothing_and_says_so(finished, tmp_path, monkeypatch, capsys) -> None:
    def never(*args: object) -> None:
        raise AssertionError("a finished run must not start Ray")

    monkeypatch.setattr(stage_loop, "_open", never)
    recipe, out = finished
    assert stage_loop.run_recipe(recipe, out=out) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == [
        f"demo: 2 stages in {out}, all finished; nothing was left to do",
        f"report: {out / 'report.html'}",
    ]
    assert not [line for line in shown if "0 of" in line]


def test_the_page_of_a_finished_run_does_not_say_that_it_runs(finished, tmp_path) -> None:
    recipe, out = finished
    stage_loop.run_recipe(recipe, out=out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "2, the last one complete" in page
    assert "s, finished" in page
    assert [attempt["status"] for attempt in json.loads((out / "manifest.json").read_text())["attempts"]] == [
        "interrupted",
        "complete",
    ]


def test_a_refused_command_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    """Otherwise the page would show the refused recipe beside numbers that were made by another."""
    arm = "{method: {type: sft, max_steps: 2}}"
    asked, other = (
        load_arm(tmp_path, arm, f"arms={{a: {arm}, b: {arm}}}", f"evaluation.samples={samples}") for samples in (2, 3)
    )
    out = tmp_path / "run"
    with RunStore(out).open_or_create(asked) as store:
        store.write_plan(make_plan(asked))
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="the recipe's evaluation is another than that of a"):
        stage_loop.run_recipe(other, out=out, arms=["b"])
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_what_was_trained_before_it_was_to_be_evaluated_between_its_steps_stays_and_is_told(finished, tmp_path, capsys):
    _, out = finished
    arm, given = "{method: {type: sft, max_steps: 2}}", ("evaluation.samples=2", "drift.samples=0")
    asked = load_arm(tmp_path, arm, *given, "evaluation.during.every=1")
    assert stage_loop.run_recipe(asked, out=out) == 0
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note:")]
    assert note == (
        "note: evaluation.during: 2 stages of 2 were trained without it, or with another, and stay as they are: "
        "policies in training can't be evaluated afterwards"
    )
    with RunStore(out).open_or_create(asked) as store:
        for stage in make_plan(asked).stages:
            done = {"steps": list(stage.during.steps), "samples": dict(stage.during.samples)}
            store.mark_trained(stage, steps=stage.steps, during=done)
    stage_loop.run_recipe(asked, out=out)
    assert "note:" not in capsys.readouterr().out
