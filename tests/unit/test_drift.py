"""Drift: means over prompts, tasks and seeds, what is undefined, and what the plan and the report make of it."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from synthetic import Arm, change_json, make_run, reseal

from cpt.evaluate.drift import DIRECTIONS, DriftRow, drift, rank_correlation, read_drift, write_drift
from cpt.evaluate.stats import Bootstrap
from cpt.plan.make import make_plan
from cpt.recipe import Recipe
from cpt.report.drift import drift_figure, drift_view, nats, points
from cpt.report.load import load_run
from cpt.report.page import build_report
from cpt.report.summary import summarise
from cpt.report.terminal_table import print_summary

BOOT = Bootstrap(resamples=200)
RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "test",
    "model": "builtin/tiny-qwen2_5-vl",
    "tasks": ["count-colour", "which-row"],
    "general": ["exists"],
    "evaluation": {"samples": 40},
    "arms": {"sft": {"method": {"type": "sft"}}},
}


def rows(task: str, group: str, forward: Sequence[float], tokens: Sequence[int] | None = None) -> list[DriftRow]:
    """One row per value; reverse is ten times forward, over completions of one token."""
    lengths = tokens or [1] * len(forward)
    return [
        DriftRow(task, group, f"{task}/test/{i}", value, 10 * value, length, 1)
        for i, (value, length) in enumerate(zip(forward, lengths, strict=True))
    ]


def test_means_over_prompts_then_tasks() -> None:
    """Prior: ((1 + 3) / 2 + 5) / 2 = 3.5, not the mean of all three prompts."""
    second = [*rows("b", "new", [4.0]), *rows("a", "prior", [1.0, 3.0]), *rows("z", "prior", [5.0])]
    found = drift({(0, 1): rows("a", "new", [2.0]), (0, 2): second}, [0], 2, BOOT)
    assert found.stages[1]["forward", "new"].value == 4.0
    assert found.stages[1]["forward", "prior"].value == 3.5
    assert found.stages[1]["reverse", "prior"].value == 35.0
    assert found.headline.value == pytest.approx((2 + 4) / 2)


def test_per_token_is_all_nats_over_all_tokens() -> None:
    """(1 + 2) / (2 + 10), where the mean of the completions' own rates would be 0.35."""
    found = drift({(0, 1): rows("a", "new", [1.0, 2.0], tokens=[2, 10])}, [0], 1, BOOT)
    assert found.per_token[0]["forward", "new"].value == pytest.approx(0.25)
    assert found.per_token[0]["reverse", "new"].value == pytest.approx(15.0)


def test_intervals_hold_the_mean_and_vanish_where_prompts_are_alike() -> None:
    spread = drift({(0, 1): rows("a", "new", np.linspace(0, 1, 30).tolist())}, [0], 1, BOOT).stages[0]["forward", "new"]
    assert spread.low is not None and spread.high is not None and spread.value is not None
    assert spread.value == pytest.approx(0.5)
    assert 0.3 < spread.low < 0.5 < spread.high < 0.7
    alike = drift({(0, 1): rows("a", "new", [0.25] * 8)}, [0], 1, BOOT).stages[0]["forward", "new"]
    assert (alike.low, alike.value, alike.high) == (0.25, 0.25, 0.25)


def test_seeds_are_averaged() -> None:
    measured = {(0, 1): rows("a", "new", [1.0]), (3, 1): rows("a", "new", [2.0])}
    found = drift(measured, [0, 3], 1, BOOT)
    assert (found.headline.value, found.headline.seeds) == (1.5, 2)
    assert found.stages[0]["forward", "new"].value == 1.5


def test_what_is_undefined_says_why() -> None:
    old = "the stage was trained without measuring it"
    found = drift({(0, 1): rows("a", "new", [1.0]), (0, 2): old}, [0], 3, BOOT)
    first, second, third = found.stages
    assert first["forward", "prior"].reason == "n/a: no task is finished before the first stage"
    assert first["reverse", "general"].reason == "n/a: no general tasks"
    assert first["forward", "prior"].value is None
    assert all(metric.reason == f"n/a: {old}" for metric in second.values())
    assert all(metric.reason == "n/a: not trained yet" for metric in third.values())
    assert found.headline.value is None and found.headline.reason == f"n/a: {old}"
    json.dumps(found.as_dict(), allow_nan=False)


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 1000]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # Ranks [0, 1.5, 1.5, 3] and [0, 2, 1, 3]: 4.5 / sqrt(4.5 · 5).
    assert rank_correlation([1, 2, 2, 3], [5, 7, 6, 8]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert np.isnan(rank_correlation([1, 1], [1, 2]))


def test_rows_survive_the_file(tmp_path: Path) -> None:
    wanted = [*rows("a", "new", [0.1, 1e-9]), *rows("b", "general", [0.0])]
    write_drift(tmp_path / "drift.parquet", wanted)
    assert read_drift(tmp_path / "drift.parquet") == wanted
    for wrong in (
        {"forward": -5.0},
        {"reverse": math.nan},
        {"forward": math.inf},
        {"group": "old"},
        {"reverse_tokens": -1},
    ):
        write_drift(tmp_path / "drift.parquet", [wanted[0], replace(wanted[0], **wrong)])
        with pytest.raises(ValueError, match=r"drift\.parquet, row 1: not a measured drift"):
            read_drift(tmp_path / "drift.parquet")
    (tmp_path / "drift.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(ValueError, match=r"drift\.parquet: not a whole parquet file"):
        read_drift(tmp_path / "drift.parquet")


def test_a_plan_names_tasks_by_what_they_are_to_the_stage() -> None:
    first, second = make_plan(Recipe.model_validate(RECIPE)).stages
    assert first.drift.groups == {"new": ("count-colour",), "prior": (), "general": ("exists",)}
    assert second.drift.groups == {"new": ("which-row",), "prior": ("count-colour",), "general": ("exists",)}
    assert second.drift.samples == {"which-row": 40, "count-colour": 40, "exists": 40}  # all that are evaluated


def test_drift_is_no_part_of_what_a_policy_is() -> None:
    """Neither the stages' keys nor the recipe's identity change with it: finished work stays finished."""
    default = Recipe.model_validate(RECIPE)
    for samples in (0, 7):
        other = Recipe.model_validate(RECIPE | {"drift": {"samples": samples}})
        assert other.resolved_hash() == default.resolved_hash()
        plans = zip(make_plan(other).stages, make_plan(default).stages, strict=True)
        assert all(ours.key == theirs.key for ours, theirs in plans)
        assert set(make_plan(other).stages[1].drift.samples.values()) == ({samples} if samples else set())


@pytest.fixture(scope="module")
def measured_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of three stages; the third stage of grpo was trained without drift."""
    root = tmp_path_factory.mktemp("run")
    store = make_run(root, [Arm("sft", forget=0.4, general_loss=0.4), Arm("grpo", "grpo", gain=0.3, forget=0.1)])
    tasks = ("a", "b", "c")
    for arm, size in (("sft", 2.0), ("grpo", 0.01)):
        for index, task in enumerate(tasks, start=1):
            if (arm, index) == ("grpo", 3):
                continue
            found = rows(task, "new", [size * index] * 3)
            for earlier in tasks[: index - 1]:
                found += rows(earlier, "prior", [size] * 3)
            found += rows("x", "general", [size / 2] * 3) + rows("y", "general", [size / 4] * 3)
            where = store.stage_dir(arm, 0, index, task)
            write_drift(where.drift, found)
            store.mark_measured(where, "drift", f"{arm}/0/{index}", "", [where.drift])
    reseal(root)
    return root


def test_the_report_shows_drift_with_its_definition(measured_run: Path) -> None:
    page = build_report(measured_run).read_text(encoding="utf-8")
    section = page[page.index('<section id="drift">') : page.index('<section id="learning">')]
    assert "y∼π0" in section and "‖" in section
    assert '<span class="value">6.00</span>' in section  # sft, third stage, forward on its own task
    assert '<span class="value">60.00</span>' in section  # and reverse
    assert "no task is finished before the first stage" in section
    assert "not measured" in section
    assert "rank correlation" in section and "<svg" in section
    found = json.loads((measured_run / "summary.json").read_text())["arms"]
    assert found["sft"]["drift"]["headline"]["value"] == pytest.approx(4.0)
    assert found["grpo"]["drift"]["headline"]["value"] is None
    assert found["sft"]["drift"]["stages"][1]["forward"]["prior"]["per_completion"]["value"] == pytest.approx(2.0)
    assert set(found["sft"]["drift"]["stages"][0]) == set(DIRECTIONS)


def test_points_pair_drift_with_what_was_lost_after_the_same_stage(measured_run: Path) -> None:
    summary = summarise(load_run(measured_run), BOOT)
    forgotten = points(summary, "strict", "forgetting")
    assert [(point.arm.name, point.stage) for point in forgotten] == [("sft", 2), ("sft", 3), ("grpo", 2)]
    assert [point.drift for point in forgotten] == pytest.approx([4.0, 6.0, 0.02])
    sft = summary.arms[0].numbers["strict"]
    assert forgotten[1].cost == pytest.approx(sft.metrics["FM"].value)  # after the last stage it is the run's FM
    lost = points(summary, "strict", "general loss")
    assert [(point.arm.name, point.stage) for point in lost][:3] == [("sft", 1), ("sft", 2), ("sft", 3)]
    assert lost[2].cost == pytest.approx(-(sft.retention.final.value or 0.0))


def test_a_run_without_drift_still_has_a_report(tmp_path: Path) -> None:
    """Its page is among those of test_report.py."""
    make_run(tmp_path, [Arm("sft")])
    summary = summarise(load_run(tmp_path), BOOT)
    assert drift_view(summary)["rows"] == []
    assert drift_figure(summary, "strict") == ""
    assert "drift" not in printed(tmp_path, 160)


def test_what_the_recipe_asks_for_no_more_is_not_reported(measured_run: Path, tmp_path: Path) -> None:
    """Otherwise stages that were measured before would stand beside those after. Asked for again, it is there."""
    root = tmp_path / "run"
    shutil.copytree(measured_run, root)
    plan = root / "plan.json"

    def headline() -> float | None:
        return summarise(load_run(root), BOOT).arms[0].drift.headline.value

    def ask(samples: dict[str, int]) -> None:
        change_json(plan, lambda content: [stage.update(drift={"samples": samples}) for stage in content["stages"]])

    ask({})
    assert headline() is None
    assert "the recipe asks for none" in build_report(root).read_text(encoding="utf-8")
    ask({"a": 3})
    assert headline() == pytest.approx(4.0)


def printed(root: Path, width: int) -> str:
    out = StringIO()
    print_summary(root, Console(file=out, width=width))
    return out.getvalue()


def test_the_end_table_has_drift_where_there_is_room(measured_run: Path) -> None:
    wide = printed(measured_run, 160)
    last = {words[0]: words[-1] for line in wide.splitlines() if (words := line.split())}
    assert (last["sft"], last["grpo"]) == ("4.00", "n/a")
    assert "drift = (1/T)" in wide
    assert "drift" not in printed(measured_run, 40)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (12.345, "12.35"), (0.123, "0.12"), (0.0123, "0.012"), (3.21e-6, "3.2e−6"), (-1e-9, "−1.0e−9")],
)
def test_nats_have_two_digits(value: float, text: str) -> None:
    assert nats(value) == text
