"""What the report says of filters: keep rates by hand, the histogram, and nothing where nobody filters."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from synthetic import Arm, Plan, Recipe, Stage, make_run, reseal

from cpt.common.files import append_jsonl
from cpt.methods.filtering import RIF, FilterFile, PromptRollouts, write_filter
from cpt.report.filters import filtered_stages
from cpt.report.load import load_run
from cpt.report.page import build_report
from cpt.store.run_store import RunStore

EVIL = "<script>alert(1)</script>"


@dataclass(frozen=True)
class Filtered(Stage):
    """A planned stage of an arm with a filter."""

    filter: dict[str, Any] = field(default_factory=dict)
    batch_samples: int = 2


def evidence(key: str, rule: RIF, rights: list[str], kept: list[bool]) -> FilterFile:
    prompts = []
    for number, right in enumerate(rights):
        bits = tuple(bit == "1" for bit in right)
        prompts.append(PromptRollouts(str(number), "a", (EVIL,) * len(bits), tuple(map(float, bits)), bits))
    return FilterFile(key, rule, prompts, kept)


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    """Two filtered stages, one of them trained; the file in a stage of the other arm belongs to none."""
    rule = RIF(type="rif", rollouts=2, keep="learnable", control="random_same_size")
    stages = [
        Filtered(arm, arm, {}, 0, i, task, {"type": "grpo"}, filter=rule.model_dump() if arm == "rif" else None)
        for arm in ("grpo", "rif")
        for i, task in enumerate(("a", "b"), start=1)
    ]
    store = RunStore(tmp_path).open_or_create(Recipe("name: x\narms:\n  grpo: {}\n  rif: {}\n"))
    store.write_plan(Plan(["a", "b"], [], stages))
    first, second = stages[2:]
    write_filter(
        store.begin_stage(first).filter,
        evidence(first.key, rule, ["00", "01", "10", "11", "11"], [False, True, False, True, False]),
    )
    for step, share in ((1, 0.5), (2, 0.25)):
        append_jsonl(store.stage(first).metrics, {"step": step, "reward": 0.5, "frac_zero_std": share})
    write_filter(store.begin_stage(second).filter, evidence(second.key, rule, ["01", "00"], [True, False]))
    write_filter(store.begin_stage(stages[0]).filter, evidence("another", rule, ["01"], [True]))
    store.close()
    return store


def test_numbers_by_hand(run: RunStore):
    first, second = filtered_stages(load_run(run.root))
    assert (first.arm.name, first.index, first.task) == ("rif", 1, "a")
    assert (first.everything, first.kept) == ((1, 2, 2), (0, 1, 1))
    assert first.keep_rate == pytest.approx(0.4)
    assert first.pass_rate == pytest.approx((2 * 0.5 + 2 * 1) / 5)
    assert first.kept_pass_rate == pytest.approx(0.75)
    assert first.wasted == pytest.approx(0.375)
    assert not first.scarce
    assert second.scarce and second.wasted is None


def test_a_joint_stage_has_a_keep_rate_per_task(tmp_path: Path):
    make_run(tmp_path, [Arm("sft"), Arm("all", schedule="joint")], tasks=("a", "b"))
    plan = json.loads((tmp_path / "plan.json").read_text())
    rule = RIF(type="rif", rollouts=2, keep="learnable")
    joint = next(stage for stage in plan["stages"] if stage["arm"] == "all")
    joint |= {"filter": rule.model_dump(), "batch_samples": 2}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    found = evidence(joint["key"], rule, ["00", "01", "10", "11"], [False, True, True, False])
    tasks = [replace(one, task=task) for one, task in zip(found.prompts, "aabb", strict=True)]
    path = RunStore(tmp_path).stage_dir("all", 0, 2, "joint").filter
    write_filter(path, replace(found, prompts=[*tasks, replace(tasks[-1], sample_id="4")], kept=[*found.kept, False]))
    reseal(tmp_path)
    first, second = filtered_stages(load_run(tmp_path))
    assert [(one.index, one.task, one.prompts) for one in (first, second)] == [(2, "a", 2), (2, "b", 3)]
    assert (first.kept, second.kept) == ((0, 1, 0), (0, 1, 0))
    assert not first.scarce
    assert 'id="filter"' in build_report(tmp_path).read_text(encoding="utf-8")


def test_the_page_and_the_summary_show_them(run: RunStore):
    page = build_report(run.root).read_text(encoding="utf-8")
    assert '<section id="filter">' in page and '<a href="#filter">' in page
    assert "random_same_size" in page and "40.0 %" in page and "fewer than a batch" in page
    assert 'aria-label="Training prompts by pass rate, kept and dropped"' in page
    assert EVIL not in page
    found = json.loads((run.root / "summary.json").read_text())["filters"]
    assert [one["stage"] for one in found] == [1, 2]
    assert found[0]["kept_by_passes"] == [0, 1, 1]
    assert found[0]["filter"]["control"] == "random_same_size"


def test_a_damaged_file_is_named(run: RunStore):
    path = next(run.root.glob("arms/rif/*/01-a/filter.parquet"))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"filter\.parquet: not a whole parquet file"):
        build_report(run.root)
