"""Families of arms compared at equal new-task accuracy: along their sweeps, and for one pair of settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from typing import Any

from cpt.evaluate.curves import Sweep, gaps, mean_gap, shared_range, stacked
from cpt.evaluate.scores import Scoring
from cpt.evaluate.stats import Bootstrap, Metric, Runs, difference, over_seeds
from cpt.report.arm_summary import ArmSummary

# Two settings learned alike if their new-task accuracies differ by no more than this (RL's Razor, arXiv 2509.04259,
# compares forgetting at matched new-task accuracy).
MATCHED = 0.03
LEARNED = 0.10  # gain over the base model from which a task counts as learned
# Losses: a metric of the headline table, with the sign that makes a higher value worse.
LOSSES = {
    "forgetting": ("BWT", -1),
    "lost": ("lost", 1),
    "lost_since_base": ("lost_since_base", 1),
    "general": ("retention", -1),
}


@dataclass(frozen=True)
class Pair:
    """Two arms of different families with about equal new-task accuracy, and their differences.

    Attributes:
        matched: their new-task accuracies are within `MATCHED`; otherwise it is the closest pair.
        gaps: first − second by metric name, with paired intervals.
    """

    scoring: Scoring
    first: ArmSummary
    second: ArmSummary
    matched: bool
    gaps: Mapping[str, Metric]

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "scoring": self.scoring,
            "first": self.first.arm.name,
            "second": self.second.arm.name,
            "matched": self.matched,
            "differences": {name: gap.as_dict() for name, gap in self.gaps.items()},
        }


@dataclass(frozen=True)
class Along:
    """Two families, at least one with a sweep, compared at all new-task accuracies that both reach.

    Attributes:
        settings: the settings of each family's curve.
        overshot: settings left out: less accurate than the best of their family, and worse in every loss.
        seeds: the seeds that all settings have.
        between: least and highest shared accuracy; None if there are none, and with it no gaps.
        accuracies: those of `gaps`: evenly spaced, or that of a single setting.
        gaps: by `LOSSES`, first − second at each accuracy: above 0 where the first family loses more.
        means: of each loss the mean gap over the range.
    """

    scoring: Scoring
    families: tuple[str, str]
    settings: tuple[tuple[ArmSummary, ...], tuple[ArmSummary, ...]]
    overshot: tuple[ArmSummary, ...]
    seeds: tuple[int, ...]
    between: tuple[float, float] | None
    accuracies: tuple[float, ...]
    gaps: Mapping[str, tuple[Metric, ...]]
    means: Mapping[str, Metric]

    @property
    def shown(self) -> tuple[int, ...]:
        """Indices of the accuracies in the table: both ends and three between."""
        return tuple(sorted({round(part * (len(self.accuracies) - 1) / 4) for part in range(5)}))

    def reached(self, family: int) -> tuple[float, float]:
        """Least and highest new-task accuracy of a family's settings, mean over their seeds."""
        found = [_value(item, self.scoring, "MFT") for item in self.settings[family]]
        return min(found), max(found)

    def stretches(self, loss: str) -> list[tuple[int, float, float]]:
        """Where the intervals exclude 0: (sign, from, to) of each run of accuracies."""
        found = []
        shown = zip(self.accuracies, (gap.sign for gap in self.gaps[loss]), strict=True)
        for sign, run in groupby(shown, key=lambda one: one[1]):
            at = [accuracy for accuracy, _ in run]
            if sign:
                found.append((sign, at[0], at[-1]))
        return found

    def throughout(self, loss: str) -> int:
        """1 or −1 if all intervals exclude 0 with this sign, else 0."""
        signs = {gap.sign for gap in self.gaps[loss]}
        return signs.pop() if len(signs) == 1 else 0

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "scoring": self.scoring,
            "families": list(self.families),
            "settings": [[item.arm.name for item in family] for family in self.settings],
            "overshot": [item.arm.name for item in self.overshot],
            "seeds": list(self.seeds),
            "new_task_accuracy": None if self.between is None else list(self.between),
            "accuracies": list(self.accuracies),
            "differences": {name: [gap.as_dict() for gap in found] for name, found in self.gaps.items()},
            "mean_differences": {name: gap.as_dict() for name, gap in self.means.items()},
        }


def compare(arms: Sequence[ArmSummary], scoring: Scoring, bootstrap: Bootstrap) -> tuple[list[Pair], list[Along]]:
    """For every two families a pair of settings and, if one has a sweep, the comparison along their curves."""
    learned: dict[str, list[ArmSummary]] = {}
    for item in arms:
        if item.numbers[scoring].metrics["MFT"].value is not None and item.arm.schedule == "sequential":
            learned.setdefault(item.arm.family, []).append(item)
    pairs, along = [], []
    for one, two in combinations(learned, 2):
        pairs.append(_pair(learned[one], learned[two], scoring, bootstrap))
        if max(len(learned[one]), len(learned[two])) > 1:
            along.append(_along((one, two), (learned[one], learned[two]), scoring, bootstrap))
    return pairs, along


def _pair(first: Sequence[ArmSummary], second: Sequence[ArmSummary], scoring: Scoring, bootstrap: Bootstrap) -> Pair:
    """The matched pair nearest to the middle of the accuracies that both reach; else the closest pair."""
    one, two = ([(_value(item, scoring, "MFT"), item) for item in family] for family in (first, second))
    candidates = [(a, b) for a in one for b in two]
    matched = [(a, b) for a, b in candidates if abs(a[0] - b[0]) <= MATCHED + 1e-9]
    ends = [(min(family)[0], max(family)[0]) for family in ([(a[0], 0) for a in one], [(b[0], 0) for b in two])]
    middle = (max(low for low, _ in ends) + min(high for _, high in ends)) / 2

    def off(pair: Any) -> tuple[float, float]:
        (a, _), (b, _) = pair
        apart = abs(a - b)
        return (abs((a + b) / 2 - middle), apart) if matched else (apart, 0.0)

    (_, a), (_, b) = min(matched or candidates, key=off)
    own, other = a.headline(scoring), b.headline(scoring)
    return Pair(
        scoring, a, b, bool(matched), {name: difference(name, own[name], other[name], bootstrap) for name in own}
    )


def _along(
    names: tuple[str, str],
    families: tuple[Sequence[ArmSummary], Sequence[ArmSummary]],
    scoring: Scoring,
    bootstrap: Bootstrap,
) -> Along:
    kept = [tuple(item for item in family if not _overshot(item, family, scoring)) for family in families]
    first, second = kept
    left = tuple(item for family in families for item in family if _overshot(item, family, scoring))
    losses = [name for name in LOSSES if all(_has(item, scoring, name) for item in (*first, *second))]
    seeds = _common_seeds([*first, *second], scoring, losses)
    none = Along(scoring, names, (first, second), left, seeds, None, (), {}, {})
    if not seeds or not losses:
        return none
    one, two = (Sweep(seeds, *stacked([_runs(item, scoring, "MFT") for item in family], seeds)) for family in kept)
    between = shared_range(one, two)
    if between is None:
        return none
    found, means = {}, {}
    for name in losses:
        metric, sign = LOSSES[name]
        runs = [[_runs(item, scoring, metric) for item in family] for family in kept]
        lost, other = ((sign * values, sign * again) for values, again in (stacked(family, seeds) for family in runs))
        own = gaps(one, two, (lost, other), between, min(run.questions for family in runs for run in family))
        said = f"{name}, {names[0]} − {names[1]}, at equal new-task accuracy"
        found[name] = tuple(_bare(over_seeds(f"Δ {name}", run, said, bootstrap)) for run in own)
        said += ", mean over the accuracies that both reach"
        means[name] = _bare(over_seeds(f"Δ {name}", mean_gap(own), said, bootstrap))
    points = len(found[losses[0]])
    step = (between[1] - between[0]) / max(1, points - 1)
    accuracies = tuple(between[0] + step * number for number in range(points))
    return replace(none, between=between, accuracies=accuracies, gaps=found, means=means)


def _overshot(item: ArmSummary, family: Sequence[ArmSummary], scoring: Scoring) -> bool:
    """Whether a setting is less accurate than the most accurate one and loses more in every respect.

    Learning rates that are too high reach the accuracy of lower ones again, with far more forgetting.
    """
    best = max(family, key=lambda other: _value(other, scoring, "MFT"))
    if _value(item, scoring, "MFT") >= _value(best, scoring, "MFT"):
        return False
    names = [LOSSES[name] for name in LOSSES if _has(item, scoring, name) and _has(best, scoring, name)]
    return bool(names) and all(
        sign * _value(item, scoring, metric) > sign * _value(best, scoring, metric) for metric, sign in names
    )


def _has(item: ArmSummary, scoring: Scoring, loss: str) -> bool:
    return item.headline(scoring)[LOSSES[loss][0]].value is not None


def _value(item: ArmSummary, scoring: Scoring, metric: str) -> float:
    value = item.headline(scoring)[metric].value
    assert value is not None
    return value


def _runs(item: ArmSummary, scoring: Scoring, metric: str) -> Runs:
    runs = item.headline(scoring)[metric].runs
    assert runs is not None
    return runs


def _common_seeds(items: Sequence[ArmSummary], scoring: Scoring, losses: Sequence[str]) -> tuple[int, ...]:
    """The seeds in which every setting has its accuracy and its losses."""
    metrics = ["MFT", *(LOSSES[name][0] for name in losses)]
    have = [set(_runs(item, scoring, metric).seeds) for item in items for metric in metrics]
    return tuple(sorted(set.intersection(*have)))


def _bare(metric: Metric) -> Metric:
    return replace(metric, runs=None)
