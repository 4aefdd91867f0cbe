"""Joint arms, single-task references and arms that replay, in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from synthetic import Arm, make_run, reseal

from cpt.evaluate.drift import DriftRow, write_drift
from cpt.report.load import load_run
from cpt.report.objective_plots import objective_weights
from cpt.report.page import render
from cpt.report.sanity_checks import caveats, stage_checks
from cpt.report.summary import Summary, summarise

SFT, GRPO = Arm("sft"), Arm("grpo", "grpo")
JOINT = Arm("all", schedule="joint", gain=0.5)
SINGLE = Arm("alone", schedule="single", gain=0.4)


def summary(root: Path, *arms: Arm) -> Summary:
    make_run(root, arms, samples=40)
    return summarise(load_run(root))


def test_a_joint_arm_has_a_last_row_only(tmp_path: Path):
    found = summary(tmp_path, SFT, JOINT)
    metrics = found.arms[1].numbers["strict"].metrics
    assert metrics["AvgAcc"].value is not None
    assert {name for name, metric in metrics.items() if metric.value is None} == {"MFT", "MAA", "BWT", "FWT", "FM"}
    assert "missing cell: stage 1" in metrics["FM"].reason
    assert [(check.index, check.task, check.state) for check in stage_checks(found)][-1] == (3, "joint", "complete")


def test_a_joint_arms_drift_is_the_mean_over_all_tasks(tmp_path: Path):
    store = make_run(tmp_path, [SFT, JOINT], samples=8)
    measured = [
        DriftRow(task, "new", f"{task}/0", nats, 0.0, 4, 4) for task, nats in (("a", 1.0), ("b", 2.0), ("c", 6.0))
    ]
    where = store.stage_dir("all", 0, 3, "joint")
    write_drift(where.drift, measured)
    store.mark_measured(where, "drift", "all/0/3", "", [where.drift])
    reseal(tmp_path)
    sft, joint = summarise(load_run(tmp_path)).arms
    assert joint.drift.headline.value == pytest.approx(3.0)
    assert joint.drift.headline.definition.startswith("(1/T)")
    assert sft.drift.headline.value is None


def test_references_are_learned_one_by_one_and_forget_nothing(tmp_path: Path):
    metrics = summary(tmp_path, SINGLE).arms[0].numbers["strict"].metrics
    assert metrics["MFT"].value is not None
    assert {name for name, metric in metrics.items() if metric.value is None} == {"AvgAcc", "MAA", "BWT", "FWT", "FM"}


def test_intransigence_is_the_bound_minus_what_was_learned(tmp_path: Path):
    found = summary(tmp_path, SFT, GRPO, SINGLE)
    sft, grpo, alone = (item.headline()["intransigence"] for item in found.arms)
    learned, best = (found.arms[i].numbers["strict"].metrics["MFT"].value for i in (0, 2))
    assert learned is not None and best is not None
    assert sft.value == pytest.approx(best - learned)
    assert sft.value > 0.05  # 0.4 against 0.3 gained
    assert "no bound of this method" in grpo.reason
    assert "is a bound itself" in alone.reason


def test_the_joint_arm_is_the_bound_where_there_are_both(tmp_path: Path):
    found = summary(tmp_path, SFT, SINGLE, JOINT)
    best = found.arms[2].numbers["strict"].metrics["AvgAcc"].value
    learned = found.arms[0].numbers["strict"].metrics["MFT"].value
    assert best is not None and learned is not None
    assert found.arms[0].headline()["intransigence"].value == pytest.approx(best - learned)


def test_bounds_are_in_no_pair_and_the_page_has_the_metric(tmp_path: Path):
    with_bound = summary(tmp_path / "with", SFT, GRPO, JOINT, SINGLE)
    assert {(pair.first.arm.name, pair.second.arm.name) for pair in with_bound.pairs} == {("sft", "grpo")}
    assert "Intransigence" in render(with_bound)


def test_replayed_general_tasks_are_told(tmp_path: Path):
    replaying = Arm("again", replay={"type": "buffer", "tasks": ["x", "elsewhere"]})
    told = [line for line in caveats(summary(tmp_path, SFT, replaying).run) if "replays" in line]
    assert len(told) == 1
    assert "again replays x:" in told[0]


def test_weights_of_objectives_are_drawn_where_there_are_any(tmp_path: Path):
    make_run(tmp_path, [SFT, GRPO], samples=8)
    assert objective_weights(load_run(tmp_path)) == ""
    for path in (tmp_path / "arms" / "sft").rglob("metrics.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        signals = {
            f"objective/{name}/{signal}": 1.5 for name in ("a", "x/format") for signal in ("weight", "instability")
        }
        path.write_text("".join(json.dumps(row | signals) + "\n" for row in rows))
    reseal(tmp_path)
    drawn = objective_weights(load_run(tmp_path))
    assert drawn.startswith("<svg")
    assert "Weights of the objectives" in render(summarise(load_run(tmp_path)))
