"""Metrics with their intervals: over questions by bootstrap, over training runs by Student's t. Pure numpy.

The test samples of a task are resampled jointly for every stage, seed and arm, so a difference between two evaluations
of the same samples keeps its pairing. Samples that ask one and the same question are drawn together. A difference
between two arms is paired by seed too: both trained on the same samples in the same order. How the ends of an interval
follow is in `cpt.evaluate.intervals`.
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

from cpt.evaluate.intervals import Floats, at_least, half_width, percentile

SHARE, CHANGE, UNBOUNDED = (0.0, 1.0), (-1.0, 1.0), (-math.inf, math.inf)
_DRAWN = 2**22  # draws made at a time: bounds the memory, whatever a task's size
# Multiplications at a time: a core's cache holds them, and BLAS makes no threads of so few, which would wait for each
# other where the machine has other work.
_MULTIPLIED = 200_000
_KEPT = 1000  # resampled sums to remember, 40 kB each


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made.

    Attributes:
        resamples: number B of bootstrap replicates.
        seed: of the resampling; the same seed gives the same interval, whatever else is computed.
        level: coverage of the intervals.
    """

    resamples: int = 10_000
    seed: int = 0
    level: float = 0.95
    _known: dict[tuple[str, bytes], NDArray[np.float32]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

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
        # Of every question the sum of its samples and their number. Sums of 0s and 1s are exact in float32 up to 2**24.
        columns = np.concatenate([values.reshape(-1, n), np.ones((1, n))]).T
        if questions is not None:
            order = np.argsort(questions, kind="stable")
            starts = np.flatnonzero(np.diff(questions[order], prepend=-1))
            columns = np.add.reduceat(columns[order], starts, axis=0)
        sums = self._sums(columns.astype(np.float32).T, factor)
        means: Floats = (sums[:-1] / sums[-1]).T
        return means.reshape(self.resamples, *lead)

    def _sums(self, rows: NDArray[np.float32], factor: str) -> Floats:
        """(k, B) resampled sums of (k, m) values. Equal rows are summed once, those of other calls included: arms share
        the base model's row, and tolerant scores are mostly the strict ones.
        """
        keys = [(factor, row.tobytes()) for row in rows]
        known = {key: self._known[key] for key in keys if key in self._known}
        new = {key: row for key, row in zip(keys, rows, strict=True) if key not in known}
        if new:
            values = np.array(list(new.values())).T
            found = np.empty((self.resamples, len(new)), dtype=np.float32)
            block, part = max(1, _DRAWN // len(values)), max(8, _MULTIPLIED // values.size)
            for number, first in enumerate(range(0, self.resamples, block)):
                counts = _counts(min(block, self.resamples - first), len(values), self.seed, factor, number)
                for start in range(0, len(counts), part):
                    some = counts[start : start + part].astype(np.float32)
                    np.matmul(some, values, out=found[first + start : first + start + len(some)])
            known |= dict(zip(new, np.ascontiguousarray(found.T), strict=True))
        for key in known:  # the last ones used stay
            self._known.pop(key, None)
        self._known.update(known)
        for key in list(self._known)[: max(0, len(self._known) - _KEPT)]:
            del self._known[key]
        return np.array([known[key] for key in keys], dtype=np.float64)


@lru_cache(maxsize=64)
def _counts(rows: int, n: int, seed: int, factor: str, block: int) -> NDArray[np.uint8]:
    """(rows, n) how often each of n questions is drawn when n are drawn with replacement."""
    stream = int.from_bytes(hashlib.blake2b(f"{factor}/{n}".encode(), digest_size=8).digest(), "little")
    drawn = np.random.default_rng([seed, stream, block]).integers(0, n, size=(rows, n), dtype=np.int32)
    counts = np.bincount((drawn + n * np.arange(rows)[:, None]).ravel(), minlength=rows * n)
    assert counts.max() < 256
    return counts.reshape(rows, n).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Runs:
    """One quantity in each of G training runs that were asked the same questions.

    Attributes:
        seeds: (G,) which runs.
        values: (G,) the quantity.
        replicates: (B, G) the same with questions resampled, jointly for all runs.
        questions: how many different ones it rests on (`intervals.effective`); 0 if that is not known.
        reach: the least and the most that a single question can give.
    """

    seeds: tuple[int, ...]
    values: Floats
    replicates: Floats
    questions: float = 0.0
    reach: tuple[float, float] = UNBOUNDED

    def take(self, kept: Sequence[bool] | NDArray[np.bool_]) -> Runs:
        """Some of the runs."""
        mask = np.asarray(kept, dtype=bool)
        seeds = tuple(seed for seed, keep in zip(self.seeds, mask, strict=True) if keep)
        return Runs(seeds, self.values[mask], self.replicates[:, mask], self.questions, self.reach)

    def interval(self, level: float) -> tuple[float, float]:
        """Around the mean of the values; see `intervals.DEFINITION`."""
        value = float(self.values.mean())
        if len(self.seeds) == 1:
            ends = percentile(self.replicates[:, 0], level)
        else:
            half = float(half_width(self.values, self.replicates, level))
            ends = value - half, value + half
        return at_least(ends, value, self.questions, self.reach, level)


@dataclass(frozen=True, slots=True)
class Metric:
    """A number with its interval, its definition, and, where it is undefined, the reason.

    Attributes:
        value: mean over the seeds where it is defined; None where it is undefined, never 0.
        low, high: ends of the interval; None with `value`.
        definition: the formula, to be printed beside the number.
        reason: why `value` is None.
        seeds: number of seeds it is a mean of.
        runs: what it was made from, for differences between arms.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    definition: str
    reason: str = ""
    seeds: int = 0
    runs: Runs | None = field(default=None, repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        named = ("name", "value", "low", "high", "definition", "reason", "seeds")
        return {key: getattr(self, key) for key in named}

    @property
    def sign(self) -> int:
        """1 or −1 where the interval, rounded as a reader sees it, lies above or below 0, else 0; 0 without a value."""
        if self.low is None or self.high is None:
            return 0
        low, high = (round(100 * end, 1) for end in (self.low, self.high))
        return 1 if low > 0 else -1 if high < 0 else 0


def undefined(name: str, definition: str, reason: str) -> Metric:
    """A metric without a value."""
    return Metric(name, None, None, None, definition, f"n/a: {reason}")


def over_seeds(name: str, runs: Runs, definition: str, bootstrap: Bootstrap, *, reason: str = "no data") -> Metric:
    """Mean over the seeds where a quantity is defined, with its interval.

    Args:
        runs: NaN where it is undefined.
        reason: given if no seed has a value.
    """
    defined = ~np.isnan(runs.values)
    if not defined.any():
        return undefined(name, definition, reason)
    kept = runs if defined.all() else runs.take(defined)
    low, high = kept.interval(bootstrap.level)
    return Metric(name, float(kept.values.mean()), low, high, definition, "", len(kept.seeds), kept)


def difference(name: str, first: Metric, second: Metric, bootstrap: Bootstrap) -> Metric:
    """`first` − `second` with a paired interval: of the same seeds, made from the same resampled samples."""
    definition = f"{first.name}: first − second, by seed, resampled jointly"
    for metric in (first, second):
        if metric.value is None:
            return Metric(name, None, None, None, definition, metric.reason)
    assert first.runs is not None and second.runs is not None
    both = set(first.runs.seeds) & set(second.runs.seeds)
    if not both:
        return undefined(name, definition, "no seed has both")
    one, two = (runs.take([seed in both for seed in runs.seeds]) for runs in (first.runs, second.runs))
    assert one.seeds == two.seeds
    reach = CHANGE if math.isfinite(one.reach[0]) else UNBOUNDED
    fewer = min(one.questions, two.questions)
    gaps = Runs(one.seeds, one.values - two.values, one.replicates - two.replicates, fewer, reach)
    return over_seeds(name, gaps, definition, bootstrap)


def mean_of(name: str, metrics: Sequence[Metric], definition: str, bootstrap: Bootstrap) -> Metric:
    """The mean of several defined metrics, of equal reach, over the seeds that have them all."""
    found = [metric.runs for metric in metrics]
    both = set.intersection(*(set(runs.seeds) for runs in found if runs is not None))
    parts = [runs.take([seed in both for seed in runs.seeds]) for runs in found if runs is not None]
    assert parts and len(parts) == len(metrics)
    values, replicates = (np.mean([getattr(p, part) for p in parts], axis=0) for part in ("values", "replicates"))
    sizes = [part.questions for part in parts]
    questions = len(parts) ** 2 / sum(1 / n for n in sizes) if all(sizes) else 0.0
    runs = Runs(parts[0].seeds, values, replicates, questions, parts[0].reach)
    return over_seeds(name, runs, definition, bootstrap, reason="every seed misses a part")


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
