"""Bootstrap intervals over test samples and seeds. Pure numpy.

The test samples of a task are resampled jointly for every stage and every arm, so a difference between two evaluations
of the same samples keeps its pairing. Samples that ask one and the same question are drawn together. With several
seeds, seeds (whole training runs) and samples are resampled independently of each other and each pair counts the
product of its two counts: the pigeonhole bootstrap for crossed factors (Owen 2007, doi 10.1214/07-AOAS122). With two or
three seeds such an interval is a rough guide to the spread over seeds; with one seed it says nothing about it. An
interval around 0 % or 100 % has no width: no resample differs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        resamples: number B of bootstrap replicates.
        seed: of the resampling; the same seed gives the same interval, whatever else is computed.
        level: coverage of the percentile interval.
    """

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.resamples < 1 or not 0 < self.level < 1:
            raise ValueError(f"bootstrap needs at least one resample and a level between 0 and 1, not {self}")

    def means(self, values: Floats, factor: str, questions: NDArray[np.int64] | None = None) -> Floats:
        """Replicates of a mean over samples.

        Args:
            values: (…, n) outcomes; NaN makes the mean of its row NaN.
            factor: what is resampled, the task's name. The same name and n give the same resamples.
            questions: (n,) which of m questions each sample asks; None: n different ones. Questions are resampled, each
                with all of its samples: a copy is no further evidence.

        Returns:
            (B, …) means of the resampled values.
        """
        *lead, n = values.shape
        if n == 0:
            return np.full((self.resamples, *lead), np.nan)
        m = n if questions is None else int(questions.max()) + 1
        counts = _counts(self.resamples, m, self.seed, factor).astype(np.float32)
        if questions is not None:
            counts = counts[:, questions]
        # Sums of 0s and 1s are exact in float32 up to 2**24 samples.
        sums = counts @ values.reshape(-1, n).T.astype(np.float32)
        means: Floats = sums.astype(np.float64) / counts.sum(axis=1, keepdims=True)
        return means.reshape(self.resamples, *lead)

    def seed_weights(self, seeds: int) -> Floats:
        """(B, G) share of each of G seeds in each replicate; rows sum to 1. One seed always counts fully."""
        weights: Floats = _counts(self.resamples, seeds, self.seed, "seeds").astype(np.float64) / seeds
        return weights

    def interval(self, replicates: Floats) -> tuple[float, float]:
        """Percentile interval of (B,) replicates."""
        tail = 100 * (1 - self.level) / 2
        low, high = np.percentile(replicates, [tail, 100 - tail])
        return float(low), float(high)


@lru_cache(maxsize=64)
def _counts(resamples: int, n: int, seed: int, factor: str) -> NDArray[np.uint16]:
    """(B, n) how often each of n units is drawn when n are drawn with replacement."""
    stream = int.from_bytes(hashlib.blake2b(f"{factor}/{n}".encode(), digest_size=8).digest(), "little")
    drawn = np.random.default_rng([seed, stream]).integers(0, n, size=(resamples, n))
    flat = (drawn + np.arange(resamples)[:, None] * n).ravel()
    return np.bincount(flat, minlength=resamples * n).reshape(resamples, n).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with its interval, its definition, and, where it is undefined, the reason.

    Attributes:
        value: mean over the seeds where it is defined; None where it is undefined, never 0.
        low, high: ends of the bootstrap interval; None with `value`.
        definition: the formula, to be printed beside the number.
        reason: why `value` is None.
        seeds: number of seeds it is a mean of.
        replicates: (B,) bootstrap replicates, for differences between arms.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    definition: str
    reason: str = ""
    seeds: int = 0
    replicates: Floats | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        named = ("name", "value", "low", "high", "definition", "reason", "seeds")
        return {key: getattr(self, key) for key in named}


def undefined(name: str, definition: str, reason: str) -> Metric:
    """A metric without a value."""
    return Metric(name, None, None, None, definition, f"n/a: {reason}")


def over_seeds(
    name: str, per_seed: Floats, replicates: Floats, definition: str, bootstrap: Bootstrap, *, reason: str = "no data"
) -> Metric:
    """Mean over the seeds where a quantity is defined, with its interval.

    Args:
        per_seed: (G,) value per seed, NaN where undefined.
        replicates: (B, G) the same from resampled samples.
        reason: given if no seed has a value.
    """
    defined = ~np.isnan(per_seed)
    if not defined.any():
        return undefined(name, definition, reason)
    kept = int(defined.sum())
    mixed = (replicates[:, defined] * bootstrap.seed_weights(kept)).sum(axis=1)
    low, high = bootstrap.interval(mixed)
    return Metric(name, float(per_seed[defined].mean()), low, high, definition, "", kept, mixed)


def difference(name: str, first: Metric, second: Metric, bootstrap: Bootstrap) -> Metric:
    """`first` − `second` with a paired interval: both were made from the same resampled samples."""
    definition = f"{first.name}: first − second, resampled jointly"
    for metric in (first, second):
        if metric.value is None:
            return Metric(name, None, None, None, definition, metric.reason)
    assert first.value is not None
    assert second.value is not None
    assert first.replicates is not None
    assert second.replicates is not None
    gap = first.replicates - second.replicates
    low, high = bootstrap.interval(gap)
    return Metric(name, first.value - second.value, low, high, definition, "", min(first.seeds, second.seeds), gap)


def format_metric(metric: Metric | Mapping[str, Any], *, signed: bool = False, digits: int = 1) -> str:
    """`71.5 [66.0, 76.9]` in percent, or the reason."""
    found = metric if isinstance(metric, Mapping) else metric.as_dict()
    if found["value"] is None:
        return str(found["reason"] or "n/a")
    value, low, high = (
        format_number(100 * found[key], signed=signed, digits=digits) for key in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def format_number(value: float, *, signed: bool = False, digits: int = 1) -> str:
    """Fixed number of digits, on demand with its sign; a true minus, and zero has no sign."""
    rounded = round(value, digits)
    if rounded == 0:
        return f"{0.0:.{digits}f}"
    return f"{rounded:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def mean_or_nan(values: Sequence[float] | Floats) -> float:
    """Mean of the numbers that are not NaN; NaN if there are none."""
    array = np.asarray(values, dtype=np.float64)
    return float(np.nanmean(array)) if array.size and not np.isnan(array).all() else math.nan
