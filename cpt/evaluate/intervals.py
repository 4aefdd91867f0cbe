"""Intervals around a number that was measured in one or several training runs on a sample of questions. Pure numpy.

What each says, and how it is made, is in `DEFINITION`. The simulations that the choice rests on are
tests/unit/test_coverage.py.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DEFINITION = {
    "one": "percentile bootstrap over questions; one seed, so it speaks of these policies and not of other runs",
    "several": "Student's t over the seeds' own values, half-width √(t²s²/G + z²c), c the variance that seeds share by "
    "being asked the same questions; never narrower than the questions alone make it",
    "ends": "where every question came out alike (0 %, 100 %, no change), and never narrower than there: from "
    "v − u·(v − least) to v + u·(most − v) with u = z²/(N + z²), the end of Wilson's interval for 0 of N different "
    "questions: the share of questions that may come out otherwise though none of N did. Of graded scores, too, that "
    "is a share of questions, each of which may give least or most (for a difference the lost and the gained each have "
    "that end)",
}


def percentile(replicates: Floats, level: float) -> tuple[float, float]:
    """Percentile interval of (B,) bootstrap replicates."""
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(replicates, [tail, 100 - tail])
    return float(low), float(high)


def half_width(values: Floats, replicates: Floats, level: float) -> Floats:
    """Half of an interval around the mean over training runs that were asked the same questions.

    Runs and questions are crossed factors. The spread of the runs' values holds what differs from run to run and the
    chance of their own answers: Student's t. What it can't hold is that other questions would have moved all runs
    alike; that is what the runs' bootstrap replicates have in common: their covariance c. The two half-widths add like
    the sides of a right angle (Zou and Donner 2008, doi 10.1002/sim.3095, for independent parts). Runs that happen to
    be equal do not make it narrower than the sampling of questions alone would.

    Args:
        values: (…, G) of G ≥ 2 runs.
        replicates: (B, …, G) the same with questions resampled, jointly for all runs.
    """
    runs = values.shape[-1]
    assert runs > 1
    by_run = np.ascontiguousarray(np.moveaxis(replicates, 0, -1))  # (…, G, B): fast to sum over B
    own = by_run.var(axis=-1).mean(axis=-1)  # mean variance of a run
    of_mean = by_run.mean(axis=-2).var(axis=-1)
    common = (runs * of_mean - own) / (runs - 1)  # mean covariance of two different runs
    z, t = NormalDist().inv_cdf((1 + level) / 2), student(runs - 1, level)
    between = t**2 * values.var(axis=-1, ddof=1) / runs
    within = z**2 * np.maximum(own - common, 0.0) / runs
    return np.asarray(np.sqrt(np.maximum(between, within) + z**2 * np.maximum(common, 0.0)))


def at_least(
    interval: tuple[float, float], value: float, questions: float, reach: tuple[float, float], level: float
) -> tuple[float, float]:
    """An interval that does not claim certainty where no question differs from another; see `DEFINITION`.

    Args:
        questions: number of different ones, N.
        reach: the least and the most that a single question could give; an infinite one leaves the interval as it is,
            within that reach.
    """
    low, high = interval
    least, most = reach
    if math.isfinite(least) and math.isfinite(most) and questions > 0:
        z = NormalDist().inv_cdf((1 + level) / 2)
        u = z**2 / (questions + z**2)
        low, high = min(low, value - u * (value - least)), max(high, value + u * (most - value))
    return max(low, least), min(high, most)


def effective(questions: list[int]) -> float:
    """Of a mean over tasks: the number of questions in one task whose mean would be as sure. 0 if a task has none."""
    if not questions or 0 in questions:
        return 0.0
    return len(questions) ** 2 / sum(1 / n for n in questions)


@lru_cache
def student(degrees: int, level: float) -> float:
    """The two-sided quantile of Student's t: an absolute t is below it with probability `level`."""
    low, high = 0.0, 1.0
    while _within(high, degrees) < level:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < level else (low, middle)
    return high


def _within(t: float, degrees: int) -> float:
    """P(|T| < t), for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine, odd = math.cos(angle), degrees % 2
    term = total = cosine if odd else 1.0
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= cosine**2 * ((k - 1) / k)
        total += term
    if odd:
        return 2 / math.pi * (angle + (math.sin(angle) * total if degrees > 1 else 0.0))
    return math.sin(angle) * total
