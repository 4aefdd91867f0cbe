"""Intervals: paired, seeded, and honest where there is nothing to resample or only one run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import records

from cpt.evaluate.intervals import effective, student
from cpt.evaluate.matrix import accuracy_matrix, metrics
from cpt.evaluate.retention import retention
from cpt.evaluate.stats import SHARE, Bootstrap, Metric, Runs, difference, format_metric, mean_of, over_seeds, undefined


def test_the_interval_of_a_share_is_near_the_binomial_one() -> None:
    # 40 of 100 right: the normal approximation is 0.4 ± 1.96·sqrt(0.4·0.6/100) = 0.4 ± 0.096.
    rows = records({(0, "a"): "1" * 40 + "0" * 60})
    cell = accuracy_matrix(rows, ["a"], bootstrap=Bootstrap(resamples=4000)).cell(0, 0)
    assert cell.value == pytest.approx(0.4)
    assert cell.low == pytest.approx(0.4 - 0.096, abs=0.012)
    assert cell.high == pytest.approx(0.4 + 0.096, abs=0.012)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    rows = records({(0, "a"): "1" * 37 + "0" * 60, (1, "a"): "1" * 50 + "0" * 47})
    first, again, other = (accuracy_matrix(rows, ["a"], bootstrap=Bootstrap(seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(first.replicates, again.replicates)
    assert not np.array_equal(first.replicates, other.replicates)
    assert first.cell(1, 0) == again.cell(1, 0)


def test_an_interval_does_not_depend_on_what_else_is_computed() -> None:
    alone = records({(0, "a"): "1101001"})
    more = records({(0, "b"): "10", (0, "a"): "1101001"})
    first = accuracy_matrix(alone, ["a"]).cell(0, 0)
    second = accuracy_matrix(more, ["b", "a"]).cell(0, 1)
    assert (first.low, first.high) == (second.low, second.high)


def asking(rows, questions):
    """The same records, sample i asking the i-th question."""
    return [replace(row, question_id=questions[int(row.sample_id.rsplit("/", 1)[1])]) for row in rows]


def test_copies_of_a_question_are_no_further_evidence() -> None:
    once = asking(records({(0, "a"): "11010"}), "abcde")
    twice = asking(records({(0, "a"): "1111001100"}), "aabbccddee")
    first, second = (accuracy_matrix(rows, ["a"]).cell(0, 0) for rows in (once, twice))
    assert (second.value, second.low, second.high) == (first.value, first.low, first.high)


def test_a_resample_draws_questions_with_all_of_their_samples() -> None:
    # Two questions, one with three samples, all right, one with a single sample, wrong: three outcomes are possible.
    rows = asking(records({(0, "a"): "1110"}), "xxxy")
    replicates = accuracy_matrix(rows, ["a"]).replicates[:, 0, 0, 0]
    assert set(replicates.tolist()) == {0.0, 0.75, 1.0}
    assert np.isin(replicates, [0.75]).mean() == pytest.approx(0.5, abs=0.05)


U = 1.959964**2  # z², so that U / (n + U) is the end of Wilson's interval for 0 of n


def test_twenty_right_of_twenty_are_not_certain() -> None:
    for bits, low, high in (("1" * 20, 1 - U / (20 + U), 1.0), ("0" * 20, 0.0, U / (20 + U))):
        cell = accuracy_matrix(records({(0, "a"): bits}), ["a"]).cell(0, 0)
        assert cell.value == float(bits[0])
        assert (cell.low, cell.high) == pytest.approx((low, high), abs=1e-6)
    assert pytest.approx(0.161, abs=5e-4) == U / (20 + U)  # as in any table of Wilson's intervals


def test_it_is_different_questions_that_make_sure() -> None:
    rows = asking(records({(0, "a"): "1" * 20}), "aaaabbbbccccddddeeee")
    assert accuracy_matrix(rows, ["a"]).cell(0, 0).low == pytest.approx(1 - U / (5 + U), abs=1e-6)


def test_scores_that_are_all_alike_are_not_certain_either() -> None:
    rows = [replace(row, score=0.6) for row in records({(0, "a"): "1" * 20})]
    cell = accuracy_matrix(rows, ["a"]).cell(0, 0)
    u = U / (20 + U)
    assert (cell.value, cell.low, cell.high) == pytest.approx((0.6, 0.6 - 0.6 * u, 0.6 + 0.4 * u), abs=1e-6)


def test_stages_are_resampled_together() -> None:
    # The same half of the samples is right before and after: no resample changes. Of 40 none is lost and none gained.
    rows = records({(0, "x"): "1" * 20 + "0" * 20, (1, "x"): "1" * 20 + "0" * 20})
    change = retention(accuracy_matrix(rows, ["a"], columns=["x"])).final
    assert (change.value, change.low, change.high) == pytest.approx((0.0, -U / (40 + U), U / (40 + U)), abs=1e-6)


def test_arms_are_resampled_together() -> None:
    boot = Bootstrap()
    bits = "1" * 20 + "0" * 20
    one, two = (
        metrics(accuracy_matrix(records({(0, "a"): bits, (1, "a"): bits}, arm=arm), ["a"], bootstrap=boot))["MFT"]
        for arm in ("sft", "grpo")
    )
    gap = difference("sft − grpo", one, two, boot)
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.0, -U / (40 + U), U / (40 + U)), abs=1e-6)


def test_a_mean_over_tasks_is_as_sure_as_all_of_their_questions() -> None:
    assert effective([100, 100, 100]) == pytest.approx(300)
    assert effective([10, 1000]) == pytest.approx(4 / (1 / 10 + 1 / 1000))  # little more than four times the smaller
    assert effective([]) == effective([5, 0]) == 0
    rows = records({(1, "a"): "1" * 30, (2, "b"): "1" * 30})
    mft = metrics(accuracy_matrix(rows, ["a", "b"]))["MFT"]
    assert (mft.low, mft.high) == pytest.approx((1 - U / (60 + U), 1.0), abs=1e-6)


def of_seeds(*shares: float, seeds: tuple[int, ...] | None = None, boot: Bootstrap | None = None) -> Metric:
    """A share per seed, of 100 samples each."""
    rows = []
    for seed, share in zip(seeds or range(len(shares)), shares, strict=True):
        right = round(100 * share)
        rows += records({(0, "a"): "1" * right + "0" * (100 - right), (1, "a"): "1" * right + "0" * (100 - right)},
                        seed=seed)  # fmt: skip
    return metrics(accuracy_matrix(rows, ["a"], bootstrap=boot))["MFT"]


def test_students_quantiles() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 10: 2.228, 30: 2.042}
    assert {degrees: round(student(degrees, 0.95), 3) for degrees in table} == table
    assert student(4, 0.9) == pytest.approx(2.132, abs=5e-4)


def test_over_seeds_the_interval_is_students() -> None:
    # Question 1 to 100 alike in every seed but for what each seed has more: the spread of seeds, and of questions.
    metric = of_seeds(0.4, 0.5, 0.6, boot=Bootstrap(resamples=4000))
    spread = 4.3027 * 0.1 / 3**0.5
    # Covariance of two seeds' means over 100 shared questions: (p_low − p_low·p_high) / 100, mean of three pairs.
    common = ((0.4 - 0.2) + (0.4 - 0.24) + (0.5 - 0.3)) / 3 / 100
    half = (spread**2 + U * common) ** 0.5
    assert metric.value == pytest.approx(0.5)
    assert (metric.low, metric.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.003)


def test_differences_are_paired_by_seed() -> None:
    boot = Bootstrap(resamples=1000)
    one, two = of_seeds(0.40, 0.55, 0.70, boot=boot), of_seeds(0.36, 0.50, 0.67, boot=boot)
    gap = difference("d", one, two, boot)
    half = 4.3027 * np.std([0.04, 0.05, 0.03], ddof=1) / 3**0.5
    assert gap.value == pytest.approx(0.04)
    assert gap.high - gap.low >= 2 * half
    assert gap.high - gap.low < (one.high - one.low) / 3  # the seeds' own spread cancels


def test_a_seed_that_one_arm_has_not_finished_does_not_count_in_a_difference() -> None:
    boot = Bootstrap(resamples=100)
    gap = difference("d", of_seeds(0.4, 0.5, 0.9, boot=boot), of_seeds(0.3, 0.6, seeds=(0, 1), boot=boot), boot)
    assert (gap.value, gap.seeds) == (pytest.approx(0.0), 2)
    none = difference("d", of_seeds(0.4, boot=boot), of_seeds(0.3, seeds=(1,), boot=boot), boot)
    assert none.reason == "n/a: no seed has both"


def test_seeds_that_happen_to_be_equal_are_not_certain() -> None:
    boot = Bootstrap(resamples=1000)
    same = of_seeds(0.5, 0.5, boot=boot)
    half = (U * 0.25 / 100) ** 0.5  # of the questions, as with one seed
    assert (same.low, same.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.006)


def test_a_mean_of_metrics_is_over_the_seeds_that_have_them_all() -> None:
    boot = Bootstrap(resamples=100)
    mean = mean_of("m", [of_seeds(0.4, 0.5, boot=boot), of_seeds(0.8, seeds=(1,), boot=boot)], "def", boot)
    assert (mean.value, mean.seeds) == (pytest.approx(0.65), 1)


def runs(values: list[float]) -> Runs:
    return Runs(tuple(range(len(values))), np.array(values), np.tile(values, (10, 1)), reach=SHARE)


def test_a_seed_without_a_value_is_left_out() -> None:
    metric = over_seeds("m", runs([0.5, np.nan]), "def", Bootstrap(resamples=10))
    assert (metric.value, metric.low, metric.high, metric.seeds) == (0.5, 0.5, 0.5, 1)


def test_nothing_defined_is_none_with_the_reason() -> None:
    metric = over_seeds("m", runs([np.nan]), "def", Bootstrap(resamples=10), reason="why")
    assert metric == undefined("m", "def", "why")
    assert metric.value is None
    assert metric.reason == "n/a: why"
    assert metric.as_dict()["value"] is None


def test_a_difference_with_something_undefined_is_undefined() -> None:
    metric = over_seeds("FM", runs([0.1]), "def", Bootstrap(resamples=10))
    gap = difference("d", metric, undefined("FM", "def", "one task only"), Bootstrap())
    assert gap.value is None
    assert gap.reason == "n/a: one task only"


def test_resamples_are_drawn_in_blocks_whatever_their_number() -> None:
    values = np.array([[0.0, 1.0, 0.25, 1.0]])
    few, many = (Bootstrap(resamples=n).means(values, "a") for n in (3, 1203))
    assert (few.shape, many.shape) == ((3, 1), (1203, 1))
    assert np.array_equal(few, many[:3])


def test_zero_samples_have_no_mean() -> None:
    assert np.isnan(Bootstrap(resamples=5).means(np.empty((2, 0)), "a")).all()


@pytest.mark.parametrize("bad", [{"resamples": 0}, {"level": 1.0}, {"level": 0.0}])
def test_a_bootstrap_that_makes_no_sense_is_refused(bad) -> None:
    with pytest.raises(ValueError, match="bootstrap"):
        Bootstrap(**bad)


def test_metrics_are_printed_in_percent_and_undefined_ones_as_their_reason() -> None:
    metric = Metric("FM", 0.1234, -0.0001, 0.2, "def")
    assert format_metric(metric) == "12.3 [0.0, 20.0]"
    assert format_metric(metric, signed=True) == "+12.3 [0.0, +20.0]"
    assert format_metric(metric.as_dict(), digits=2) == "12.34 [−0.01, 20.00]"
    assert format_metric(undefined("FM", "def", "one task only")) == "n/a: one task only"
