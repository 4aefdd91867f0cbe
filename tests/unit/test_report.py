"""The report: right numbers, self-contained, safe with any text, and there for unfinished runs too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from synthetic import Arm, Plan, Recipe, Stage, make_run, records

from cpt.files import read_records, write_records
from cpt.plan import StagePlan
from cpt.report.build import build_report, render
from cpt.report.gates import caveats, stage_gates, task_gates
from cpt.report.load import STAGE_FIELDS, load_run, short_value
from cpt.report.samples import sample_cards
from cpt.report.summary import summarise
from cpt.report.terminal import print_summary
from cpt.report.timing import SHARED, STEP, STEP_REST, TRAINING_REST, phase_seconds, time_bars
from cpt.store import RunStore

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
        *("gap", "time", "samples", "validity", "reproduce"),
    }
    figures = [attributes["aria-label"] for tag, attributes in tags.tags if tag == "figure"]
    assert len(figures) == 9
    text = tags.all_text()
    for definition in ("each task right after its own stage", "drop from the best row", "negative = forgetting"):
        assert definition in text
    assert "leads, not results" in text
    assert "Not measured: no stage is trained yet" in text  # drift: these stages have none
    assert "sft · lr 1e-4" in text
    assert len([1 for tag, _ in tags.tags if tag == "img"]) > 0


def test_element_ids_are_unique(page: tuple[Path, str]) -> None:
    ids = [attributes["id"] for _, attributes in Tags(page[1]).tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_a_copy_gives_the_same_page_without_torch_or_ray(page: tuple[Path, str], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(page[0], copy)
    (copy / "report.html").unlink()
    code = (
        "import sys; from cpt.report.build import build_report; build_report(sys.argv[1]); "
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


# ---- numbers, by hand


def hand_made(root: Path, arms: dict[str, dict[tuple[int, str], str]], tasks: list[str], general: list[str]) -> None:
    """A run whose outcomes are given bit by bit; stage 0 of the first arm is the base."""
    stages = [Stage(arm, arm, {}, 0, i, task, {"type": "sft"}) for arm in arms for i, task in enumerate(tasks, start=1)]
    store = RunStore(root).open_or_create(Recipe("arms:\n"))
    store.write_plan(Plan(tasks, general, stages))
    rows = {arm: records(cells, arm=arm) for arm, cells in arms.items()}
    store.mark_base_done(0, "direct", "base", [r for r in next(iter(rows.values())) if r.stage == 0])
    for stage in stages:
        policy = store.begin_stage(stage).policy
        policy.mkdir()
        (policy / "config.json").write_text("{}")
        store.mark_trained(stage, steps=stage.steps)
        store.mark_done(stage, [r for r in rows[stage.arm] if r.stage == stage.index])
    store.close()


BASE = {(0, "a"): "0000000000", (0, "b"): "1000000000", (0, "x"): "1111111111"}
FORGETFUL = {
    (1, "a"): "1111111100",
    (1, "b"): "1000000000",
    (1, "x"): "1111111000",
    (2, "a"): "1100000000",
    (2, "b"): "1111111100",
    (2, "x"): "1111000000",
}
KEEPING = {
    (1, "a"): "1111111100",
    (1, "b"): "1000000000",
    (1, "x"): "1111111111",
    (2, "a"): "1111111000",
    (2, "b"): "1111111100",
    (2, "x"): "1111111110",
}


def test_arms_at_matched_new_task_accuracy_are_compared_by_hand(tmp_path: Path) -> None:
    hand_made(tmp_path, {"sft": {**BASE, **FORGETFUL}, "grpo": KEEPING}, ["a", "b"], ["x"])
    summary = summarise(load_run(tmp_path))
    one, two = summary.arms
    assert one.headline()["MFT"].value == two.headline()["MFT"].value == pytest.approx(0.8)
    assert one.headline()["FM"].value == pytest.approx(0.6)
    assert one.headline()["retention"].value == pytest.approx(-0.6)
    assert one.headline()["essential"].value == pytest.approx(0.6)
    strict = next(pair for pair in summary.pairs if pair.scoring == "strict")
    assert strict.matched
    assert strict.learned
    assert strict.gaps["MFT"].value == 0
    assert strict.gaps["FM"].value == pytest.approx(0.5)
    assert strict.gaps["retention"].value == pytest.approx(-0.5)


def test_without_a_matched_setting_the_closest_pair_is_shown_as_unmatched(tmp_path: Path) -> None:
    weak = {**KEEPING, (1, "a"): "1100000000", (2, "a"): "1100000000"}
    hand_made(tmp_path, {"sft": {**BASE, **FORGETFUL}, "grpo": weak}, ["a", "b"], ["x"])
    pair = summarise(load_run(tmp_path)).pairs[0]
    assert not pair.matched
    assert pair.gaps["MFT"].value == pytest.approx(0.3)


def test_arms_that_learned_nothing_are_matched_but_not_learned(tmp_path: Path) -> None:
    idle = {(i, task): bits for i in (1, 2) for (_, task), bits in BASE.items()}
    hand_made(tmp_path, {"sft": {**BASE, **idle}, "grpo": idle}, ["a", "b"], ["x"])
    pair = summarise(load_run(tmp_path)).pairs[0]
    assert pair.matched
    assert not pair.learned


def test_samples_that_flipped_come_first(tmp_path: Path) -> None:
    hand_made(tmp_path, {"sft": {**BASE, **FORGETFUL}, "grpo": KEEPING}, ["a", "b"], ["x"])
    cards = sample_cards(summarise(load_run(tmp_path)), per_task=2)
    # Sample 7 of a is lost by both arms, 9 of x too; 2 of a and 4 of x by sft alone; b, the last task, can't be lost.
    assert [(card.sample_id, card.flips) for card in cards] == [
        ("a/test/7", 2),
        ("x/test/9", 2),
        ("a/test/2", 1),
        ("x/test/4", 1),
        ("b/test/0", 0),
        ("b/test/1", 0),
    ]
    card = cards[0]
    assert card.images == ()  # no task of this name is installed: text alone
    assert card.question == "question 7"
    assert card.columns == ("base", "after own stage 1", "at the end")
    sft = card.rows[0]
    assert [cell is not None and cell.strict for cell in sft.cells] == [False, True, False]
    assert sft.flipped
    assert cards[1].columns == ("base", "at the end")


def test_pictures_of_installed_tasks_are_shown(tmp_path: Path) -> None:
    make_run(tmp_path, [Arm("sft")], tasks=["which-row"], general=["arithmetic"], samples=3)
    cards = {card.task: card for card in sample_cards(summarise(load_run(tmp_path)))}
    assert len(cards["which-row"].images) == 1
    assert cards["which-row"].images[0].startswith("data:image/png;base64,iVBOR")
    assert cards["arithmetic"].images == ()


def test_a_picture_that_is_not_the_runs_is_not_shown(tmp_path: Path) -> None:
    store = make_run(tmp_path, [Arm("sft")], tasks=["which-row"], general=[], samples=2)
    for where in (store.base_dir(0, "direct"), store.stage_dir("sft", 0, 1, "which-row")):
        asked = [replace(record, prompt="<user> what an older version asked <assistant>") for record in
                 read_records(where.records)]  # fmt: skip
        write_records(where.records, asked)
    for card in sample_cards(summarise(load_run(tmp_path))):
        assert card.images == ()
        assert card.question == "<user> what an older version asked <assistant>"


# ---- validity


def test_gates_flag_what_makes_a_comparison_worthless(tmp_path: Path) -> None:
    make_run(tmp_path, [Arm("sft", gain=0.0), Arm("grpo", "grpo")], samples=40)
    metrics = RunStore(tmp_path).stage_dir("grpo", 0, 2, "b").metrics
    with metrics.open("a") as handle:
        handle.write('{"step": 13, "logprob_gap": 0.5}\n')
    summary = summarise(load_run(tmp_path))
    gates = {(gate.arm, gate.index): gate for gate in stage_gates(summary)}
    assert gates["sft", 1].flags == ("not learned: less than 10 points over the base",)
    assert gates["grpo", 1].flags == ()
    assert gates["grpo", 1].gap == pytest.approx(6e-6, abs=6e-6)
    assert gates["grpo", 2].flags == ("metrics of 13 of 12 steps", "log-probability gap above its bound")
    assert all(gate.flag == "" for gate in task_gates(summary))


def test_tasks_without_headroom_or_skill_are_flagged(tmp_path: Path) -> None:
    base = {(0, "a"): "1" * 20, (0, "b"): "0" * 20, (0, "x"): "1" + "0" * 19}
    rest = {(i, task): "1" * 20 for i in (1, 2) for task in "abx"}
    hand_made(tmp_path, {"sft": {**base, **rest}}, ["a", "b"], ["x"])
    flags = {gate.task: gate.flag for gate in task_gates(summarise(load_run(tmp_path)))}
    assert "headroom" in flags["a"]
    assert "never right" in flags["b"]
    assert "could be forgotten" in flags["x"]


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
        store.mark_base_done(0, prompt, "base", records({(0, "a"): bits}, arm="base"))
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
    with pytest.raises(ValueError, match=r"02-b/records\.parquet: not a whole parquet file"):
        build_report(tmp_path)


def test_a_plan_of_another_version_is_refused(tmp_path: Path) -> None:
    store = make_run(tmp_path, [Arm("sft")], stop_after=0)
    store.plan_path.write_text(store.plan_path.read_text().replace('"max_logprob_gap"', '"gap"'))
    with pytest.raises(ValueError, match="a stage without max_logprob_gap"):
        load_run(tmp_path)


def test_stages_of_another_plan_do_not_count(tmp_path: Path) -> None:
    make_run(tmp_path, [Arm("sft")], steps=2)
    done = RunStore(tmp_path).stage_dir("sft", 0, 3, "c").done
    done.write_text(done.read_text().replace("sft/0/3", "older"))
    run = load_run(tmp_path)
    assert [stage.evaluated for stage in run.arms[0].stages.values()] == [True, True, False]
    assert caveats(run)[-1].startswith("Unfinished: sft")


def test_arms_stand_in_the_recipes_order_and_sweeps_in_that_of_their_values(tmp_path: Path) -> None:
    store = make_run(tmp_path, [SWEEP[2], SWEEP[0], SWEEP[1]], stop_after=0)
    store.recipe_path.write_text("name: x\narms:\n  sft: {}\n  grpo: {}\n")
    assert [arm.label for arm in load_run(tmp_path).arms] == ["sft · lr 1e-4", "sft · lr 1e-3", "grpo"]


def test_the_report_reads_only_fields_that_plans_have() -> None:
    assert set(STAGE_FIELDS) <= {field.name for field in fields(StagePlan)}
    assert set(STAGE_FIELDS) <= set(Stage("a", "a", {}, 0, 1, "t", {}).as_dict())


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


# ---- terminal


def test_the_terminal_shows_the_headline_numbers(tmp_path: Path) -> None:
    hand_made(tmp_path, {"sft": {**BASE, **FORGETFUL}, "grpo": KEEPING}, ["a", "b"], ["x"])
    out = StringIO()
    print_summary(tmp_path, Console(file=out, width=110))
    lines = out.getvalue().splitlines()
    sft = next(line for line in lines if line.strip().startswith("sft"))
    assert re.findall(r"[+−]?\d+\.\d", sft) == ["80.0", "50.0", "60.0", "−60.0"]
    assert "(" in sft
    assert any("drop from the best row" in line for line in lines)
    assert any("leads, not results" in line for line in lines)
    assert max(map(len, lines)) <= 110


def test_a_narrow_terminal_gets_the_numbers_alone(tmp_path: Path) -> None:
    make_run(tmp_path, [Arm("sft")], stop_after=1, steps=2)
    out = StringIO()
    print_summary(summarise(load_run(tmp_path)), Console(file=out, width=70))
    sft = next(line for line in out.getvalue().splitlines() if line.strip().startswith("sft"))
    assert sft.split()[1:] == ["n/a"] * 4
