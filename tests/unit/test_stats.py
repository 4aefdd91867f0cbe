"""Bootstrap intervals: paired, seeded, and honest where there is nothing to resample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from synthetic import records

from cpt.evaluate.matrix import accuracy_matrix, metrics
from cpt.evaluate.retention import retention
from cpt.evaluate.stats import Bootstrap, Metric, difference, format_metric, over_seeds, undefined


def test_the_interval_of_a_share_is_near_the_binomial_one() -> None:
    # 40 of 100 right: the normal approximation is 0.4 ± 1.96·sqrt(0.4·0.6/100) = 0.4 ± 0.096.
    rows = records({(0, "a"): "1" * 40 + "0" * 60})
    cell = accuracy_matrix(rows, ["a"], bootstrap=Bootstrap(resamples=4000)).cell(0, 0)
    assert cell.value == pytest.approx(0.4)
    assert cell.low == pytest.approx(0.4 - 0.096, abs=0.012)
    assert cell.high == pytest.approx(0.4 + 0.096, abs=0.012)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    rows = records({(0, "a"): "1" * 37 + "0" * 60, (1, "a"): "1" * 50 + "0" * 47})
    first, again, other = (
        accuracy_matrix(rows, ["a"], bootstrap=Bootstrap(seed=seed)).cell(1, 0) for seed in (0, 0, 1)
    )
    assert (first.low, first.high) == (again.low, again.high)
    assert first.replicates is not None
    assert not np.array_equal(first.replicates, other.replicates)


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
    replicates = accuracy_matrix(rows, ["a"]).cell(0, 0).replicates
    assert set(replicates.tolist()) == {0.0, 0.75, 1.0}
    assert np.isin(replicates, [0.75]).mean() == pytest.approx(0.5, abs=0.05)


def test_unanimous_samples_leave_no_width() -> None:
    cell = accuracy_matrix(records({(0, "a"): "1111"}), ["a"]).cell(0, 0)
    assert (cell.value, cell.low, cell.high) == (1.0, 1.0, 1.0)


def test_stages_are_resampled_together() -> None:
    # The same half of the samples is right before and after: the change is exactly 0 in every resample.
    rows = records({(0, "x"): "1" * 20 + "0" * 20, (1, "x"): "1" * 20 + "0" * 20})
    change = retention(accuracy_matrix(rows, ["a"], columns=["x"])).final
    assert (change.value, change.low, change.high) == (0.0, 0.0, 0.0)


def test_arms_are_resampled_together() -> None:
    boot = Bootstrap()
    bits = "1" * 20 + "0" * 20
    one, two = (
        metrics(accuracy_matrix(records({(0, "a"): bits, (1, "a"): bits}, arm=arm), ["a"], bootstrap=boot))["MFT"]
        for arm in ("sft", "grpo")
    )
    gap = difference("sft − grpo", one, two, boot)
    assert (gap.value, gap.low, gap.high) == (0.0, 0.0, 0.0)


def test_seeds_that_differ_widen_the_interval() -> None:
    boot = Bootstrap(resamples=2000)
    half = "1" * 50 + "0" * 50
    same = records({(0, "a"): half}) + records({(0, "a"): half}, seed=1)
    apart = records({(0, "a"): "1" * 10 + "0" * 90}) + records({(0, "a"): "1" * 90 + "0" * 10}, seed=1)
    narrow, wide = (accuracy_matrix(rows, ["a"], bootstrap=boot).cell(0, 0) for rows in (same, apart))
    assert narrow.value == wide.value == pytest.approx(0.5)
    # A quarter of the resamples draw one seed twice: the interval reaches both seeds' own scores.
    assert wide.low < 0.15
    assert wide.high > 0.85
    assert narrow.low > 0.35


def test_a_seed_without_a_value_is_left_out() -> None:
    boot = Bootstrap(resamples=10)
    metric = over_seeds("m", np.array([0.5, np.nan]), np.tile([0.5, np.nan], (10, 1)), "def", boot)
    assert (metric.value, metric.low, metric.high, metric.seeds) == (0.5, 0.5, 0.5, 1)


def test_nothing_defined_is_none_with_the_reason() -> None:
    metric = over_seeds("m", np.array([np.nan]), np.full((10, 1), np.nan), "def", Bootstrap(resamples=10), reason="why")
    assert metric == undefined("m", "def", "why")
    assert metric.value is None
    assert metric.reason == "n/a: why"
    assert metric.as_dict()["value"] is None


def test_a_difference_with_something_undefined_is_undefined() -> None:
    metric = Metric("FM", 0.1, 0.0, 0.2, "def", "", 1, np.full(1000, 0.1))
    gap = difference("d", metric, undefined("FM", "def", "one task only"), Bootstrap())
    assert gap.value is None
    assert gap.reason == "n/a: one task only"


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
