"""What the report and the terminal say in a sentence, from outcomes given bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from synthetic import Arm, make_run
from test_report_numbers import BASE, FORGETFUL, KEEPING, hand_made

from cpt.report.load import load_run
from cpt.report.page import render
from cpt.report.summary import Summary, summarise
from cpt.report.terminal_table import print_summary
from cpt.report.verdict import verdicts


def compared(root: Path, second: Mapping[tuple[int, str], str], first: Mapping[tuple[int, str], str]) -> Summary:
    hand_made(root, {"sft": {**BASE, **first}, "grpo": dict(second)}, ["a", "b"], ["x"])
    return summarise(load_run(root))


def test_a_fair_comparison_tells_differences_with_their_intervals(tmp_path: Path) -> None:
    summary = compared(tmp_path, KEEPING, FORGETFUL)
    (text,) = verdicts(summary)
    matched, told = text.split(": ", 1)
    assert matched == (
        "At matched new-task accuracy, one seed, so of these policies only (sft 80.0 %, grpo 80.0 %, difference 0.0 "
        "[−16.1, +16.1])"  # Wilson's end for 0 of 20: none of 20 answers differs
    )
    gap = next(pair for pair in summary.pairs if pair.scoring == "strict").gaps["BWT"]
    assert gap.high is not None and gap.high < 0
    forgetting, lost, base, general = told.split("; ")
    assert forgetting.startswith("net forgetting since the own stage 60.0 and 10.0 (+50.0 [+")
    assert lost.startswith("right answers lost since then 60.0 and 10.0 (+50.0 [+")
    assert base == "right answers of the base lost 0.0 and 0.0 (0.0 [−16.1, +16.1]): no difference shown"
    assert general.startswith("general skill lost 60.0 and 10.0 (+50.0 [+")
    assert all(found.endswith("]): the sft policy lost more") for found in (forgetting, lost, general.rstrip(".")))


def test_the_other_way_round_the_other_arm_is_named(tmp_path: Path) -> None:
    (text,) = verdicts(compared(tmp_path, FORGETFUL, KEEPING))
    assert text.count("]): the grpo policy lost more") == 3
    assert "sft policy" not in text


def test_one_seed_says_nothing_of_a_method_and_several_do(tmp_path: Path) -> None:
    arms = [Arm("sft", forget=0.5), Arm("grpo", "grpo", forget=0.0)]
    for seeds in ((0,), (0, 1, 2)):
        make_run(tmp_path / str(len(seeds)), arms, samples=100, seeds=seeds)
    one, three = (verdicts(summarise(load_run(tmp_path / name)))[0] for name in ("1", "3"))
    assert "one seed, so of these policies only" in one
    assert "the sft policy lost more" in one and "loses more" not in one
    assert "]): sft loses more; " in three
    assert "polic" not in three


def test_an_interval_with_zero_in_it_shows_no_difference(tmp_path: Path) -> None:
    almost = {**FORGETFUL, (2, "a"): "1100000001", (2, "x"): "1111000001"}  # one sample each
    (text,) = verdicts(compared(tmp_path, almost, FORGETFUL))
    assert "net forgetting since the own stage 60.0 and 50.0 (+10.0 [−" in text
    assert text.count("no difference shown") == 4
    assert "lost more" not in text


def test_what_an_arm_overwrote_while_it_learned_the_task_is_told_too(tmp_path: Path) -> None:
    early = {(0, "a"): "1111110000", (0, "b"): "0000000000", (0, "x"): "1111111111"} | {
        (1, "a"): "0000001111",  # all that the base could do, overwritten in the task's own stage
        (1, "b"): "0000000000",
        (1, "x"): "1111111111",
        (2, "a"): "0000001111",
        (2, "b"): "1111111111",
        (2, "x"): "1111111111",
    }
    late = early | {(1, "a"): "1111000000", (2, "a"): "1100000000"}
    hand_made(tmp_path, {"sft": early, "grpo": late}, ["a", "b"], ["x"])
    one, two = (item.headline() for item in summarise(load_run(tmp_path)).arms)
    assert [one[name].value for name in ("lost", "lost_since_base")] == pytest.approx([0.0, 0.3])  # of a: 0 and 6 of 10
    assert [two[name].value for name in ("lost", "lost_since_base")] == pytest.approx([0.2, 0.2])  # of a: 2 and 4 of 10
    (gap,) = (pair.gaps["lost_since_base"] for pair in summarise(load_run(tmp_path)).pairs if pair.scoring == "strict")
    assert gap.value == pytest.approx(0.1)


def test_what_is_not_learned_alike_is_not_compared(tmp_path: Path) -> None:
    # Equal on average: one arm has learned a alone, and that wholly.
    one_sided = {**KEEPING, (1, "a"): "1111111111", (1, "b"): "1000000000", (2, "b"): "1000000000"}
    half = {**FORGETFUL, (1, "a"): "1111100000", (2, "b"): "1111110000"}
    summary = compared(tmp_path, one_sided, half)
    (text,) = verdicts(summary)
    assert text.startswith("Not a fair comparison, though new-task accuracy is matched on average (sft 55.0 %, ")
    assert text.endswith("]): grpo gained less than 10 points on b (0.0).")
    assert summary.pairs[0].matched
    assert "on average only: grpo gained less than 10 points on b (0.0)" in render(summary)


def test_one_task_of_three_that_was_hardly_learned_is_said(tmp_path: Path) -> None:
    rows = {(stage, task): "1111100000" for stage in range(4) for task in "abc"}
    sft = {**rows, (1, "a"): "1111111111", (2, "b"): "1111111111"}
    hand_made(tmp_path, {"sft": sft, "grpo": {**sft, (3, "c"): "1111100000"}}, ["a", "b", "c"], [])
    summary = summarise(load_run(tmp_path))
    (text,) = verdicts(summary)
    assert text.startswith("At matched new-task accuracy, one seed, so of these policies only (sft 83.3 %, grpo 83.3 %")
    said = "sft gained less than 10 points on c (0.0); grpo gained less than 10 points on c (0.0)"
    assert f" Hardly learned: {said}." in text
    assert f'<span class="ok">yes</span><span class="small">, though {said}</span>' in render(summary)


def test_unequal_plasticity_is_no_fair_comparison_either(tmp_path: Path) -> None:
    weak = {**KEEPING, (1, "a"): "1111000000"}
    (text,) = verdicts(compared(tmp_path, weak, FORGETFUL))
    assert text.startswith(
        "Not a fair comparison of sft and grpo: new-task accuracies more than 3 points apart "
        "(sft 80.0 %, grpo 60.0 %, difference +20.0 ["
    )


def test_page_and_terminal_say_it_escaped(tmp_path: Path) -> None:
    hand_made(tmp_path, {"s<b>": {**BASE, **FORGETFUL}, "[bold]g": KEEPING}, ["a", "b"], ["x"])
    summary = summarise(load_run(tmp_path))
    page = render(summary)
    first = "At matched new-task accuracy, one seed, so of these policies only"
    assert f'<p class="verdict">{first} (s&lt;b&gt; 80.0 %, [bold]g' in page
    assert page.index('class="verdict"') < page.index('class="caveat"')
    out = StringIO()
    print_summary(summary, Console(file=out, width=1000))
    assert verdicts(summary)[0] in out.getvalue()


def test_many_arms_are_counted(tmp_path: Path) -> None:
    others = {f"arm{number}": KEEPING for number in range(3)}
    idle = {(i, task): bits for i in (1, 2) for (_, task), bits in BASE.items()}
    weak = {**KEEPING, (1, "a"): "1111000000"}
    hand_made(tmp_path, {"sft": {**BASE, **FORGETFUL}, **others, "idle": idle, "weak": weak}, ["a", "b"], ["x"])
    (text,) = verdicts(summarise(load_run(tmp_path)))
    assert text == (
        "Of 5 pairs with sft, 3 are at matched new-task accuracy, 3 of these with most tasks learned by both. Of the "
        "3, 3 differ in net forgetting and 3 in general skill (one seed, so of these policies only): there the "
        "interval of the difference excludes 0, as that of one in twenty would by chance."
    )


def test_an_arm_that_missed_a_task_spoils_all_its_pairs(tmp_path: Path) -> None:
    missed = {**KEEPING, (1, "a"): "1111111111", (2, "b"): "1000000000"}
    hand_made(tmp_path, {"sft": {**BASE, **missed}, **{f"arm{n}": missed for n in range(4)}}, ["a", "b"], ["x"])
    (text,) = verdicts(summarise(load_run(tmp_path)))
    assert text == (
        "Of 4 pairs with sft, 4 are at matched new-task accuracy, 0 of these with most tasks learned by both: sft "
        "gained less than 10 points on b (0.0). Not a fair comparison."
    )


def test_what_has_no_numbers_gets_no_claim(tmp_path: Path) -> None:
    make_run(tmp_path / "unfinished", [Arm("sft"), Arm("grpo", "grpo")], stop_after=1)
    assert verdicts(summarise(load_run(tmp_path / "unfinished"))) == []
    learned = {(1, "a"): "1111111100"}
    hand_made(tmp_path / "one task", {"sft": {(0, "a"): "0" * 10, **learned}, "grpo": learned}, ["a"], [])
    (text,) = verdicts(summarise(load_run(tmp_path / "one task")))
    told = text.split("]): ", 1)[1]
    assert told.startswith("right answers of the base lost 0.0 and 0.0 (") and ";" not in told
