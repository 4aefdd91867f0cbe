"""One sentence for every two arms: whether the comparison is fair, and what its intervals say.

It is fair if the new-task accuracies are within `MATCHED` and both arms have learned most of their tasks, that is,
gained `LEARNED` over the base. Tasks that were not learned are named. A difference is stated only if its interval
excludes 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cpt.evaluate.scores import Scoring
from cpt.evaluate.stats import Metric, format_metric, format_number
from cpt.report.arm_summary import ArmSummary
from cpt.report.comparison import LEARNED, LOSSES, MATCHED, Along, Pair
from cpt.report.sanity_checks import StageCheck, stage_checks
from cpt.report.summary import Summary

SHORT = 3  # up to so many pairs get a sentence each
CROSSED = 0.01  # curves cross where each is below the other by more than this somewhere
_ROUNDING = 1e-9
# Over the trained tasks without the last. `lost` ignores what was overwritten while the task was learned,
# `lost_since_base` ignores what was learned and lost again.
WORDS = {
    "forgetting": "net forgetting since the own stage",
    "lost": "right answers lost since then",
    "lost_since_base": "right answers of the base lost",
    "general": "general skill lost",
}
ONE_SEED = "one seed, so of these policies only"
NOT_SHOWN = "no difference shown"


def verdicts(summary: Summary) -> list[str]:
    """One sentence for every family other than the recipe's first, strict scoring; more than `SHORT` pairs are counted.

    Families with a sweep are compared along it, not by a single pair. Plain text, which the page has to escape.
    """
    strict = [pair for pair in summary.pairs if pair.scoring == "strict"]
    pairs = [pair for pair in strict if pair.first.arm.family == strict[0].first.arm.family]
    along = {one.families: one for one in summary.along if one.scoring == "strict"}
    checks = stage_checks(summary)
    if len(pairs) > SHORT:
        return [_counted(summary, pairs, checks)]
    found = [(pair, along.get((pair.first.arm.family, pair.second.arm.family))) for pair in pairs]
    return [_verdict(summary, pair, checks) if one is None else _along(one) for pair, one in found]


def both_learned(pair: Pair, checks: Sequence[StageCheck]) -> bool:
    """Whether both arms of a pair gained at least `LEARNED` over the base in more than half of their stages."""
    for item in (pair.first, pair.second):
        gains = [gain for _, gain in _gains(item, pair.scoring, checks)]
        if 2 * sum(gain >= LEARNED - _ROUNDING for gain in gains) <= len(gains):
            return False
    return True


def unlearned(pair: Pair, checks: Sequence[StageCheck]) -> str:
    """The tasks that the arms of a pair have hardly learned, in words; empty if there are none."""
    return "; ".join(filter(None, (_unlearned(item, pair.scoring, checks) for item in (pair.first, pair.second))))


def _unlearned(item: ArmSummary, scoring: Scoring, checks: Sequence[StageCheck]) -> str:
    tasks = []
    for check, gain in _gains(item, scoring, checks):
        if gain < LEARNED - _ROUNDING:
            seed = f", seed {check.seed}" if len(item.arm.seeds) > 1 else ""
            tasks.append(f"{check.task} ({format_number(100 * gain, signed=True)}{seed})")
    return f"{item.arm.label} gained less than {LEARNED * 100:.0f} points on {', '.join(tasks)}" if tasks else ""


def _gains(item: ArmSummary, scoring: Scoring, checks: Sequence[StageCheck]) -> list[tuple[StageCheck, float]]:
    own = [(check, check.gain_strict if scoring == "strict" else check.gain_tolerant) for check in checks
           if check.arm == item.arm.label]  # fmt: skip
    return [(check, gain) for check, gain in own if gain is not None]


def _verdict(summary: Summary, pair: Pair, checks: Sequence[StageCheck]) -> str:
    arms = (pair.first, pair.second)
    names = [item.arm.label for item in arms]
    one, two = (item.headline(pair.scoring) for item in arms)
    reached = ", ".join(f"{name} {_points(found['MFT'])} %" for name, found in zip(names, (one, two), strict=True))
    reached += f", difference {format_metric(pair.gaps['MFT'], signed=True)}"
    missed = unlearned(pair, checks)
    if not pair.matched:
        apart = f"new-task accuracies more than {MATCHED * 100:.0f} points apart ({reached})"
        return f"Not a fair comparison of {names[0]} and {names[1]}: {apart}{f'; {missed}' if missed else ''}."
    if not both_learned(pair, checks):
        return f"Not a fair comparison, though new-task accuracy is matched on average ({reached}): {missed}."
    told = []
    for loss, (metric, sign) in LOSSES.items():
        gap = pair.gaps[metric]
        if gap.value is not None:
            shown = " and ".join(_points(found[metric], sign) for found in (one, two))
            claim = _more(gap.sign * sign, names, one_run=gap.seeds == 1, several=False) or NOT_SHOWN
            told.append(f"{WORDS[loss]} {shown} ({format_metric(turned(gap, sign), signed=True)}): {claim}")
    whose = f", {ONE_SEED}" if pair.gaps["MFT"].seeds == 1 else ""
    text = f"At matched new-task accuracy{whose} ({reached}): {'; '.join(told)}."
    return f"{text} Hardly learned: {missed}." if missed else text


def _more(sign: int, names: Sequence[str], *, one_run: bool, several: bool) -> str:
    """Which arm loses more; "" for none. In the past tense for one seed: another run may differ."""
    if not sign:
        return ""
    name = names[0] if sign > 0 else names[1]
    return f"the {name} polic{'ies' if several else 'y'} lost more" if one_run else f"{name} loses more"


def _along(along: Along) -> str:
    """The result along all new-task accuracies that two families share, loss by loss."""
    names = along.families
    if along.between is None:
        if not along.seeds:
            return f"Not a fair comparison of {names[0]} and {names[1]} yet: no seed has finished all settings of both."
        ends = (
            f"{name} {' to '.join(dict.fromkeys(_percent(end) for end in along.reached(number)))} %"
            for number, name in enumerate(names)
        )
        return (
            f"Not a fair comparison of {names[0]} and {names[1]}: no new-task accuracy in common ({', '.join(ends)})."
        )
    one_run = len(along.seeds) == 1
    told = [_loss(along, loss, one_run) for loss in along.gaps]
    where = " to ".join(dict.fromkeys(_percent(end) for end in along.between))
    whose = ONE_SEED if one_run else f"{len(along.seeds)} seeds"
    return f"{names[0]} against {names[1]} at equal new-task accuracy, {where} %, {whose}: {'; '.join(told)}."


def _loss(along: Along, loss: str, one_run: bool) -> str:
    names, gap = along.families, along.means[loss]
    stretches, throughout = along.stretches(loss), along.throughout(loss)
    point = len(along.accuracies) == 1

    def more(sign: int) -> str:
        return _more(sign, names, one_run=one_run, several=True)

    if throughout:
        claim = more(throughout) + ("" if point else ", all along")
    elif stretches:
        at = [f"{more(sign)} {f'from {_percent(a)} to' if a < b else 'at'} {_percent(b)} %" for sign, a, b in stretches]
        claim = f"{' and '.join(at)}, {NOT_SHOWN} elsewhere"
    else:
        claim = f"{more(gap.sign)} on the whole, {NOT_SHOWN} at any one accuracy" if gap.sign else NOT_SHOWN
    values = [found.value for found in along.gaps[loss] if found.value is not None]
    crossing = next((i for i in range(1, len(values)) if (values[i] > 0) != (values[i - 1] > 0)), 0)
    if crossing and min(values) < -CROSSED and max(values) > CROSSED:
        claim += f"; the curves cross near {_percent(along.accuracies[crossing])} %"
    return f"{WORDS[loss]} {format_metric(gap, signed=True)}{'' if point else ' on average'}: {claim}"


def _counted(summary: Summary, pairs: Sequence[Pair], checks: Sequence[StageCheck]) -> str:
    first = pairs[0].first.arm.family
    matched = [pair for pair in pairs if pair.matched]
    fair = [pair for pair in matched if both_learned(pair, checks)]
    text = (
        f"Of {len(pairs)} pairs with {first}, {len(matched)} are at matched new-task accuracy, {len(fair)} of these "
        "with most tasks learned by both"
    )
    own = next(filter(None, (_unlearned(pair.first, pair.scoring, checks) for pair in matched)), "")
    if not fair:
        return f"{text}{f': {own}' if own else ''}. Not a fair comparison."
    forgetting, general = (sum(pair.gaps[name].sign != 0 for pair in fair) for name in ("BWT", "retention"))
    whose = f" ({ONE_SEED})" if all(pair.gaps["MFT"].seeds == 1 for pair in fair) else ""
    return (
        f"{text}. Of the {len(fair)}, {forgetting} differ in net forgetting and {general} in general skill{whose}: "
        "there the interval of the difference excludes 0, as that of one in twenty would by chance."
    )


def turned(metric: Metric, sign: int) -> Metric:
    """Times 1 or −1."""
    if sign > 0 or metric.value is None or metric.low is None or metric.high is None:
        return metric
    return replace(metric, value=-metric.value, low=-metric.high, high=-metric.low)


def _points(metric: Metric, sign: int = 1) -> str:
    assert metric.value is not None
    return format_number(100 * sign * metric.value)


def _percent(share: float) -> str:
    return format_number(100 * share)
