"""Where two rewards disagree about the same completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.score import Score

THRESHOLD = 0.5
SAME = 1e-9
"""Values nearer than this are the same: 0.9 + 0.1 is not 1.0 in binary."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two rewards side by side on n completions.

    Attributes:
        both, only_a, only_b, neither: completions by which rewards give at least `threshold`; they sum to `scored`.
        failed_a, failed_b, failed_both: completions that the first, the second or both could not score: error, timeout,
            or not applicable. They are in none of the other numbers.
        mean_difference: mean of |a - b| over the completions that both scored; None without any.
        disagreeing: positions where the values differ, by falling |a - b|, then in the order of the completions.
        failed: positions where at least one could not score, in order.
    """

    threshold: float
    both: int
    only_a: int
    only_b: int
    neither: int
    failed_a: int
    failed_b: int
    failed_both: int
    mean_difference: float | None
    disagreeing: tuple[int, ...]
    failed: tuple[int, ...]

    @property
    def scored(self) -> int:
        """Completions that both rewards could score."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of the verdicts; see `cohens_kappa`."""
        return cohens_kappa(self.both, self.only_a, self.only_b, self.neither)


def agree(a: Sequence[Score | None], b: Sequence[Score | None], threshold: float = THRESHOLD) -> Agreement:
    """Compare two rewards' scores of the same completions, in the same order; None where a reward does not apply.

    Raises:
        ValueError: the threshold is not in (0, 1]; at 0 every completion would count as right.
    """
    assert len(a) == len(b), f"{len(a)} scores beside {len(b)}"
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: must be above 0 and at most 1, not {threshold:g}")
    values = list(zip(map(_value, a), map(_value, b), strict=True))
    scored = {i: (x, y) for i, (x, y) in enumerate(values) if x is not None and y is not None}
    verdicts = [(x >= threshold - SAME, y >= threshold - SAME) for x, y in scored.values()]
    difference = {i: abs(x - y) for i, (x, y) in scored.items()}
    failed = [(x is None, y is None) for x, y in values]
    return Agreement(
        threshold=threshold,
        both=verdicts.count((True, True)),
        only_a=verdicts.count((True, False)),
        only_b=verdicts.count((False, True)),
        neither=verdicts.count((False, False)),
        failed_a=failed.count((True, False)),
        failed_b=failed.count((False, True)),
        failed_both=failed.count((True, True)),
        mean_difference=sum(difference.values()) / len(scored) if scored else None,
        disagreeing=tuple(sorted((i for i in scored if difference[i] > SAME), key=lambda i: (-difference[i], i))),
        failed=tuple(i for i in range(len(values)) if i not in scored),
    )


def _value(score: Score | None) -> float | None:
    return None if score is None or score.failed else score.value


def cohens_kappa(both: int, only_a: int, only_b: int, neither: int) -> float | None:
    """Agreement beyond chance of two yes-or-no raters (Cohen 1960): (p_o - p_e) / (1 - p_e).

    p_o is the share of equal verdicts, p_e the share to expect of two raters who say yes as often as these do but
    independently. None without any verdict, and if both say the same of every completion (p_e = 1, kappa = 0/0). If
    only one of them is constant, kappa is 0: its verdicts carry no information about the other's.
    """
    n = both + only_a + only_b + neither
    if n == 0:
        return None
    yes_a, yes_b = both + only_a, both + only_b
    # In whole numbers: n² p_e = n² exactly if both raters are constant and equal.
    expected = yes_a * yes_b + (n - yes_a) * (n - yes_b)
    if expected == n * n:
        return None
    return (n * (both + neither) - expected) / (n * n - expected)
