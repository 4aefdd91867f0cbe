"""Graded scores, such as VQA's 0.3, 0.6, 0.9 and 1: means are of the scores, and from a threshold on one is right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Arm, make_run, record, reseal

from cpt.evaluate.matrix import accuracy_matrix, metrics
from cpt.evaluate.scores import collect
from cpt.evaluate.transitions import base_transitions, flipped, stage_transitions, trained_transitions
from cpt.report.answer_rules import answers_of
from cpt.report.page import build_report
from cpt.store.records import read_records, write_records
from cpt.types import Record

TASKS = ["a", "b"]
OWN = {"a": 0.5, "b": 0.9}  # b says that it is right from 0.9 on
SCORES = {
    (0, "a"): [0.3, 0.3, 0.3, 0.3],
    (0, "b"): [0.6, 0.9, 1.0, 0.9],
    (1, "a"): [0.3, 0.6, 0.9, 1.0],
    (1, "b"): [0.6, 0.6, 0.6, 0.6],
    (2, "a"): [0.6, 0.3, 1.0, 0.9],
    (2, "b"): [0.9, 0.6, 0.6, 1.0],
}
Z2 = 1.959964**2


def rows(stage: int, task: str, scores: list[float]) -> list[Record]:
    plain = [record("sft", 0, stage, task, number, 0) for number in range(len(scores))]
    pairs = zip(plain, scores, strict=True)
    return [replace(one, score=s, tolerant=s, metric="vqa", right_from=OWN[task]) for one, s in pairs]


@pytest.fixture
def graded() -> list[Record]:
    return [one for (stage, task), scores in SCORES.items() for one in rows(stage, task, scores)]


def test_the_matrix_has_means_of_the_scores(graded: list[Record]):
    matrix = accuracy_matrix(graded, TASKS)
    assert matrix.values.tolist() == [
        pytest.approx([0.3, 0.85]),
        pytest.approx([0.7, 0.6]),
        pytest.approx([0.7, 0.775]),
    ]
    found = {name: metric.value for name, metric in metrics(matrix).items()}
    assert found["MFT"] == found["AvgAcc"] == pytest.approx((0.7 + 0.775) / 2)
    assert found["BWT"] == pytest.approx(0.0)
    assert found["FWT"] == pytest.approx(0.6 - 0.85)
    assert found["FM"] == pytest.approx(0.0)


def test_lost_and_gained_count_from_each_tasks_own_threshold(graded: list[Record]):
    scores = collect(graded, TASKS)
    assert scores.right_from == OWN and scores.metric == {"a": "vqa", "b": "vqa"}
    # a, after its own stage and at the end: 0.6 → 0.3 is lost, 0.3 → 0.6 gained; 0.9 and 1 are right both times.
    found = trained_transitions(scores)
    assert (found.lost.value, found.gained.value) == (1 / 4, 1 / 4)
    assert flipped(scores, "a", 1, 2, seed=0) == ["a/test/1"]
    # b, from the base to the end: right from 0.9 on, it is 0111 before and 1001 after. From 0.5 on nothing would move.
    by_task = base_transitions(scores).by_task["b"]
    assert (by_task["lost"].value, by_task["gained"].value) == (2 / 4, 1 / 4)
    assert stage_transitions(scores).by_task["b"]["lost"].value == 2 / 4
    loosely = collect([replace(one, right_from=0.5) for one in graded], TASKS)
    assert base_transitions(loosely).by_task["b"]["lost"].value == 0


def test_intervals_are_of_the_scores_and_not_of_a_proportion():
    """Forty scores with a standard deviation of √0.075 around 0.7. Wilson's interval for 28 of 40 is ± 0.14."""
    cell = accuracy_matrix(rows(0, "a", [0.3, 0.6, 0.9, 1.0] * 10), ["a"]).cell(0, 0)
    half = 1.96 * (0.075 / 40) ** 0.5
    assert (cell.value, cell.low, cell.high) == pytest.approx((0.7, 0.7 - half, 0.7 + half), abs=0.005)


def test_scores_that_are_all_alike_are_not_certain():
    """A share u of the questions may yet turn out otherwise, and then give as little as 0 or as much as 1."""
    cell = accuracy_matrix(rows(0, "a", [0.3] * 20), ["a"]).cell(0, 0)
    u = Z2 / (20 + Z2)
    assert (cell.low, cell.high) == pytest.approx((0.3 - 0.3 * u, 0.3 + 0.7 * u), abs=1e-6)


def test_evaluations_by_different_scores_are_not_compared(graded: list[Record]):
    other = [replace(one, right_from=0.6) if one.stage == 2 and one.task == "a" else one for one in graded]
    with pytest.raises(ValueError, match=r"task a: evaluated by different scores, vqa \(right from 0\.5 on\) and vqa"):
        collect(other, TASKS)
    old = [replace(one, metric="", right_from=0.5) if one.stage == 0 else one for one in graded]
    assert collect(old, TASKS).right_from == OWN  # records of earlier versions do not say


def test_no_constant_answer_is_scored_from_the_accepted_answers():
    """One of ten annotators said "no": as a constant answer it is accepted everywhere, and scores 0.3."""
    found = rows(1, "a", [0.3, 0.6] * 20)
    said = [replace(one, gold=[("yes", "maybe")[i % 2], "no"], extracted=one.sample_id) for i, one in enumerate(found)]
    assert answers_of(said).rule == ""
    sure = [replace(one, score=float(one.score == 0.6)) for one in said]
    assert "no more than always answering" in answers_of(sure).rule


def test_the_page_says_what_a_score_is_called_and_from_where_on_a_sample_is_right(tmp_path: Path):
    make_run(tmp_path, [Arm("sft"), Arm("grpo", "grpo")], samples=4)
    for path in tmp_path.rglob("records.parquet"):
        named = {"b": {"metric": "vqa", "right_from": 0.9}}
        write_records(
            path, [replace(one, **({"metric": "exact"} | named.get(one.task, {}))) for one in read_records(path)]
        )
    reseal(tmp_path)
    page = " ".join(build_report(tmp_path).read_text(encoding="utf-8").split())
    assert "<b>exact</b> on a, c, x, y; <b>vqa</b> on b" in page
    assert "one is right if its score is at least 0.5, on b at least 0.9." in page
