"""R_ij and the metrics of continual learning, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from synthetic import records

from cpt.evaluate.matrix import accuracy_matrix, metrics
from cpt.evaluate.retention import retention

TASKS = ("a", "b", "c")
# Ten samples per cell, so a row of ones is easy to read: R_ij = ones / 10.
R = [
    [2, 3, 4],  # base
    [8, 4, 4],  # after a
    [6, 9, 5],  # after b
    [5, 7, 8],  # after c
]


def ones(count: int, n: int = 10) -> str:
    return "1" * count + "0" * (n - count)


def cells(matrix=R, tasks=TASKS) -> dict[tuple[int, str], str]:
    return {(i, task): ones(row[j]) for i, row in enumerate(matrix) for j, task in enumerate(tasks)}


def test_the_matrix_holds_the_mean_score_of_each_cell() -> None:
    matrix = accuracy_matrix(records(cells()), TASKS)
    assert np.allclose(matrix.values * 10, R)
    assert matrix.n == (10, 10, 10)
    assert matrix.stages == 3


def test_every_metric_by_hand() -> None:
    found = metrics(accuracy_matrix(records(cells()), TASKS))
    expected = {
        "MFT": (0.8 + 0.9 + 0.8) / 3,
        "AvgAcc": (0.5 + 0.7 + 0.8) / 3,
        "MAA": (0.8 + (0.6 + 0.9) / 2 + (0.5 + 0.7 + 0.8) / 3) / 3,
        "BWT": ((0.5 - 0.8) + (0.7 - 0.9)) / 2,
        "FWT": ((0.4 - 0.3) + (0.5 - 0.4)) / 2,
        "FM": ((0.8 - 0.5) + (0.9 - 0.7)) / 2,
    }
    assert {name: metric.value for name, metric in found.items()} == pytest.approx(expected)
    for metric in found.values():
        assert metric.low <= metric.value <= metric.high
        assert metric.definition
        assert metric.reason == ""


def test_forgetting_counts_from_the_best_row_the_base_included() -> None:
    # Task a: 0.9 in the base, 0.6 after its own stage, 0.7 after b, 0.4 at the end.
    matrix = [[9, 0, 0], [6, 0, 0], [7, 5, 0], [4, 5, 5]]
    found = metrics(accuracy_matrix(records(cells(matrix)), TASKS))
    assert found["FM"].value == pytest.approx((0.9 - 0.4 + 0.5 - 0.5) / 2)
    assert found["BWT"].value == pytest.approx((0.4 - 0.6 + 0.5 - 0.5) / 2)


def test_a_task_that_improves_later_has_negative_forgetting() -> None:
    matrix = [[0, 0], [5, 0], [8, 5]]
    found = metrics(accuracy_matrix(records(cells(matrix, "ab")), "ab"))
    assert found["FM"].value == pytest.approx(-0.3)
    assert found["BWT"].value == pytest.approx(0.3)


def test_with_one_task_what_needs_two_is_undefined_with_the_reason() -> None:
    found = metrics(accuracy_matrix(records({(0, "a"): ones(2), (1, "a"): ones(7)}), ["a"]))
    assert found["MFT"].value == found["AvgAcc"].value == found["MAA"].value == pytest.approx(0.7)
    for name in ("BWT", "FWT", "FM"):
        assert found[name].value is None
        assert found[name].low is None
        assert found[name].reason == "n/a: one task only"


def test_a_missing_cell_undoes_only_the_metrics_that_need_it() -> None:
    some = cells()
    del some[2, "b"]
    matrix = accuracy_matrix(records(some), TASKS)
    found = metrics(matrix)
    assert math.isnan(matrix.values[2, 1])
    for name in ("MFT", "MAA", "BWT", "FM"):
        assert found[name].value is None
        assert found[name].reason == "n/a: missing cell: stage 2 × task b"
    assert found["AvgAcc"].value == pytest.approx(2 / 3)
    assert found["FWT"].value == pytest.approx(0.1)


def test_an_unfinished_run_has_no_final_accuracy() -> None:
    some = {key: bits for key, bits in cells().items() if key[0] < 3}
    found = metrics(accuracy_matrix(records(some), TASKS))
    assert found["AvgAcc"].reason == "n/a: missing cell: stage 3 × task a"
    assert found["FWT"].value == pytest.approx(0.1)


def test_no_samples_at_all() -> None:
    found = metrics(accuracy_matrix([], TASKS))
    assert {metric.value for metric in found.values()} == {None}
    assert found["AvgAcc"].reason == "n/a: no records"


def test_a_task_without_samples() -> None:
    some = {key: bits for key, bits in cells().items() if key[1] != "b"}
    matrix = accuracy_matrix(records(some), TASKS)
    assert matrix.n == (10, 0, 10)
    assert metrics(matrix)["AvgAcc"].reason == "n/a: missing cell: stage 3 × task b"


def test_tolerant_scores_give_their_own_matrix() -> None:
    strict = {(0, "a"): "0000", (1, "a"): "1100"}
    tolerant = {(0, "a"): "1000", (1, "a"): "1110"}
    rows = records(strict, tolerant=tolerant)
    assert accuracy_matrix(rows, ["a"]).values[:, 0].tolist() == [0.0, 0.5]
    assert accuracy_matrix(rows, ["a"], scoring="tolerant").values[:, 0].tolist() == [0.25, 0.75]


def test_several_seeds_are_averaged_per_metric() -> None:
    second = [[2, 3, 4], [9, 4, 4], [9, 9, 5], [9, 9, 9]]
    rows = records(cells()) + records(cells(second), seed=1)
    matrix = accuracy_matrix(rows, TASKS)
    found = metrics(matrix)
    assert found["FM"].value == pytest.approx(((0.3 + 0.2) / 2 + (0.0 + 0.0) / 2) / 2)
    assert found["FM"].seeds == 2
    assert matrix.values[3, 0] == pytest.approx((0.5 + 0.9) / 2)


def test_a_metric_averages_the_seeds_that_have_it() -> None:
    second = {key: bits for key, bits in cells().items() if key[0] < 2}
    matrix = accuracy_matrix(records(cells()) + records(second, seed=1), TASKS)
    found = metrics(matrix)
    assert found["AvgAcc"].seeds == 1
    assert found["AvgAcc"].value == pytest.approx(2 / 3)
    assert matrix.cell(1, 0).seeds == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (records({(0, "a"): "1"}) + records({(1, "a"): "1"}, arm="grpo"), "several arms: grpo, sft"),
        (records({(0, "a"): "1"}) * 2, "a/test/0: evaluated twice"),
        (records({(4, "a"): "1"}), "record of stage 4, but there are 3 stages"),
        (records({(0, "a"): "11", (1, "a"): "1"}), r"task a: stage 1, seed 0 was evaluated on other samples \(1\)"),
    ],
)
def test_records_that_make_no_matrix_are_refused(rows, message) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy_matrix(rows, TASKS)


def test_metrics_need_the_trained_tasks_as_columns() -> None:
    with pytest.raises(ValueError, match="give the trained tasks as columns"):
        metrics(accuracy_matrix(records(cells()), TASKS, columns=["a"]))


GENERAL = {
    (0, "x"): ones(10),
    (1, "x"): ones(9),
    (2, "x"): ones(5),
    (0, "y"): ones(8),
    (1, "y"): ones(8),
    (2, "y"): ones(9),
}


def test_retention_is_the_change_against_the_base_per_stage_and_task() -> None:
    found = retention(accuracy_matrix(records(GENERAL), "ab", columns=["x", "y"]))
    assert [[m.value for m in stage] for stage in found.by_task] == [
        pytest.approx([-0.1, 0.0]),
        pytest.approx([-0.5, 0.1]),
    ]
    assert [metric.value for metric in found.mean] == pytest.approx([-0.05, -0.2])
    assert found.final.value == pytest.approx(-0.2)


def test_retention_without_general_tasks_or_with_missing_ones_says_so() -> None:
    assert retention(accuracy_matrix(records(GENERAL), "ab", columns=[])).final.reason == "n/a: no general tasks"
    some = {key: bits for key, bits in GENERAL.items() if key != (2, "y")}
    found = retention(accuracy_matrix(records(some), "ab", columns=["x", "y"]))
    assert found.final.reason == "n/a: missing cell: stage 2 × task y"
    assert found.by_task[1][0].value == pytest.approx(-0.5)
    assert found.mean[0].value == pytest.approx(-0.05)


def test_retention_needs_the_base() -> None:
    some = {key: bits for key, bits in GENERAL.items() if key[0] > 0}
    found = retention(accuracy_matrix(records(some), "ab", columns=["x", "y"]))
    assert found.final.reason == "n/a: missing cell: stage 0 × task x"
