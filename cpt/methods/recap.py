"""RECAP: weights of several objectives that follow how each of them is coming along. Pure arithmetic.

An objective's history holds one value per step in which it took part: a mean reward in [0, 1], or a token cross-entropy
in nats. What is weighed is the newer half of its last 2W values against the older half. The two versions:

- `paper` (arXiv 2510.21978, section 4): with μ̃ and μ the means of the older and the newer half of the *losses* and σ
  the deviation of the newer half, c = μ/μ̃ (below 1: improving; about 1: saturated), i = σ/(μ + μ̃), s = α·c + (1 − α)·i,
  λ = K · softmax(s/T). A reward enters as the loss 1 − r.
- `released` (the authors' code): with raw values, c = Σ older / Σ newer on a step of reinforcement learning and the
  inverse on a supervised one, for all histories alike; i = deviation / mean of both halves; and two softmaxes,
  λ = K · (α · softmax(c/T) + (1 − α) · softmax(i/T)).

Deviations divide by the number of values. Where a mean is 0, c and i have no value: two zeros count as saturated
(c = 1, i = 0), and a ratio beyond `MOST` counts as that, so that an objective whose reward falls to 0 gets much weight
and not all of it.

Under GRPO's division by a group's standard deviation a factor that all components of a group share cancels: only ratios
between the components of one source act on its update. `weigh: advantages` normalises every component by itself and
weighs the advantages, so that λ acts between sources, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Annotated, Literal

from pydantic import AfterValidator, PositiveFloat, PositiveInt

from cpt.methods.plugin import Strict

Mode = Literal["paper", "released"]
ANNEALED = -1.0
MOST = 10.0
"""Bound of c and i; with the default temperature it is worth a weight 6 times that of a saturated objective."""
_TINY = 1e-15  # beside a sum or a mean, as released


def _share_or_annealed(alpha: float) -> float:
    if not 0 <= alpha <= 1 and alpha != ANNEALED:
        raise ValueError("must be between 0 and 1, or -1 to be annealed")
    return alpha


class Recap(Strict):
    """How objectives are reweighted; see the module. `alpha: -1` anneals α from 1 to 0 over the stage's steps."""

    mode: Mode = "paper"
    window: PositiveInt = 10
    temperature: PositiveFloat = 5.0
    alpha: Annotated[float, AfterValidator(_share_or_annealed)] = 0.5
    weigh: Literal["rewards", "advantages"] = "rewards"


@dataclass(frozen=True)
class Signals:
    """What one history says: convergence c and instability i, both without unit; (1, 0) until there are two values."""

    convergence: float = 1.0
    instability: float = 0.0


def paper_signals(losses: Sequence[float], window: int) -> Signals:
    """c and i of the paper; with fewer than 2W values, of as many as make two halves."""
    older, newer = _halves(losses, window)
    if not newer:
        return Signals()
    before, now = fmean(older), fmean(newer)
    return Signals(_ratio(now, before), _ratio(pstdev(newer), now + before, both_zero=0.0))


def released_signals(values: Sequence[float], window: int, supervised_step: bool) -> Signals:
    """c and i of the released code, on the raw values."""
    older, newer = _halves(values, window)
    if not newer:
        return Signals()
    top, bottom = (sum(newer), sum(older)) if supervised_step else (sum(older), sum(newer))
    both = [*older, *newer]
    return Signals(_ratio(top, bottom), _ratio(pstdev(both), fmean(both), both_zero=0.0))


def paper_weights(signals: Sequence[Signals], alpha: float, temperature: float) -> list[float]:
    """λ of the paper; they add up to their number K."""
    scores = [alpha * one.convergence + (1 - alpha) * one.instability for one in signals]
    return [len(signals) * share for share in _softmax(scores, temperature)]


def released_weights(signals: Sequence[Signals], alpha: float, temperature: float) -> list[float]:
    """λ of the released code; they add up to their number K."""
    first = _softmax([one.convergence for one in signals], temperature)
    second = _softmax([one.instability for one in signals], temperature)
    return [len(signals) * (alpha * c + (1 - alpha) * i) for c, i in zip(first, second, strict=True)]


class Reweighting:
    """The weights of one stage's objectives, from the values that it is told of. All are 1 at the start.

    Args:
        names: of the objectives, `source` or `source/component`.
        supervised: those whose values are losses.
        steps: of the stage, for annealing.
    """

    def __init__(self, setting: Recap, names: Sequence[str], supervised: Collection[str], steps: int) -> None:
        self.setting, self.supervised, self.steps = setting, frozenset(supervised), steps
        self.histories: dict[str, list[float]] = {name: [] for name in names}
        self.signals = dict.fromkeys(names, Signals())
        self.weights = dict.fromkeys(names, 1.0)

    def observe(self, values: Mapping[str, float], step: int, *, supervised_step: bool = False) -> None:
        """Append what took part in a step, and weigh anew.

        Args:
            values: mean reward or cross-entropy by objective; those that took no part are absent.
            step: steps done so far.
            supervised_step: the step was one of SFT; only `released` asks.
        """
        setting = self.setting
        for name, value in values.items():
            loss = setting.mode == "paper" and name not in self.supervised
            self.histories[name] = [*self.histories[name], 1 - value if loss else value][-2 * setting.window :]
        alpha = 1 - min(1.0, step / self.steps) if setting.alpha == ANNEALED else setting.alpha
        histories = self.histories.values()
        if setting.mode == "paper":
            signals = [paper_signals(history, setting.window) for history in histories]
            weights = paper_weights(signals, alpha, setting.temperature)
        else:
            signals = [released_signals(history, setting.window, supervised_step) for history in histories]
            weights = released_weights(signals, alpha, setting.temperature)
        self.signals = dict(zip(self.histories, signals, strict=True))
        self.weights = dict(zip(self.histories, weights, strict=True))


def _halves(values: Sequence[float], window: int) -> tuple[Sequence[float], Sequence[float]]:
    half = min(len(values) // 2, window)
    return (values[-2 * half : -half], values[-half:]) if half else ((), ())


def _ratio(top: float, bottom: float, both_zero: float = 1.0) -> float:
    if abs(top) <= _TINY and abs(bottom) <= _TINY:
        return both_zero
    return min(MOST, top / (bottom + _TINY))


def _softmax(values: Sequence[float], temperature: float) -> list[float]:
    most = max(values)
    powers = [math.exp((value - most) / temperature) for value in values]
    return [power / sum(powers) for power in powers]
