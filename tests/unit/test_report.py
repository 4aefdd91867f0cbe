"""The report: one page that needs nothing else, safe with any text, and there for unfinished runs too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from synthetic import Arm, Plan, Recipe, Stage, change_json, make_run, mark_done, records, reseal

from cpt.plan.stages import StagePlan
from cpt.report.during import during_line
from cpt.report.load import load_run, short_value
from cpt.report.page import build_report, render
from cpt.report.sanity_checks import caveats
from cpt.report.summary import summarise
from cpt.report.timing import SHARED, STEP, STEP_REST, TRAINING_REST, phase_seconds, running_seconds, time_bars
from cpt.store.continued import check_may_go_on
from cpt.store.run_store import RunStore
from cpt.store.schemas import ReportedStage

EVIL = ("<script>alert('x')</script><img src=x onerror=alert(1)> {{ 7 * 7 }}", "</pre><b>no [bold]")
SWEEP = [
    Arm("sft@learning_rate=0.001", sweep={"method.learning_rate": 1e-3}, gain=0.4, forget=0.4, general_loss=0.4),
    Arm("sft@learning_rate=0.0001", sweep={"method.learning_rate": 1e-4}, gain=0.2, style_loss=0.5),
    Arm("grpo", "grpo", gain=0.4, forget=0.1, general_loss=0.0),
]


class Tags(HTMLParser):
    """Tags with their attributes, and the text outside of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all_text(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run with a sweep, real tasks, and completions that try to be HTML."""
    root = tmp_path_factory.mktemp("run")
    tasks, general = ["count-colour", "which-row"], ["exists", "x"]
    make_run(root, SWEEP, tasks=tasks, general=general, samples=12, completions=EVIL)
    return root, build_report(root).read_text(encoding="utf-8")


def test_the_page_is_one_file_that_loads_nothing(page: tuple[Path, str]) -> None:
    names = {tag for tag, _ in Tags(page[1]).tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "video", "form", "base"}
    for _, attributes in Tags(page[1]).tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"url\((?!#)", page[1])
    assert "@import" not in page[1]


def test_what_a_model_says_is_text(page: tuple[Path, str]) -> None:
    tags = Tags(page[1])
    assert EVIL[0] in tags.all_text()
    assert "{{ 7 * 7 }}" in tags.all_text()
    assert not [attributes for tag, attributes in tags.tags if tag == "img" and "onerror" in attributes]


def test_every_section_is_there_with_its_figures_and_definitions(page: tuple[Path, str]) -> None:
    tags = Tags(page[1])
    ids = {attributes.get("id") for tag, attributes in tags.tags if tag == "section"}
    assert ids == {
        *("arms", "tradeoff", "matched", "matrices", "stages", "drift", "learning"),
        *("gap", "time", "samples", "sanity-checks", "reproduce"),
    }
    figures = [attributes["aria-label"] for tag, attributes in tags.tags if tag == "figure"]
    assert len(figures) == 9
    text = tags.all_text()
    for definition in ("each task right after its own stage", "drop from the best row", "negative = forgetting"):
        assert definition in text
    assert "leads, not results" in text
    assert "Intransigence" not in text  # nothing here to measure it against
    assert "filters" not in json.loads((page[0] / "summary.json").read_text())
    assert "Not measured: no stage is trained yet" in text  # drift: these stages have none
    assert "sft · lr 1e-4" in text
    assert len([1 for tag, _ in tags.tags if tag == "img"]) > 0


def test_where_style_never_counts_curves_are_drawn_once(page: tuple[Path, str], tmp_path: Path) -> None:
    said, again = "here they agree on every completion", "The same under tolerant scoring"
    assert said not in page[1] and page[1].count(again) == 4
    make_run(tmp_path, [Arm("sft", gain=0.4, forget=0.2)], tasks=["a", "b"], general=["x"], samples=4)
    alike = build_report(tmp_path).read_text(encoding="utf-8")
    assert said in alike and again not in alike


def test_what_the_base_could_do_is_told_task_by_task(page: tuple[Path, str]) -> None:
    """Of the twelve samples of each task: what each arm lost and gained, by the records."""
    found = json.loads((page[0] / "summary.json").read_text())["arms"]
    text = Tags(page[1]).all_text()
    assert "What the base model could do: lost and gained, task by task" in text
    for arm in found.values():
        for kind, tasks in (("base", ["count-colour", "which-row"]), ("general", ["exists", "x"])):
            matrix = arm["strict"]["matrix" if kind == "base" else "general"]
            moved = arm["transitions"][kind]["strict"]["tasks"]
            for column, task in enumerate(tasks):
                change = matrix["values"][-1][column] - matrix["values"][0][column]
                gained, lost = (moved[task][name]["value"] for name in ("gained", "lost"))
                assert gained - lost == pytest.approx(change)


def test_element_ids_are_unique(page: tuple[Path, str]) -> None:
    ids = [attributes["id"] for _, attributes in Tags(page[1]).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_copy_gives_the_same_page_without_torch_or_ray(page: tuple[Path, str], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(page[0], copy)
    (copy / "report.html").unlink()
    code = (
        "import sys; from cpt.report.page import build_report; build_report(sys.argv[1]); "
        "heavy = {'torch', 'ray', 'vllm', 'trl', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(copy)], check=True)
    assert (copy / "report.html").read_text(encoding="utf-8") == page[1]


def test_summary_holds_every_number_with_interval_and_definition(page: tuple[Path, str]) -> None:
    found = json.loads((page[0] / "summary.json").read_text())
    assert set(found["arms"]) == {arm.name for arm in SWEEP}
    arm = found["arms"]["grpo"]
    metric = arm["strict"]["metrics"]["FM"]
    assert metric["low"] <= metric["value"] <= metric["high"]
    assert metric["definition"]
    assert len(arm["strict"]["matrix"]["values"]) == 3
    assert [row["stage"] for row in arm["tolerant"]["retention"]] == [1, 2]
    assert set(arm["transitions"]["trained"]["strict"]) == {"lost", "gained", "superficial", "essential", "tasks"}


# ---- unfinished and unusual runs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stop_after": 0}, "Unfinished: sft, grpo"),
        ({"stop_after": 3}, "Unfinished: grpo"),
        ({"tasks": ["a"], "general": []}, "one task only"),
        ({"seeds": [0, 1]}, "2 seeds"),
    ],
)
def test_a_page_comes_out_of_every_run(tmp_path: Path, options: dict, expected: str) -> None:
    small = {"tasks": ["a", "b"], "general": ["x"], "steps": 2, "samples": 4}
    make_run(tmp_path, [Arm("sft"), Arm("grpo", "grpo")], **{**small, **options})
    text = Tags(build_report(tmp_path).read_text(encoding="utf-8")).all_text()
    assert expected in text
    assert "nan" not in text.lower().split()
    assert "None" not in text.split()


def test_a_run_without_even_the_base_gives_a_page(tmp_path: Path) -> None:
    store = RunStore(tmp_path).open_or_create(Recipe("arms:\n"))
    store.write_plan(Plan(["a"], [], [Stage("sft", "sft", {}, 0, 1, "a", {"type": "sft"})]))
    store.close()
    text = Tags(build_report(tmp_path).read_text(encoding="utf-8")).all_text()
    assert "No evaluation yet" in text
    assert "missing cell: stage 1 × task a" in text


def test_an_arm_with_another_prompt_has_its_own_base(tmp_path: Path) -> None:
    stages = [Stage(arm, arm, {}, 0, 1, "a", {"type": "sft"}, prompt=prompt) for arm, prompt in
              (("short", "direct"), ("long", "think"))]  # fmt: skip
    store = RunStore(tmp_path).open_or_create(Recipe("arms:\n"))
    store.write_plan(Plan(["a"], [], stages))
    for prompt, bits in (("direct", "1000"), ("think", "1110")):
        mark_done(store, store.base_dir(0, prompt), "base", records({(0, "a"): bits}, arm="base"))
    store.close()
    summary = summarise(load_run(tmp_path))
    assert [a.numbers["strict"].trained.values[0, 0] for a in summary.arms] == [0.25, 0.75]
    assert "with the think prompt" in render(summary)


def test_what_is_no_run_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no manifest\.json; give the folder of a cpt run"):
        build_report(tmp_path)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    make_run(tmp_path, [Arm("sft")], steps=2)
    path = RunStore(tmp_path).stage_dir("sft", 0, 2, "b").records
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"02-b/records\.parquet is not what the run wrote"):
        build_report(tmp_path)


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    store = make_run(tmp_path, [Arm("sft")], stop_after=0)
    change_json(store.plan_path, lambda plan: [stage.pop("max_logprob_gap") for stage in plan["stages"]])
    with pytest.raises(
        ValueError, match=r"plan\.json: not what cpt writes: stages\.0\.max_logprob_gap: field required"
    ):
        load_run(tmp_path)


def test_stages_of_another_plan_do_not_count(tmp_path: Path) -> None:
    make_run(tmp_path, [Arm("sft")], steps=2)
    where = RunStore(tmp_path).stage_dir("sft", 0, 3, "c")
    for path in (where.stage_json, where.trained, where.done):
        change_json(path, lambda content: content.update(key="older"))
    run = load_run(tmp_path)
    assert [stage.evaluated for stage in run.arms[0].stages.values()] == [True, True, False]
    assert caveats(run)[-1].startswith("Unfinished: sft")


@pytest.mark.parametrize("field", ["epochs", "passes"])  # older versions wrote `passes`
def test_unequal_amounts_of_data_are_told_before_any_number(tmp_path: Path, field: str) -> None:
    store = make_run(tmp_path, [Arm("sft"), Arm("grpo", "grpo")])
    assert not any("amount of data" in text for text in caveats(load_run(tmp_path)))  # planned before this was noted

    def epochs(more: float):
        def change(plan):
            for stage in plan["stages"]:
                stage[field] = more if (stage["arm"], stage["index"]) == ("grpo", 2) else 1.0

        return change

    change_json(store.plan_path, epochs(3.0))
    told = "The arms don't see the same amount of data: grpo goes over a stage's samples 3 times as often as sft."
    assert told in caveats(load_run(tmp_path))
    assert "see the same amount of data: grpo goes over" in render(summarise(load_run(tmp_path)))
    change_json(store.plan_path, epochs(1.0))
    assert not any("amount of data" in text for text in caveats(load_run(tmp_path)))


def test_arms_stand_in_the_recipes_order_and_sweeps_in_that_of_their_values(tmp_path: Path) -> None:
    store = make_run(tmp_path, [SWEEP[2], SWEEP[0], SWEEP[1]], stop_after=0)
    store.recipe_path.write_text("name: x\narms:\n  sft: {}\n  grpo: {}\n")
    reseal(tmp_path)
    assert [arm.label for arm in load_run(tmp_path).arms] == ["sft · lr 1e-4", "sft · lr 1e-3", "grpo"]


def test_what_a_link_in_a_copied_folder_leads_to_is_not_shown(tmp_path: Path) -> None:
    """Neither in the report, nor as a difference from the recipe that is to be run."""
    store = make_run(tmp_path / "run", SWEEP, stop_after=1)
    change_json(store.manifest_path, lambda content: content.pop("recipe"))  # as whoever sends the folder may
    (tmp_path / "private").write_text("SECRET")
    store.recipe_path.unlink()
    store.recipe_path.symlink_to(tmp_path / "private")
    assert load_run(store.root).recipe_text == ""
    assert "SECRET" not in build_report(store.root).read_text()
    with pytest.raises(ValueError, match="holds a run of another recipe") as refused:
        check_may_go_on(store.root, Recipe("name: other"))
    assert "SECRET" not in str(refused.value)


def test_the_report_reads_only_fields_that_plans_have() -> None:
    assert set(ReportedStage.model_fields) <= {field.name for field in fields(StagePlan)}
    assert set(ReportedStage.model_fields) <= set(Stage("a", "a", {}, 0, 1, "t", {}).as_dict())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0001, "1e-4"), (2.5e-5, "2.5e-5"), (0.05, "0.05"), (0.0, "0"), (8, "8"), (True, "true"), ("cosine", "cosine")],
)
def test_swept_values_are_short(value: object, text: str) -> None:
    assert short_value(value) == text


# ---- time


def test_wall_time_is_split_by_phase(tmp_path: Path) -> None:
    store = make_run(tmp_path, [Arm("sft"), Arm("grpo", "grpo")], steps=10)
    store.add_event("engines", 7.0)
    found = phase_seconds(load_run(tmp_path))
    # Three stages of ten steps; a train event lasts 12 s, an evaluation 3.5 s.
    assert found["sft"] == pytest.approx({STEP: 3 * 6.0, TRAINING_REST: 3 * 6.0, "evaluate": 10.5})
    assert found["grpo"] == pytest.approx(
        {"push": 3.0, "rollout": 10.5, "optimizer": 2.4, STEP_REST: 15.6, TRAINING_REST: 4.5, "evaluate": 10.5}
    )
    assert found[SHARED] == pytest.approx({"evaluate": 4.0, "engines": 7.0})
    bars, colours = time_bars(load_run(tmp_path))
    assert [label for label, _ in bars] == ["sft", "grpo", SHARED]
    assert list(colours)[:2] == ["push", "rollout"]
    assert set(colours) == {name for _, phases in bars for name in phases}


def test_time_running_is_that_of_all_attempts_without_the_pauses(tmp_path: Path) -> None:
    store = make_run(tmp_path, [Arm("sft")], steps=2)
    attempts = [
        {"started": f"2026-01-01T{started}+00:00", "ended": ended and f"2026-01-01T{ended}+00:00", "status": status}
        for started, ended, status in (
            ("08:00:00", "08:05:00", "interrupted"),
            ("09:00:00", None, "running"),  # killed
            ("12:00:00", "12:00:07", "complete"),
        )
    ]
    attempts[-1]["command"] = ["cpt", "run"]
    store.update_manifest(attempts=attempts)
    nine = datetime(2026, 1, 1, 9, tzinfo=UTC).timestamp()
    store.add_event("train", 40.0, start=nine + 20)
    # Five minutes, a minute up to the last thing the killed one did, and seven seconds.
    assert running_seconds(load_run(tmp_path)) == pytest.approx(300 + 60 + 7)
    page = build_report(tmp_path).read_text(encoding="utf-8")
    assert "6 min 7 s, finished" in page
    assert "3, the last one complete" in page


BETWEEN = [
    *(Arm("none", gain=-0.3), Arm("sft", forget=0.6), Arm("grpo", "grpo", gain=0.2, forget=0.1)),
    Arm("joint", schedule="joint"),
]


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose policies were evaluated after steps 4 and 8 of 12, on 10 samples of 20."""
    root = tmp_path_factory.mktemp("between")
    make_run(root, BETWEEN, samples=20, during=(4, 8))
    build_report(root)
    return root


def test_evaluation_between_the_steps_has_a_section(between: Path) -> None:
    page = Tags((between / "report.html").read_text())
    text = page.all_text()
    assert "evaluated between their steps on the first 10 test samples" in text
    for expected in (
        "At matched new-task accuracy during the stage",
        "min-ACC",
        "WC-ACC",
        "2205.13452",
        "interpolated",
    ):
        assert expected in text
    assert any(
        name == "figure" and attrs.get("aria-label") == "Scores by step of the stage" for name, attrs in page.tags
    )
    assert ("a", {"href": "#during"}) in page.tags


def test_what_was_measured_between_the_steps_is_in_the_summary(between: Path) -> None:
    summary = json.loads((between / "summary.json").read_text())
    (second,) = [one for one in summary["during"]["arms"]["sft"] if one["stage"] == 2]
    assert second["steps"] == [0, 4, 8, 12]
    assert second["samples"] == dict.fromkeys("abcxy", 10)
    # After steps 4 and 8 the first task is where it is at the end of the last stage.
    (last,) = [one for one in summary["during"]["arms"]["sft"] if one["stage"] == 3]
    assert second["strict"]["a"][1:3] == [last["strict"]["a"][3]] * 2 != [second["strict"]["a"][3]] * 2
    found = summary["arms"]["sft"]["stability"]["strict"]
    ends = [last["strict"]["a"][3], last["strict"]["b"][3]]
    assert found["min-ACC"]["value"] == pytest.approx(sum(ends) / 2)
    assert found["WC-ACC"]["value"] == pytest.approx(last["strict"]["c"][3] / 3 + 2 / 3 * sum(ends) / 2)
    assert summary["arms"]["joint"]["stability"]["strict"]["min-ACC"]["reason"] == "n/a: no sequence of tasks"
    (stage, *_) = [one for one in summary["during"]["at_equal_accuracy"] if one["stage"] == 2]
    assert list(stage["arms"]) == ["sft", "grpo"]
    assert list(stage["differences"]) == ["grpo"]
    assert stage["unlearned"] == ["none"]


def test_the_lowest_points_are_one_line_in_the_terminal(between: Path) -> None:
    summary = summarise(load_run(between))
    lows = {item.arm.name: item.headline()["min-ACC"].value for item in summary.arms}
    expected = ", ".join(f"{name} {100 * lows[name]:.1f}" for name in ("none", "sft", "grpo"))
    assert during_line(summary) == f"min-ACC, finished tasks at their lowest evaluated step: {expected}"


def test_without_it_nothing_is_said(page: tuple[Path, str]) -> None:
    root, text = page
    assert "min-ACC" not in text and 'id="during"' not in text
    assert "during" not in json.loads((root / "summary.json").read_text())
    assert during_line(summarise(load_run(root))) == ""


def test_records_of_another_stage_between_the_steps_are_noticed(between: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(between, root)
    store = RunStore(root)
    ours, theirs = (store.stage_dir("sft", 0, i, task).during for i, task in ((2, "b"), (3, "c")))
    shutil.copy(theirs, ours)
    with pytest.raises(ValueError, match=r"during\.parquet"):
        load_run(root)
    reseal(root)
    with pytest.raises(ValueError, match="step 4 is of another stage"):
        load_run(root)
