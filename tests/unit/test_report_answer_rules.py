"""Macro recall by hand, and the policies whose answers follow a rule rather than the question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from synthetic import Plan, Recipe, Stage, mark_done, record, reseal

from cpt.report.answer_rules import answer_rows, answers_of, rule_caveats
from cpt.report.load import load_run
from cpt.report.page import build_report
from cpt.report.summary import summarise
from cpt.report.terminal_table import print_summary
from cpt.store.records import read_records, write_records
from cpt.store.run_store import RunStore
from cpt.types import Record

# As many of each count as in the demo's first stage: 131 of 256 are 1.
GOLD = ["1"] * 131 + ["0"] * 42 + ["2"] * 55 + ["3"] * 20 + ["4"] * 8


def answered(gold: Sequence[str | tuple[str, ...]], said: Sequence[str], **labels: object) -> list[Record]:
    found = []
    for number, (right, one) in enumerate(zip(gold, said, strict=True)):
        accepted = [right] if isinstance(right, str) else list(right)
        row = record("grpo", 0, 1, "count-colour", number, int(one in accepted))
        found.append(replace(row, gold=accepted, extracted=one, **labels))  # type: ignore[arg-type]
    return found


def test_macro_recall_by_hand():
    """Right on 3 of 4 yes, 1 of 2 no and 0 of 1 maybe: accuracy 4/7, macro recall (3/4 + 1/2 + 0) / 3."""
    found = answers_of(answered(["yes"] * 4 + ["no"] * 2 + ["maybe"], ["yes"] * 3 + ["no"] * 2 + ["yes"] * 2))
    assert found.kinds == 3
    assert found.accuracy == pytest.approx(4 / 7)
    assert found.recall == pytest.approx((3 / 4 + 1 / 2) / 3)
    assert (found.constant, found.constant_score) == ("yes", pytest.approx(4 / 7))
    assert (found.given, found.given_share) == ("yes", pytest.approx(5 / 7))


def test_graded_scores_count_as_they_are():
    rows = answered(["a", "a", "b"], ["a", "a", "b"])
    found = answers_of([replace(rows[0], score=0.5), rows[1], replace(rows[2], score=0.25)])  # type: ignore[arg-type]
    assert found.accuracy == pytest.approx(1.75 / 3)
    assert found.recall == pytest.approx((0.75 + 0.25) / 2)


def test_the_demo_s_rule_is_named():
    """1 if there is such a thing, 0 if not: 67.6 % right, while 2, 3 and 4 are never said."""
    found = answers_of(answered(GOLD, ["0" if gold == "0" else "1" for gold in GOLD]))
    assert found.accuracy == pytest.approx(173 / 256)
    assert found.recall == pytest.approx(2 / 5)
    # 4 is right for 3 % only: nobody has to know it.
    assert found.rule == "never answers “2”, “3”, right for 29% of the questions"


def test_one_answer_to_everything_is_named():
    found = answers_of(answered(GOLD, ["1"] * 250 + ["4"] * 6))
    assert found.rule == "answers “1” to 98% of the questions, whatever they are"
    assert found.recall == pytest.approx((1 + 6 / 8) / 5)


def test_a_score_that_a_constant_answer_has_is_named():
    """yes to half of the questions, whichever they are: 50 % right, as always yes or always no."""
    found = answers_of(answered(["yes", "no"] * 20, ["yes", "yes", "no", "no"] * 10))
    assert found.rule == "scores 50%, no more than always answering “no” would (50%)"


@pytest.mark.parametrize(
    ("gold", "said"),
    [
        (GOLD, GOLD),
        (["yes", "no"] * 20, ["yes", "no"] * 12 + ["no", "yes"] * 8),  # 60 % right, both answers given
        (["yes"] * 40, ["yes"] * 40),  # there is nothing to tell apart
        ([str(n) for n in range(40)], [str(n + n % 2) for n in range(40)]),  # open answers, half of them wrong
        (["yes", "no"] * 9, ["yes"] * 18),  # too few questions
        # Many right answers: any one of them will do, and the others need not be given.
        ([("a", "b", "c"), ("b", "c", "d"), ("c", "d", "a"), ("d", "a", "b")] * 10, ["a", "b", "a", "b"] * 10),
    ],
)
def test_what_is_no_rule(gold: list[str | tuple[str, ...]], said: list[str]):
    assert answers_of(answered(gold, said)).rule == ""


def test_a_task_on_which_one_answer_is_nearly_always_right_is_named():
    found = answers_of(answered(["yes"] * 19 + ["no"], ["yes"] * 20))
    assert found.rule == "scores 95%, no more than always answering “yes” would (95%)"


def test_an_answer_in_a_rule_neither_acts_on_a_terminal_nor_fills_it():
    """What a policy or a data set says may be anything; `normalise` leaves escape sequences as they are."""
    said = "\x1b[2J" + "z" * 10_000
    shown = r"“\x1b[2j" + "z" * 19 + "…" + "z" * 13 + "”"  # 26 characters, the ellipsis, and the last 13
    given = answers_of(answered(GOLD, [said] * 256))
    assert given.rule == f"answers {shown} to 100% of the questions, whatever they are"
    constant = answers_of(answered([said, "no"] * 20, [said, said, "no", "no"] * 10))
    assert constant.rule == f"scores 50%, no more than always answering {shown} would (50%)"
    never = answers_of(answered([said] * 60 + GOLD, ["?"] * 60 + GOLD))
    assert never.rule == f"never answers {shown}, right for 19% of the questions"


def a_run(root: Path, last: Sequence[str] = GOLD) -> None:
    """Two stages of one arm: after the first it says 1 or 0 to count-colour, after the second it counts (`last`)."""
    tasks = ["count-colour", "parity"]
    stages = [Stage("grpo", "grpo", {}, 0, i, task, {"type": "grpo"}) for i, task in enumerate(tasks, start=1)]
    said = {0: ["2"] * 100 + GOLD[100:], 1: ["0" if gold == "0" else "1" for gold in GOLD], 2: last}

    def evaluation(stage: int) -> list[Record]:
        found = answered(GOLD, said[stage], stage=stage)
        parity = answered(["even", "odd"] * 20, ["even", "odd"] * 20, stage=stage, task="parity")
        return found + [replace(one, sample_id=f"parity/{i}") for i, one in enumerate(parity)]

    store = RunStore(root).open_or_create(Recipe("arms:\n"))
    store.write_plan(Plan(tasks, [], stages))
    mark_done(store, store.base_dir(0, "direct"), "base", evaluation(0))
    for stage in stages:
        policy = store.begin_stage(stage).policy
        policy.mkdir()
        (policy / "config.json").write_text("{}")
        store.mark_trained(stage, steps=stage.steps)
        mark_done(store, store.stage(stage), stage.key, evaluation(stage.index))
    store.close()


def test_page_summary_and_terminal_name_the_rule(tmp_path: Path):
    a_run(tmp_path)
    rows = {(row.arm, row.after, row.task): row.answers for row in answer_rows(load_run(tmp_path))}
    assert list(rows) == [
        ("base", 0, "count-colour"),
        ("base", 0, "parity"),
        ("grpo", 1, "count-colour"),
        ("grpo", 2, "count-colour"),
        ("grpo", 2, "parity"),
    ]
    assert [bool(found.rule) for found in rows.values()] == [False, False, True, False, False]
    told = "grpo on count-colour after stage 1 never answers “2”, “3”, right for 29% of the questions."
    output = StringIO()
    print_summary(tmp_path, Console(file=output, width=400))
    assert f"Answers that follow a rule rather than the question: {told}" in output.getvalue()
    page = build_report(tmp_path).read_text()
    assert told in page
    assert '<th class="num">Macro recall</th>' in page
    (row,) = [row for row in page.split("<tr>") if "never answers" in row and "</tr>" in row and "After" not in row][:1]
    assert "67.6" in row and "40.0" in row
    found = json.loads((tmp_path / "summary.json").read_text())["answers"]
    assert [one["rule"] != "" for one in found] == [False, False, True, False, False]
    assert found[2]["recall"] == pytest.approx(0.4)


def test_a_rule_that_lasts_is_told_once(tmp_path: Path):
    a_run(tmp_path, ["0" if gold == "0" else "1" for gold in GOLD])
    (told,) = rule_caveats(load_run(tmp_path))
    assert told.endswith(
        ": grpo on count-colour after stages 1 and 2 never answers “2”, “3”, right for 29% of the questions."
    )


def test_names_in_a_run_folder_do_not_act_on_a_terminal(tmp_path: Path):
    a_run(tmp_path)
    run = load_run(tmp_path)
    arms = tuple(replace(arm, family="\x1b[3J", name="\x1b[3J") for arm in run.arms)
    output = StringIO()
    hostile = replace(run, name="\x1b[2J", notes=("\x1b]0;title\x07",), arms=arms)
    print_summary(summarise(hostile), Console(file=output, width=400))
    assert not {one for one in output.getvalue() if not one.isprintable()} - {"\n"}
    assert all(shown in output.getvalue() for shown in (r"\x1b[2J", r"\x1b[3J", r"\x1b]0;title\x07"))


def test_answers_of_a_model_are_escaped(tmp_path: Path):
    a_run(tmp_path)
    records = RunStore(tmp_path).base_dir(0, "direct").records
    write_records(records, [replace(one, extracted="<script>x</script>") for one in read_records(records)])
    reseal(tmp_path)
    assert "<script>x</script>" not in build_report(tmp_path).read_text()
