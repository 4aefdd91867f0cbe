"""What a run shows in a sentence for each two arms: is the comparison fair, and what do its intervals say?

Two rules make it fair: new-task accuracies are alike (`MATCHED`), and both arms have learned most of their tasks:
gained `LEARNED` over the base. What they have not learned is said. A difference is told only if its interval, as it
is shown, excludes 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpt.evaluate.scores import Scoring
from cpt.evaluate.stats import Metric, format_metric, format_number
from cpt.report.gates import StageGate, stage_gates
from cpt.report.summary import LEARNED, MATCHED, ArmSummary, Pair, Summary

SHORT = 3  # so many pairs get a sentence each
_ROUNDING = 1e-9
# Of the trained tasks. The first leaves out what an arm overwrote while it learned the task, the second what it lost of
# what it had learned: an arm that loses early and one that loses late differ in the first, and may not in the second.
LOSSES = {
    "lost": "right answers lost since their own stage",
    "lost_since_base": "right answers of the base model lost by the end",
}


def verdicts(summary: Summary) -> list[str]:
    """One sentence for every pair with the recipe's first arm, strict scoring; more than `SHORT` pairs are counted.

    Plain text, to be escaped like any.
    """
    strict = [pair for pair in summary.pairs if pair.scoring == "strict"]
    pairs = [pair for pair in strict if pair.first.arm.family == strict[0].first.arm.family]
    gates = stage_gates(summary)
    if len(pairs) > SHORT:
        return [_counted(summary, pairs, gates)]
    return [_verdict(summary, pair, gates) for pair in pairs]


def both_learned(pair: Pair, gates: Sequence[StageGate]) -> bool:
    """Whether both arms of a pair gained at least `LEARNED` over the base in more than half of their stages."""
    for item in (pair.first, pair.second):
        gains = [gain for _, gain in _gains(item, pair.scoring, gates)]
        if 2 * sum(gain >= LEARNED - _ROUNDING for gain in gains) <= len(gains):
            return False
    return True


def unlearned(pair: Pair, gates: Sequence[StageGate]) -> str:
    """What the arms of a pair have hardly learned, in words; empty if nothing."""
    return "; ".join(filter(None, (_unlearned(item, pair.scoring, gates) for item in (pair.first, pair.second))))


def _unlearned(item: ArmSummary, scoring: Scoring, gates: Sequence[StageGate]) -> str:
    tasks = []
    for gate, gain in _gains(item, scoring, gates):
        if gain < LEARNED - _ROUNDING:
            seed = f", seed {gate.seed}" if len(item.arm.seeds) > 1 else ""
            tasks.append(f"{gate.task} ({format_number(100 * gain, signed=True)}{seed})")
    return f"{item.arm.label} gained less than {LEARNED * 100:.0f} points on {', '.join(tasks)}" if tasks else ""


def _gains(item: ArmSummary, scoring: Scoring, gates: Sequence[StageGate]) -> list[tuple[StageGate, float]]:
    own = [(gate, gate.gain_strict if scoring == "strict" else gate.gain_tolerant) for gate in gates
           if gate.arm == item.arm.label]  # fmt: skip
    return [(gate, gain) for gate, gain in own if gain is not None]


def _verdict(summary: Summary, pair: Pair, gates: Sequence[StageGate]) -> str:
    arms = (pair.first, pair.second)
    names = [item.arm.label for item in arms]
    one, two = (item.headline(pair.scoring) for item in arms)
    reached = " and ".join(f"{name} {_points(found['MFT'])} %" for name, found in zip(names, (one, two), strict=True))
    reached += f", difference {format_metric(pair.gaps['MFT'], signed=True)} points"
    missed = unlearned(pair, gates)
    if not pair.matched:
        apart = f"new-task accuracies more than {MATCHED * 100:.0f} points apart ({reached})"
        return f"Not a fair comparison of {names[0]} and {names[1]}: {apart}{f'; {missed}' if missed else ''}."
    if not both_learned(pair, gates):
        return f"Not a fair comparison, though new-task accuracy is matched on average ({reached}): {missed}."
    told = []
    if (gap := pair.gaps["FM"]).value is not None:
        shown = f"net forgetting {_points(one['FM'])} and {_points(two['FM'])} points"
        told.append(f"{shown}, {_difference(gap, [f'{name} forgets more' for name in names])}")
    for key, words in LOSSES.items():
        if (gap := pair.gaps[key]).value is not None:
            shown = f"{words} {_points(one[key])} and {_points(two[key])} %"
            told.append(f"{shown}, {_difference(gap, [f'{name} loses more' for name in names])}")
    if (gap := pair.gaps["retention"]).value is not None:
        change = " and ".join(_points(found["retention"], signed=True) for found in (one, two))
        meanings = [f"{name} keeps less" for name in reversed(names)]
        told.append(f"change of the general tasks {change} points, {_difference(gap, meanings)}")
    within = f"measured within {MATCHED * 100:.0f} points"
    text = f"At matched new-task accuracy, {within} ({reached}): {'; '.join(told)}."
    text += f" Hardly learned: {missed}." if missed else ""
    if any(sum(other.arm.family == item.arm.family for other in summary.arms) > 1 for item in arms):
        text += " The settings were chosen after the fact."
    return text


def _difference(gap: Metric, meanings: Sequence[str]) -> str:
    """`meanings` are what a difference above 0, and one below 0, says."""
    sense = _sense(gap)
    meaning = meanings[0] if sense > 0 else meanings[1] if sense < 0 else "no difference shown"
    return f"difference {format_metric(gap, signed=True)}: {meaning}"


def _sense(gap: Metric) -> int:
    """1 or −1 where the interval, rounded as a reader sees it, lies above or below 0, else 0; 0 without a value."""
    if gap.low is None or gap.high is None:
        return 0
    low, high = (round(100 * end, 1) for end in (gap.low, gap.high))
    return 1 if low > 0 else -1 if high < 0 else 0


def _counted(summary: Summary, pairs: Sequence[Pair], gates: Sequence[StageGate]) -> str:
    first = pairs[0].first.arm.family
    matched = [pair for pair in pairs if pair.matched]
    fair = [pair for pair in matched if both_learned(pair, gates)]
    text = (
        f"Of {len(pairs)} pairs with {first}, {len(matched)} are at matched new-task accuracy, {len(fair)} of these "
        "with most tasks learned by both"
    )
    own = next(filter(None, (_unlearned(pair.first, pair.scoring, gates) for pair in matched)), "")
    if not fair:
        return f"{text}{f': {own}' if own else ''}. Not a fair comparison."
    forgetting, general = (sum(_sense(pair.gaps[name]) != 0 for pair in fair) for name in ("FM", "retention"))
    return (
        f"{text}. Of the {len(fair)}, {forgetting} differ in forgetting and {general} in the change of the general "
        "tasks: there the interval of the difference excludes 0, as that of one in twenty would by chance."
    )


def _points(metric: Metric, *, signed: bool = False) -> str:
    assert metric.value is not None
    return format_number(100 * metric.value, signed=signed)
