"""Two rewards side by side: counts and kappa by hand, failed rows apart, the worst disagreement first."""

from __future__ import annotations

import pytest

from rewards.lab.agreement import agree, cohens_kappa
from rewards.score import Score


def scores(*values: float | str) -> list[Score]:
    """Numbers become values, words statuses."""
    return [Score(0.0, status=v) if isinstance(v, str) else Score(v) for v in values]


def test_a_table_by_hand():
    found = agree(scores(1, 1, 0.9, 0, 0.2, 0), scores(1, 0.6, 0, 1, 0, 0))
    assert (found.both, found.only_a, found.only_b, found.neither, found.scored) == (2, 1, 1, 2, 6)
    assert found.mean_difference == pytest.approx((0 + 0.4 + 0.9 + 1 + 0.2 + 0) / 6)
    # p_o = 4/6, both judges say yes to half: p_e = 1/2, kappa = (2/3 - 1/2) / (1/2).
    assert found.kappa == pytest.approx(1 / 3)


def test_disagreements_come_worst_first_and_equal_ones_in_order():
    found = agree(scores(1, 1, 0.9, 0, 0.2, 0), scores(1, 0.6, 0, 1, 0, 1))
    assert found.disagreeing == (3, 5, 2, 1, 4)


def test_what_could_not_be_judged_counts_nowhere_else():
    found = agree(scores("error", 1, "timeout", 1), scores(1, "timeout", "error", 1))
    assert (found.failed_a, found.failed_b, found.failed_both, found.failed) == (1, 1, 1, (0, 1, 2))
    assert (found.scored, found.both, found.mean_difference, found.disagreeing) == (1, 1, 0.0, ())


def test_where_a_reward_does_not_apply_counts_nowhere_else_either():
    found = agree([None, *scores(1)], scores(1, 1))
    assert (found.failed_a, found.failed, found.scored) == (1, (0,), 1)


def test_a_completion_that_is_wrong_is_not_one_that_failed():
    found = agree(scores("malformed", "no_answer", "ambiguous"), scores(0, 0, 1))
    assert (found.failed, found.neither, found.only_b) == ((), 2, 1)


def test_the_threshold_itself_is_a_yes():
    assert agree(scores(0.5), scores(0.4999)).only_a == 1
    assert agree(scores(0.7 + 0.2), scores(1), threshold=0.9).both == 1  # 0.7 + 0.2 < 0.9 in binary
    assert agree(scores(0.9 + 0.1), scores(1)).disagreeing == ()


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_a_threshold_that_means_nothing_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold: must be above 0 and at most 1"):
        agree(scores(1), scores(1), threshold=threshold)


@pytest.mark.parametrize(
    ("counts", "kappa"),
    [
        ((20, 5, 10, 15), 0.4),  # p_o = 0.7, p_e = 0.5·0.6 + 0.5·0.4 = 0.5
        ((45, 15, 25, 15), 6 / 46),  # p_o = 0.6, p_e = 0.6·0.7 + 0.4·0.3 = 0.54
        ((1, 0, 0, 1), 1.0),
        ((0, 1, 1, 0), -1.0),
        ((25, 25, 25, 25), 0.0),
        ((3, 2, 0, 0), 0.0),  # A says yes to all
        ((7, 0, 0, 0), None),
        ((0, 0, 0, 7), None),
        ((0, 0, 0, 0), None),
    ],
)
def test_kappa_by_hand(counts, kappa):
    assert cohens_kappa(*counts) == (None if kappa is None else pytest.approx(kappa))


def test_nothing_to_compare():
    found = agree([], [])
    assert (found.scored, found.mean_difference, found.kappa) == (0, None, None)
