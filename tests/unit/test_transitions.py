"""Losses and gains sample by sample; superficial against essential forgetting."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import records

from cpt.evaluate.matrix import accuracy_matrix, metrics
from cpt.evaluate.scores import collect
from cpt.evaluate.transitions import (
    base_transitions,
    flipped,
    general_transitions,
    stage_transitions,
    trained_transitions,
)
from cpt.types import Record

TASKS = ["a", "b"]
STRICT = {
    (0, "a"): "00000000",
    (0, "b"): "00000000",
    (1, "a"): "11111100",
    (1, "b"): "00000000",
    (2, "a"): "11000010",  # lost: samples 2 3 4 5; gained: 6
    (2, "b"): "11111111",
}
TOLERANT = {(2, "a"): "11100011"}  # of the lost, only 2 is right in another style


def test_shares_by_hand() -> None:
    found = trained_transitions(collect(records(STRICT, tolerant=TOLERANT), TASKS))
    values = {name: metric.value for name, metric in found.items()}
    assert values == pytest.approx({"lost": 4 / 8, "gained": 1 / 8, "superficial": 1 / 8, "essential": 3 / 8})
    assert set(found.by_task) == {"a"}  # the last task has had no time to be forgotten
    for _, metric in found.items():
        assert metric.low <= metric.value <= metric.high
        assert "after its own stage" in metric.definition


def test_losses_and_gains_explain_backward_transfer() -> None:
    scores = collect(records(STRICT, tolerant=TOLERANT), TASKS)
    found = trained_transitions(scores)
    bwt = metrics(accuracy_matrix(scores, TASKS))["BWT"]
    assert found.gained.value - found.lost.value == pytest.approx(bwt.value)
    assert found.superficial.value + found.essential.value == pytest.approx(found.lost.value)
    gained, lost = found.gained.runs.replicates, found.lost.runs.replicates
    assert gained - lost == pytest.approx(bwt.runs.replicates)


def test_under_tolerant_scoring_style_does_not_count() -> None:
    tolerant = {(1, "a"): "11111111", (2, "a"): "11100011"}
    found = trained_transitions(collect(records(STRICT, tolerant=tolerant), TASKS), scoring="tolerant")
    values = {name: metric.value for name, metric in found.items()}
    assert values == pytest.approx({"lost": 3 / 8, "gained": 0, "superficial": 0, "essential": 3 / 8})


def test_an_arm_that_never_keeps_the_format_still_shows_what_it_lost() -> None:
    cells = {(1, "a"): "0000", (2, "a"): "0000"}
    scores = collect(records(cells, tolerant={(1, "a"): "1111", (2, "a"): "1000"}), TASKS)
    assert trained_transitions(scores).essential.value == 0
    assert trained_transitions(scores, scoring="tolerant").essential.value == pytest.approx(0.75)


def test_pairs_are_kept_by_sample_id_whatever_the_order_of_the_records() -> None:
    rows = records(STRICT, tolerant=TOLERANT)
    assert trained_transitions(collect(rows[::-1], TASKS)).lost == trained_transitions(collect(rows, TASKS)).lost


def test_tasks_are_averaged_with_equal_weight() -> None:
    cells = {
        (1, "a"): "1111",
        (2, "b"): "11",
        (3, "a"): "0011",
        (3, "b"): "11",
        (3, "c"): "1",
    }
    found = trained_transitions(collect(records(cells), ["a", "b", "c"]))
    assert found.lost.value == pytest.approx((0.5 + 0.0) / 2)
    assert found.by_task["a"]["lost"].value == pytest.approx(0.5)


def test_general_tasks_are_compared_with_the_base() -> None:
    strict = {(0, "x"): "1110", (1, "x"): "0000", (2, "x"): "0101", (0, "y"): "1111", (2, "y"): "1111"}
    tolerant = {(2, "x"): "1101"}
    found = general_transitions(collect(records(strict, tolerant=tolerant), TASKS, ["x", "y"]))
    values = {name: metric.value for name, metric in found.items()}
    # x: lost 0 and 2, of which 0 is right in another style; gained 3. y: nothing.
    assert values == pytest.approx({"lost": 2 / 8, "gained": 1 / 8, "superficial": 1 / 8, "essential": 1 / 8})
    assert "in the base model" in found.lost.definition


def test_trained_tasks_are_compared_with_the_base_too() -> None:
    strict = {(0, "a"): "1100", (1, "a"): "1111", (2, "a"): "0111", (0, "b"): "10", (2, "b"): "01"}
    scores = collect(records(strict, tolerant={(2, "a"): "1111"}), TASKS)
    found = base_transitions(scores)
    # a: loses 1 of 4, in style alone, and gains 2. b: loses 1 of 2 and gains the other. Stage 1 plays no part.
    values = {name: metric.value for name, metric in found.items()}
    assert values == pytest.approx({"lost": 3 / 8, "gained": 1 / 2, "superficial": 1 / 8, "essential": 1 / 4})
    assert found.by_task["a"]["lost"].value == pytest.approx(1 / 4)
    base_mean = 1 / 2
    last = metrics(accuracy_matrix(scores, TASKS))["AvgAcc"].value
    assert found.gained.value - found.lost.value == pytest.approx(last - base_mean)


def test_what_a_task_s_own_stage_overwrote_is_told_apart() -> None:
    strict = {(0, "a"): "1100", (1, "a"): "1011", (2, "a"): "0111", (0, "b"): "10", (1, "b"): "00", (2, "b"): "01"}
    found = stage_transitions(collect(records(strict, tolerant={(1, "a"): "1111"}), TASKS))
    # a: loses 1 of 4 in stage 1, in style alone, and gains 2. b: loses 1 of 2 by its own stage 2 and gains the other.
    values = {name: metric.value for name, metric in found.items()}
    assert values == pytest.approx({"lost": 3 / 8, "gained": 1 / 2, "superficial": 1 / 8, "essential": 1 / 4})
    assert found.lost.definition == "share of samples right in the base model, wrong after its own stage (1→0)"


def test_a_graded_score_is_right_from_one_half_on() -> None:
    def graded(stage: int, scores: list[float]) -> list[Record]:
        return [
            replace(row, score=s, tolerant=s) for row, s in zip(records({(stage, "a"): "0000"}), scores, strict=True)
        ]

    rows = graded(1, [0.5, 0.9, 0.49, 0.3]) + graded(2, [0.49, 0.6, 0.5, 0.0])
    scores = collect(rows, TASKS)
    found = trained_transitions(scores)
    assert (found.lost.value, found.gained.value) == (1 / 4, 1 / 4)  # samples 0 and 2
    assert flipped(scores, "a", 1, 2, seed=0) == ["a/test/0"]
    # The matrix has the scores themselves.
    assert accuracy_matrix(scores, TASKS).values[:, 0].tolist()[1:] == pytest.approx([2.19 / 4, 1.59 / 4])


@pytest.mark.parametrize(
    ("tasks", "general", "reason"),
    [(["a"], [], "n/a: one task only"), ([], [], "n/a: no tasks")],
)
def test_degenerate_sequences_are_undefined(tasks, general, reason) -> None:
    found = trained_transitions(collect(records({(0, "a"): "11"}), tasks, general))
    assert {metric.reason for _, metric in found.items()} == {reason}
    assert found.lost.value is None


def test_no_general_tasks() -> None:
    assert general_transitions(collect(records(STRICT), TASKS)).lost.reason == "n/a: no general tasks"


def test_a_missing_evaluation_is_named() -> None:
    some = {key: bits for key, bits in STRICT.items() if key != (2, "a")}
    found = trained_transitions(collect(records(some), TASKS))
    assert found.essential.value is None
    assert found.essential.reason == "n/a: missing cell: stage 2 × task a"


def test_a_task_without_samples_is_named() -> None:
    some = {key: bits for key, bits in STRICT.items() if key[1] != "a"}
    found = trained_transitions(collect(records(some), TASKS))
    assert found.lost.reason == "n/a: missing cell: stage 1 × task a"


def test_flipped_samples_are_listed() -> None:
    scores = collect(records(STRICT), TASKS)
    assert flipped(scores, "a", 1, 2, seed=0) == ["a/test/2", "a/test/3", "a/test/4", "a/test/5"]
    assert flipped(scores, "b", 0, 2, seed=0) == []
