"""What a family of settings loses at a given new-task accuracy: straight lines between the settings of its sweep.

Methods compare at matched new-task accuracy (RL's Razor, arXiv 2509.04259), and what holds at one matched point need
not hold at another: so along the whole range of accuracies that two sweeps share. Every training seed has its own
curve, and every resample of the questions, so the intervals hold the doubt about the accuracies, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cpt.evaluate.intervals import Floats
from cpt.evaluate.stats import CHANGE, Runs

GRID = 21  # accuracies at which two curves are compared


@dataclass(frozen=True)
class Sweep:
    """One family's settings, k = 1..K, in G seeds that all of them have.

    Attributes:
        accuracy: (G, K) new-task accuracy.
        accuracies: (B, G, K) the same with questions resampled.
    """

    seeds: tuple[int, ...]
    accuracy: Floats
    accuracies: Floats

    @property
    def reached(self) -> tuple[float, float]:
        """The accuracies between which every seed's curve lies; the first is above the second if there are none."""
        return float(self.accuracy.min(axis=1).max()), float(self.accuracy.max(axis=1).min())


def stacked(runs: Sequence[Runs], seeds: Sequence[int]) -> tuple[Floats, Floats]:
    """Values (G, K) and replicates (B, G, K) of one number of K settings in these seeds, which all of them have."""
    kept = [one.take([seed in seeds for seed in one.seeds]) for one in runs]
    return np.stack([one.values for one in kept], axis=-1), np.stack([one.replicates for one in kept], axis=-1)


def shared_range(first: Sweep, second: Sweep) -> tuple[float, float] | None:
    """The new-task accuracies that both families reach in every seed; None if there are none.

    A family with a single setting is compared at its own accuracy: the range is that point, if the other reaches it.
    """
    for single, other in ((first, second), (second, first)):
        if single.accuracy.shape[1] == 1:
            own = float(single.accuracy.mean())
            low, high = other.accuracy.mean(axis=0).min(), other.accuracy.mean(axis=0).max()
            return (own, own) if low <= own <= high else None
    low, high = (
        pick(ends) for pick, ends in zip((max, min), zip(first.reached, second.reached, strict=True), strict=True)
    )
    return (low, high) if low < high else None


def gaps(first: Sweep, second: Sweep, losses: tuple[tuple[Floats, Floats], tuple[Floats, Floats]],
         between: tuple[float, float], questions: float) -> list[Runs]:  # fmt: skip
    """The first family's loss minus the second's at `GRID` accuracies of a range, or at the single setting's own.

    Args:
        losses: of each family, as `stacked` gives them.
        between: of `shared_range`.
        questions: different ones that the losses rest on.
    """
    found = []
    for part in range(2):  # the values, then their replicates
        xs = [(sweep.accuracy, sweep.accuracies)[part] for sweep in (first, second)]
        single = next((x for x in xs if x.shape[-1] == 1), None)
        at = np.linspace(*between, GRID) if single is None else single
        one, two = (interpolate(x, loss[part], at) for x, loss in zip(xs, losses, strict=True))
        found.append(one - two)
    values, replicates = found
    return [Runs(first.seeds, values[..., p], replicates[..., p], questions, CHANGE) for p in range(values.shape[-1])]


def mean_gap(found: Sequence[Runs]) -> Runs:
    """The mean of gaps over the range: the area between the curves by its width. They rest on the same questions."""
    values, replicates = (np.mean([getattr(one, part) for one in found], axis=0) for part in ("values", "replicates"))
    return Runs(found[0].seeds, values, replicates, found[0].questions, found[0].reach)


def interpolate(x: Floats, y: Floats, at: Floats) -> Floats:
    """(…, P) piecewise linear curves through K points (x, y), x and y (…, K), at (…, P) or (P,); level beyond the ends.

    Points are taken in the order of their x, each curve's own.
    """
    if x.shape[-1] == 1:
        return np.broadcast_to(y, np.broadcast_shapes(y.shape, at.shape)).copy()
    order = np.argsort(x, axis=-1, kind="stable")
    xs, ys = np.take_along_axis(x, order, axis=-1), np.take_along_axis(y, order, axis=-1)
    at = np.broadcast_to(at, (*x.shape[:-1], at.shape[-1]))
    left = np.zeros(at.shape, dtype=np.intp)
    for k in range(1, x.shape[-1] - 1):
        left += at >= xs[..., k : k + 1]
    (x0, y0), (x1, y1) = (tuple(np.take_along_axis(of, left + step, axis=-1) for of in (xs, ys)) for step in (0, 1))
    width = x1 - x0
    part = np.divide(at - x0, width, out=np.full(at.shape, 0.5), where=width > 0)
    return np.asarray(y0 + np.clip(part, 0.0, 1.0) * (y1 - y0))
