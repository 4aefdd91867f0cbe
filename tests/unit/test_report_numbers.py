"""The report's numbers by hand: arms compared, samples shown, what is flagged, and what the terminal says."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from synthetic import Arm, Plan, Recipe, Stage, make_run, mark_done, records, reseal

from cpt.common.stored_pictures import PictureFile, StoredPictures
from cpt.report.load import load_run
from cpt.report.page import render
from cpt.report.sample_cards import held_out_samples, sample_cards
from cpt.report.sanity_checks import stage_checks, task_checks
from cpt.report.summary import summarise
from cpt.report.terminal_table import print_summary
from cpt.report.verdict import both_learned
from cpt.store.records import read_records, write_records
from cpt.store.run_store import RunStore


def hand_made(root: Path, arms: dict[str, dict[tuple[int, str], str]], tasks: list[str], general: list[str]) -> None:
    """A run whose outcomes are given bit by bit; stage 0 of the first arm is the base."""
    stages = [Stage(arm, arm, {}, 0, i, task, {"type": "sft"}) for arm in arms for i, task in enumerate(tasks, start=1)]
    store = RunStore(root).open_or_create(Recipe("arms:\n"))
    store.write_plan(Plan(tasks, general, stages))
    rows = {arm: records(cells, arm=arm) for arm, cells in arms.items()}
    mark_done(store, store.base_dir(0, "direct"), "base", [r for r in next(iter(rows.values())) if r.stage == 0])
    for stage in stages:
        policy = store.begin_stage(stage).policy
        policy.mkdir()
        (policy / "config.json").write_text("{}")
        store.mark_trained(stage, steps=stage.steps)
        mark_done(store, store.stage(stage), stage.key, [r for r in rows[stage.arm] if r.stage == stage.index])
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
    assert both_learned(strict, stage_checks(summary))
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
    summary = summarise(load_run(tmp_path))
    pair = summary.pairs[0]
    assert pair.matched
    assert not both_learned(pair, stage_checks(summary))


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


def test_a_card_whose_picture_is_gone_is_made_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path, [Arm("sft")], tasks=["which-row"], general=[], samples=2)
    gone = StoredPictures([PictureFile(tmp_path / "gone.png")], "sample of a copied run")
    made = {name: replace(sample, images=gone) for name, sample in held_out_samples("which-row", 2).items()}
    monkeypatch.setattr("cpt.report.sample_cards.held_out_samples", lambda task, n: made)
    cards = sample_cards(summarise(load_run(tmp_path)))
    assert len(cards) == 2
    assert {card.question for card in cards} == {sample.question for sample in made.values()}
    assert all(card.images == () for card in cards)


def test_a_picture_that_is_not_the_runs_is_not_shown(tmp_path: Path) -> None:
    store = make_run(tmp_path, [Arm("sft")], tasks=["which-row"], general=[], samples=2)
    for where in (store.base_dir(0, "direct"), store.stage_dir("sft", 0, 1, "which-row")):
        asked = [replace(record, prompt="<user> what an older version asked <assistant>") for record in
                 read_records(where.records)]  # fmt: skip
        write_records(where.records, asked)
    reseal(tmp_path)
    for card in sample_cards(summarise(load_run(tmp_path))):
        assert card.images == ()
        assert card.question == "<user> what an older version asked <assistant>"


# ---- sanity checks


def test_gates_flag_what_makes_a_comparison_worthless(tmp_path: Path) -> None:
    make_run(tmp_path, [Arm("sft", gain=0.0), Arm("grpo", "grpo")], samples=40)
    metrics = RunStore(tmp_path).stage_dir("grpo", 0, 2, "b").metrics
    with metrics.open("a") as handle:
        handle.write('{"step": 13, "logprob_gap": 0.5}\n')
    reseal(tmp_path)
    summary = summarise(load_run(tmp_path))
    checks = {(check.arm, check.index): check for check in stage_checks(summary)}
    assert checks["sft", 1].flags == ("not learned: less than 10 points over the base",)
    assert checks["grpo", 1].flags == ()
    assert checks["grpo", 1].gap == pytest.approx(6e-6, abs=6e-6)
    assert checks["grpo", 2].flags == ("metrics of 13 of 12 steps", "log-probability gap above its bound")
    assert all(check.flag == "" for check in task_checks(summary))


def test_tasks_without_headroom_or_skill_are_flagged(tmp_path: Path) -> None:
    base = {(0, "a"): "1" * 20, (0, "b"): "0" * 20, (0, "x"): "1" + "0" * 19}
    rest = {(i, task): "1" * 20 for i in (1, 2) for task in "abx"}
    hand_made(tmp_path, {"sft": {**base, **rest}}, ["a", "b"], ["x"])
    flags = {check.task: check.flag for check in task_checks(summarise(load_run(tmp_path)))}
    assert "headroom" in flags["a"]
    assert "never right" in flags["b"]
    assert "could be forgotten" in flags["x"]


# ---- terminal


def test_the_terminal_shows_the_headline_numbers(tmp_path: Path) -> None:
    hand_made(tmp_path, {"sft": {**BASE, **FORGETFUL}, "grpo": KEEPING}, ["a", "b"], ["x"])
    out = StringIO()
    print_summary(tmp_path, Console(file=out, width=110))
    lines = out.getvalue().splitlines()
    sft = next(line for line in lines if line.strip().startswith("sft"))
    assert re.findall(r"([+−]?\d+\.\d) +\(", sft) == ["80.0", "50.0", "−60.0", "−60.0"]
    assert any(line.startswith("BWT = 1/(T−1)") for line in lines)
    assert any("leads, not results" in line for line in lines)
    assert max(map(len, lines)) <= 110


def test_a_narrow_terminal_gets_the_numbers_alone(tmp_path: Path) -> None:
    make_run(tmp_path, [Arm("sft")], stop_after=1, steps=2)
    out = StringIO()
    print_summary(summarise(load_run(tmp_path)), Console(file=out, width=70))
    sft = next(line for line in out.getvalue().splitlines() if line.strip().startswith("sft"))
    assert sft.split()[1:] == ["n/a"] * 4


def test_the_title_promises_the_intervals_that_are_shown(tmp_path: Path) -> None:
    hand_made(tmp_path, {"sft": {**BASE, **FORGETFUL}, "grpo": KEEPING}, ["a", "b"], ["x"])
    summary = summarise(load_run(tmp_path))
    seen = set()
    for width in range(60, 140, 4):
        out = StringIO()
        print_summary(summary, Console(file=out, width=width))
        title, *rest = out.getvalue().splitlines()
        sft = next(line for line in rest if line.strip().startswith("sft"))
        promised = title.rstrip() == "synthetic: percent and points, 95 % intervals"
        assert promised or title.rstrip() == "synthetic: percent and points"
        assert ("The 95 % intervals are in report.html" in out.getvalue()) != promised
        assert sft.count("(") == (4 if promised else 0)
        assert max(map(len, rest)) <= width
        seen.add(promised)
    assert seen == {True, False}


def test_an_interval_has_the_digits_of_its_value(tmp_path: Path) -> None:
    """Rounded to whole points, −0.2 would stand beside an interval from 0 to 0."""
    bits = "1" * 500
    rest = {(i, task): bits for i in (1, 2) for task in "abx"}
    rest[2, "x"] = "0" + bits[1:]
    hand_made(tmp_path, {"sft": {**{(0, task): bits for task in "abx"}, **rest}}, ["a", "b"], ["x"])
    out = StringIO()
    print_summary(tmp_path, Console(file=out, width=120))
    assert re.search(r"−0\.2 +\(−\d\.\d, \+0\.\d\)", out.getvalue())
    assert re.search(r">−0\.2</span> <span class=\"range\">−\d\.\d to \+0\.\d<", render(summarise(load_run(tmp_path))))
