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
        both, only_a, only_b, neither: completions by who gives at least `threshold`; they sum to `judged`.
        failed_a, failed_b, failed_both: completions that the one, the other or both could not judge (error, timeout).
            They are in none of the numbers above and below.
        mean_difference: mean of |a - b| over the judged completions; None without any.
        disagreeing: positions where the values differ, by falling |a - b|, then in the order of the completions.
        failed: positions where at least one could not judge, in order.
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
    def judged(self) -> int:
        """Completions that both rewards could judge."""
        return self.both + self.only_a + self.only_b + self.neither

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of the verdicts; see `cohens_kappa`."""
        return cohens_kappa(self.both, self.only_a, self.only_b, self.neither)


def agree(a: Sequence[Score], b: Sequence[Score], threshold: float = THRESHOLD) -> Agreement:
    """Compare two rewards' scores of the same completions, in the same order.

    Raises:
        ValueError: the threshold is not in (0, 1]; at 0 every completion would count as right.
    """
    assert len(a) == len(b), f"{len(a)} scores beside {len(b)}"
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold: must be above 0 and at most 1, not {threshold:g}")
    pairs = list(zip(a, b, strict=True))
    judged = [i for i, (x, y) in enumerate(pairs) if not (x.failed or y.failed)]
    verdicts = [(pairs[i][0].value >= threshold - SAME, pairs[i][1].value >= threshold - SAME) for i in judged]
    difference = {i: abs(pairs[i][0].value - pairs[i][1].value) for i in judged}
    return Agreement(
        threshold=threshold,
        both=verdicts.count((True, True)),
        only_a=verdicts.count((True, False)),
        only_b=verdicts.count((False, True)),
        neither=verdicts.count((False, False)),
        failed_a=sum(x.failed and not y.failed for x, y in pairs),
        failed_b=sum(y.failed and not x.failed for x, y in pairs),
        failed_both=sum(x.failed and y.failed for x, y in pairs),
        mean_difference=sum(difference.values()) / len(judged) if judged else None,
        disagreeing=tuple(sorted((i for i in judged if difference[i] > SAME), key=lambda i: (-difference[i], i))),
        failed=tuple(i for i, (x, y) in enumerate(pairs) if x.failed or y.failed),
    )


def cohens_kappa(both: int, only_a: int, only_b: int, neither: int) -> float | None:
    """Agreement beyond chance of two yes-or-no judges (Cohen 1960): (p_o - p_e) / (1 - p_e).

    p_o is the share of equal verdicts, p_e the share to expect of two judges who say yes as often as these do but
    independently of each other. None where there is nothing to correct: without any verdict, and where both say the
    same of every completion (p_e = 1, kappa = 0/0). They agree then, but nothing was there to tell them apart. Where
    only one of them is constant, kappa is 0: its verdicts carry no information about the other's.
    """
    n = both + only_a + only_b + neither
    if n == 0:
        return None
    yes_a, yes_b = both + only_a, both + only_b
    # In whole numbers: n² p_e = n² exactly where both judges are constant and equal.
    expected = yes_a * yes_b + (n - yes_a) * (n - yes_b)
    if expected == n * n:
        return None
    return (n * (both + neither) - expected) / (n * n - expected)
