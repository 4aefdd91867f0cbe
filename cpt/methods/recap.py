"""RECAP: weights of several objectives that follow how each of them is coming along. Pure arithmetic.

An objective's history holds one value per step in which it took part: a mean reward in [0, 1], or a token cross-entropy
in nats. The newer half of its last 2W values is compared with the older half. A step's values are in the history before
that step is weighed. With μ̃ and μ the means of the older and the newer half:

- `paper` (arXiv 2510.21978v2, equations and Algorithms 1 and 2), on losses, where a reward enters as 1 − r:
  c = μ̃/μ (above 1: improving), i = σ/(μ + μ̃) with σ the deviation of all 2W values (divided by 2W − 1), s = c + i,
  λ = K · softmax(s/T). Every λ is 1 until every objective has its 2W values.
- `paper-v1` (the first version, as summaries tell it), on losses: c = μ/μ̃ (below 1: improving), σ the deviation of the
  newer half, s = α·c + (1 − α)·i, λ = K · softmax(s/T).
- `released` (the authors' code), on raw values: c = Σ older / Σ newer on a step of reinforcement learning and the
  inverse on a supervised one, for all histories alike; i = deviation / mean of both halves; and two softmaxes,
  λ = K · (α · softmax(c/T) + (1 − α) · softmax(i/T)).

The last two compare as many values as make two halves until there are 2W; their deviations divide by the number of
values. Where a mean is 0, c and i have no value: two zeros count as saturated (c = 1, i = 0), and a ratio beyond `MOST`
counts as that, so that an objective whose loss or reward falls to 0 gets much weight and not all of it.

Under GRPO's division by a group's standard deviation a factor that all components of a group share cancels: only ratios
between the components of one source act on its update. `weigh: advantages` normalises every component by itself and
weighs the advantages, so that λ acts between sources, too.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev, stdev
from typing import Annotated, Literal

from pydantic import AfterValidator

from cpt.common.keys import Problem
from cpt.common.strict import Strict
from cpt.methods.replay import Weighed
from cpt.methods.setting import ArmView, Count, Temperature

Mode = Literal["paper", "paper-v1", "released"]
ALPHA = 0.5  # where a recipe says nothing
ANNEALED = -1.0
MOST = 10.0
"""Bound of c and i; with the default temperature it is worth a weight 6 times that of a saturated objective."""
_TINY = 1e-15  # beside a sum or a mean, as released


def _share_or_annealed(alpha: float | None) -> float | None:
    if alpha is not None and not 0 <= alpha <= 1 and alpha != ANNEALED:
        raise ValueError("must be between 0 and 1, or -1 to be annealed")
    return alpha


class Recap(Strict):
    """How objectives are reweighted; see the module.

    `alpha`, which `mode: paper` does not have, is 0.5 by default; -1 anneals it from 1 to 0 over the stage's steps.
    """

    mode: Mode = "paper"
    window: Count = 10
    temperature: Temperature = 5.0
    alpha: Annotated[float | None, AfterValidator(_share_or_annealed)] = None
    weigh: Literal["rewards", "advantages"] = "rewards"


class RecapReplay(Weighed, Recap):
    """RECAP (arXiv 2510.21978): the objectives of all sources are reweighted while they are trained."""

    type: Literal["recap"]

    def without_samples(self, arm: ArmView) -> Iterator[Problem]:
        """It weighs the components of the stages' own rewards, where there are two or more."""
        if not arm.method.needs_rollouts or all(len(arm.components(name)) == 1 for name, _ in arm.tasks):
            yield (
                (),
                "RECAP weighs objectives against each other and there is one only; name `tasks:` to replay, or set "
                "finished: true with two stages or more",
            )

    def weight_clashes(self, arm: ArmView) -> Iterator[Problem]:
        """See the class."""
        yield from super().weight_clashes(arm)
        if arm.method.save_steps and arm.method.logging_steps > 1:
            yield (), "a stage that goes on finds its weights in metrics.jsonl; set method.logging_steps: 1"
        if self.mode == "paper":
            yield from self._window_problems(arm)
        if self.weigh != "advantages":
            return
        if changing := arm.reward_changes:
            yield (
                ("weigh",),
                f"advantages are those of the reward's own components, without what {changing[0].type} adds; set "
                "weigh: rewards",
            )
        if not arm.method.needs_rollouts:
            yield ("weigh",), "SFT has no advantages; leave it out"
        elif arm.method.type == "remax":
            yield ("weigh",), "ReMax's greedy baseline has no components; set weigh: rewards"

    def _window_problems(self, arm: ArmView) -> Iterator[Problem]:
        """What `mode: paper` has no use for, and a window that never fills, so that every weight stays 1."""
        if self.alpha is not None:
            yield ("alpha",), "is not in mode: paper, whose score is c + i; leave it out, or set mode: paper-v1"
        most = max(self._values(arm, stage) for stage in range(1, len(arm.tasks) + 1))
        if 0 < most < 2 * self.window:
            yield (
                ("window",),
                f"weights move once every objective has 2 × {self.window} values, and no stage gives its rarest one "
                f"more than {most}; set {most // 2} or less, or train longer"
                if most > 1
                else f"no stage gives its rarest objective the 2 × {self.window} values that move weights; train "
                "longer",
            )

    def _values(self, arm: ArmView, stage: int) -> int:
        """Steps in which a stage's rarest objective takes part; 0 if the stage replays nothing."""
        others = len(self.tasks) + (stage - 1 if self.finished else 0)
        _, samples = arm.tasks[stage - 1]
        steps = arm.method.steps(samples)
        batches = steps if self.loss == "supervised" else steps // arm.method.batch().steps
        if not others or self.sampler != "uniform":
            return batches if others else 0
        return batches // (others if self.loss == "supervised" else others + 1)


@dataclass(frozen=True)
class Signals:
    """What one history says: convergence c and instability i, both without unit; (1, 0) until there are enough values.

    See the module for what enough is.
    """

    convergence: float = 1.0
    instability: float = 0.0


def paper_signals(losses: Sequence[float], window: int) -> Signals | None:
    """c and i of the paper's second version; None until there are 2W values."""
    older, newer = _halves(losses, window)
    if len(newer) < window:
        return None
    before, now = fmean(older), fmean(newer)
    return Signals(_ratio(before, now), _ratio(stdev([*older, *newer]), now + before, both_zero=0.0))


def first_paper_signals(losses: Sequence[float], window: int) -> Signals:
    """c and i of the paper's first version."""
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


def paper_weights(signals: Sequence[Signals | None], temperature: float) -> list[float]:
    """λ of the paper's second version; they add up to their number K. All are 1 while one objective has no signals."""
    known = [one for one in signals if one is not None]
    if len(known) < len(signals):
        return [1.0] * len(signals)
    return _shares([one.convergence + one.instability for one in known], temperature)


def first_paper_weights(signals: Sequence[Signals], alpha: float, temperature: float) -> list[float]:
    """λ of the paper's first version; they add up to their number K."""
    return _shares([alpha * one.convergence + (1 - alpha) * one.instability for one in signals], temperature)


def released_weights(signals: Sequence[Signals], alpha: float, temperature: float) -> list[float]:
    """λ of the released code; they add up to their number K."""
    first = _shares([one.convergence for one in signals], temperature)
    second = _shares([one.instability for one in signals], temperature)
    return [alpha * c + (1 - alpha) * i for c, i in zip(first, second, strict=True)]


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
        """Append what takes part in a step, and weigh anew: the weights are those of this very step.

        Args:
            values: mean reward or cross-entropy by objective; those that take no part are absent.
            step: steps done before this one.
            supervised_step: the step is one of SFT; only `released` asks.
        """
        setting, window, temperature = self.setting, self.setting.window, self.setting.temperature
        for name, value in values.items():
            loss = setting.mode != "released" and name not in self.supervised
            self.histories[name] = [*self.histories[name], 1 - value if loss else value][-2 * window :]
        histories = self.histories.values()
        found: Sequence[Signals | None]
        if setting.mode == "paper":
            found = [paper_signals(history, window) for history in histories]
            weights = paper_weights(found, temperature)
        elif setting.mode == "paper-v1":
            found = first = [first_paper_signals(history, window) for history in histories]
            weights = first_paper_weights(first, self._alpha(step), temperature)
        else:
            found = released = [released_signals(history, window, supervised_step) for history in histories]
            weights = released_weights(released, self._alpha(step), temperature)
        self.signals = {name: one or Signals() for name, one in zip(self.histories, found, strict=True)}
        self.weights = dict(zip(self.histories, weights, strict=True))

    def _alpha(self, step: int) -> float:
        if self.setting.alpha == ANNEALED:
            return 1 - min(1.0, step / self.steps)
        return ALPHA if self.setting.alpha is None else self.setting.alpha


def _halves(values: Sequence[float], window: int) -> tuple[Sequence[float], Sequence[float]]:
    half = min(len(values) // 2, window)
    return (values[-2 * half : -half], values[-half:]) if half else ((), ())


def _ratio(top: float, bottom: float, both_zero: float = 1.0) -> float:
    if abs(top) <= _TINY and abs(bottom) <= _TINY:
        return both_zero
    return min(MOST, top / (bottom + _TINY))


def _shares(scores: Sequence[float], temperature: float) -> list[float]:
    """K times the softmax of K scores."""
    most = max(scores)
    powers = [math.exp((score - most) / temperature) for score in scores]
    return [len(scores) * power / sum(powers) for power in powers]
