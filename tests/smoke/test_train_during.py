"""Evaluation between the steps of a training leaves the policy as it is, and survives a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stages import Killed, die_at, digest, planned, rows, trained

from cpt.plan.stages import DuringPlan, StagePlan
from cpt.rollout.engine import EngineSettings
from cpt.rollout.local import LocalPool, build_engine
from cpt.store.folder import StageDir
from cpt.store.records import read_steps
from cpt.tasks import get_task

pytestmark = pytest.mark.smoke
SFT = {"type": "sft", "learning_rate": 1e-3, "per_device_train_batch_size": 4}
GRPO = {
    "type": "grpo", "learning_rate": 1e-3, "per_device_train_batch_size": 8, "num_generations": 4,
    "max_completion_length": 6,
}  # fmt: skip
LIMITS = {"count-colour": 2, "exists": 5}  # tokens of a completion, every task its own
ASKED = DuringPlan((1, 2, 3), {"count-colour": 3, "exists": 2})


class CountedPool(LocalPool):
    """Remembers the versions that were pushed."""

    def __init__(self, base: Path) -> None:
        super().__init__(build_engine("hf", EngineSettings(str(base))))
        self.versions: list[str] = []

    def push(self, named_tensors: Any, version: str) -> float:
        self.versions.append(version)
        return super().push(named_tensors, version)


def stage_of(base: Path, method: dict[str, Any], **settings: Any) -> StagePlan:
    (stage,) = planned(base, method | {"max_steps": 4, "save_steps": 2}, **settings)
    return replace(stage, evaluation=replace(stage.evaluation, limits=LIMITS))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        (SFT, {}),
        (SFT | {"data": {"type": "self", "refresh": "epoch", "keep": "all"}}, {"samples": 8}),
        (GRPO, {"tuning": {"type": "lora", "r": 2, "alpha": 4}}),
    ],
    ids=["sft", "sft-self", "grpo-lora"],
)
@pytest.mark.usefixtures("easily_rewarded", "uncompared")
def test_the_policy_is_the_same_and_a_killed_stage_measures_the_same(
    base: Path, tmp_path: Path, method: dict[str, Any], settings: dict[str, Any]
):
    pool = CountedPool(base)
    stage = stage_of(base, method, **settings)
    without = trained(stage, base, tmp_path / "without", pool)
    pushes = len(pool.versions)
    measured = replace(stage, during=ASKED)
    whole = trained(measured, base, tmp_path / "whole", pool)
    assert digest(whole.policy) == digest(without.policy)
    assert rows(whole) == rows(without)
    assert not without.during.exists()
    # Reinforcement learning pushes every step's weights anyway.
    assert len(pool.versions) - 2 * pushes == (0 if method["type"] == "grpo" else 3)
    assert len({*pool.versions}) == len(pool.versions)

    found = read_steps(whole.during)
    assert list(found) == [1, 2, 3]
    asked = [sample.id for task, n in ASKED.samples.items() for sample in get_task(task).samples("test", n)]
    assert [[record.sample_id for record in records] for records in found.values()] == [asked] * 3

    killed = StageDir(tmp_path / "killed")
    with pytest.raises(Killed):
        trained(measured, base, killed.root, pool, die_at(4))
    trained(measured, base, killed.root, pool)
    assert killed.during.read_bytes() == whole.during.read_bytes()
    assert digest(killed.policy) == digest(whole.policy)


@pytest.mark.usefixtures("uncompared")
def test_what_is_measured_is_what_a_policy_of_so_many_steps_answers(base: Path, pool: LocalPool, tmp_path: Path):
    from cpt.evaluate.evaluators.base import Subject
    from cpt.evaluate.evaluators.generation import GenerationEvaluator

    stage = stage_of(base, SFT | {"lr_scheduler_type": "constant", "warmup_steps": 0})
    course = read_steps(trained(replace(stage, during=ASKED), base, tmp_path / "four", pool).during)
    short = replace(stage, steps=2)
    out = trained(short, base, tmp_path / "two", pool)
    evaluated = replace(short, evaluation=replace(short.evaluation, samples=ASKED.samples))
    pool.push_folder(out.policy, Subject.of_stage(evaluated, out).version)
    assert GenerationEvaluator().records(Subject.of_stage(evaluated, out), pool) == course[2]


@pytest.mark.usefixtures("uncompared")
def test_asked_for_in_the_middle_of_a_stage_the_rest_is_measured(base: Path, pool: LocalPool, tmp_path: Path):
    from cpt.train.stage import train_stage

    stage, out = stage_of(base, SFT), StageDir(tmp_path)
    with pytest.raises(Killed):
        train_stage(stage, start_folder=base, out=out, pool=pool, on_step=die_at(4))
    result = train_stage(replace(stage, during=ASKED), start_folder=base, out=out, pool=pool)
    assert result.resumed_from == 2
    assert result.notes == ("step 1: trained before evaluation.during was what it is now, and not evaluated",)
    assert result.during == {"steps": [2, 3], "samples": dict(ASKED.samples)}
    assert list(read_steps(out.during)) == [2, 3]


def test_its_seconds_are_those_of_no_step(base: Path, pool: LocalPool, tmp_path: Path):
    import json

    out = trained(replace(stage_of(base, SFT), during=replace(ASKED, steps=(2,))), base, tmp_path, pool)
    found = [json.loads(line) for line in out.metrics.read_text().splitlines()]
    assert [row["step"] for row in found if "phase/evaluate_during_s" in row] == [3]
    third = found[2]
    phases = {name: value for name, value in third.items() if name.startswith("phase/")}
    assert sum(phases.values()) == pytest.approx(third["step_s"] + third["phase/evaluate_during_s"], abs=0.02)
