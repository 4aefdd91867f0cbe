"""The curves of the rewards' page, as inline SVG. Each function returns "" when there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cpt.report.figure_style import (
    HUES,
    INK,
    MUTED,
    arm_colours,
    arms_below,
    legend_below,
    new_figure,
    plotting,
    to_svg,
)
from cpt.report.load import NO_VARIANCE, REWARD, ArmRun, RunData
from cpt.report.plots import at_least
from cpt.report.rewards.reward_vs_accuracy import HeldOut

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STRICT, TOLERANT = "true/strict", "true/tolerant"
RIGHT, WRONG = "length/right", "length/wrong"
PART = "reward/"
WINDOW = 5  # steps in the running mean
_RIGHT, _WRONG, _GAP = "#2f7d4f", "#b3261e", "#f3d9d5"

Curve = tuple[list[float], list[float]]


def curves(arm: ArmRun, value: Callable[[Mapping[str, Any]], float | None]) -> list[Curve]:
    """Steps and values of every stage and seed, stages one after another, without steps that have no value."""
    found = []
    for seed in arm.seeds:
        for before, stage in arm.in_sequence(seed):
            known = [(before + row["step"], value(row)) for row in stage.metrics]
            points = [(float(x), float(y)) for x, y in known if y is not None]
            if points:
                found.append(([x for x, _ in points], [y for _, y in points]))
    return found


def smooth(values: Sequence[float], window: int = WINDOW) -> list[float]:
    """Centred running mean, over fewer values at the ends."""
    half = window // 2
    return [float(np.mean(values[max(0, i - half) : i + half + 1])) for i in range(len(values))]


def gap(row: Mapping[str, Any]) -> float | None:
    """Reward minus strict accuracy of one step's completions."""
    reward, strict = row.get(REWARD), row.get(STRICT)
    return None if reward is None or strict is None else float(reward) - float(strict)


def reward_vs_accuracy(run: RunData, arms: Sequence[ArmRun], held_out: Mapping[str, Sequence[HeldOut]]) -> str:
    """Per reward set: reward and accuracy of the same completions; dots are held-out samples.

    Args:
        held_out: by arm, its stages on held-out samples.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colours = arm_colours(run)

    def draw(axes: Axes, arm: ArmRun) -> None:
        rewards, accuracies = curves(arm, _key(REWARD)), curves(arm, _key(STRICT))
        if len(arm.seeds) == 1:
            for (xs, reward), (others, accuracy) in zip(rewards, accuracies, strict=False):
                if xs == others:
                    axes.fill_between(xs, smooth(reward), smooth(accuracy), color=_GAP, lw=0)
        _lines(axes, curves(arm, _key(TOLERANT)), MUTED, lw=1.2, ls=(0, (3, 2)))
        _lines(axes, accuracies, INK)
        _lines(axes, rewards, colours[arm.name], lw=2.0)
        ends = [before + int(stage.plan["steps"]) for before, stage in arm.in_sequence(arm.seeds[0])]
        for end, stage in zip(ends, held_out.get(arm.name, ()), strict=False):
            for name, colour in (("strict", INK), ("reward", colours[arm.name])):
                value = stage.changes[name].after.value
                if value is not None:
                    axes.plot([end], [value], marker="o", ms=6, color=colour, mec="white", mew=1, clip_on=False)
        axes.set_ylim(0, 1.02)

    handles = [
        Line2D([], [], color=MUTED, lw=2.4, label="reward (in the set's colour)"),
        Line2D([], [], color=INK, lw=1.6, label="accuracy, strict"),
        Line2D([], [], color=MUTED, lw=1.2, ls=(0, (3, 2)), label="accuracy, tolerant"),
        Patch(color=_GAP, label="gap"),
        Line2D([], [], color=INK, marker="o", ls="", mec="white", label="held-out samples at a stage's end"),
    ]
    return _panels(run, _with(arms, REWARD), draw, "reward, accuracy", "reward-vs-accuracy", handles)


def components(run: RunData, arms: Sequence[ArmRun]) -> str:
    """Per reward set, the mean of each component over steps."""
    from matplotlib.lines import Line2D

    names = {arm.name: part_names(arm) for arm in arms}
    every = list(dict.fromkeys(part for parts in names.values() for part in parts))
    hues = {part: HUES[i % len(HUES)] for i, part in enumerate(every)}
    if not every:
        return ""

    def draw(axes: Axes, arm: ArmRun) -> None:
        for part in names[arm.name]:
            _lines(axes, curves(arm, _key(PART + part)), hues[part])
        axes.set_ylim(-0.02, 1.02)

    handles = [Line2D([], [], color=hue, lw=2.4, label=part) for part, hue in hues.items()]
    return _panels(run, [arm for arm in arms if names[arm.name]], draw, "component", "components", handles)


def part_names(arm: ArmRun) -> list[str]:
    """The components in an arm's metrics; failures only if there were any."""
    rows = [row for stage in arm.stages.values() for row in stage.metrics]
    found = dict.fromkeys(key for row in rows for key in row if key.startswith(PART))
    return [key.removeprefix(PART) for key in found if key != "reward/errors" or any(row.get(key) for row in rows)]


def gaps(run: RunData, arms: Sequence[ArmRun]) -> str:
    """Reward minus strict accuracy over steps, all reward sets in one panel."""

    def draw(axes: Axes, arm: ArmRun) -> None:
        _lines(axes, curves(arm, gap), arm_colours(run)[arm.name])
        axes.axhline(0, color=MUTED, lw=0.9)

    shown = [arm for arm in arms if curves(arm, gap)]
    return _together(run, shown, [("reward − strict accuracy", draw)], "reward-gap")


def lengths(run: RunData, arms: Sequence[ArmRun]) -> str:
    """Per reward set, tokens of right and of wrong completions over steps."""
    from matplotlib.lines import Line2D

    def draw(axes: Axes, arm: ArmRun) -> None:
        _lines(axes, curves(arm, _key(WRONG)), _WRONG)
        _lines(axes, curves(arm, _key(RIGHT)), _RIGHT)
        axes.set_ylim(at_least(axes.get_ylim(), 1.0))

    shown = [arm for arm in arms if curves(arm, _key(RIGHT)) or curves(arm, _key(WRONG))]
    handles = [
        Line2D([], [], color=colour, lw=2.4, label=label)
        for colour, label in ((_RIGHT, "right (strict)"), (_WRONG, "wrong"))
    ]
    return _panels(run, shown, draw, "tokens", "lengths", handles)


def exploration(run: RunData, arms: Sequence[ArmRun]) -> str:
    """Entropy of the policy and share of completions in groups of one reward, all reward sets in one panel each."""
    colours = arm_colours(run)

    def drawn(key: str) -> Callable[[Axes, ArmRun], None]:
        return lambda axes, arm: _lines(axes, curves(arm, _key(key)), colours[arm.name])

    shown = _with(arms, REWARD)
    return _together(
        run, shown, [("entropy (nats per token)", drawn("entropy")), ("groups of one reward", drawn(NO_VARIANCE))],
        "exploration",
    )  # fmt: skip


def _key(key: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda row: row.get(key)


def _with(arms: Sequence[ArmRun], key: str) -> list[ArmRun]:
    return [arm for arm in arms if curves(arm, _key(key))]


def _lines(axes: Axes, found: Sequence[Curve], colour: str, **style: Any) -> None:
    """Every step pale, their running mean on top."""
    for xs, ys in found:
        axes.plot(xs, ys, color=colour, lw=0.8, alpha=0.28)
        axes.plot(xs, smooth(ys), color=colour, **{"lw": 1.6, **style})


def _panels(
    run: RunData, arms: Sequence[ArmRun], draw: Callable[[Axes, ArmRun], None], label: str, name: str, handles: Any
) -> str:
    """One panel per reward set; all share their axes."""
    if not arms:
        return ""
    columns = 4 if len(arms) in (4, 7, 8) else min(3, len(arms))
    rows = math.ceil(len(arms) / columns)
    with plotting():
        figure = new_figure(2.35 * rows)
        first = None
        for number, arm in enumerate(arms):
            axes = figure.add_subplot(rows, columns, number + 1, sharex=first, sharey=first)
            first = first or axes
            draw(axes, arm)
            axes.set_title(arm.label)
            _mark_stages(axes, arm, named=number < columns)
            if number % columns == 0:
                axes.set_ylabel(label)
            if number + columns >= len(arms):
                axes.set_xlabel("step")
        legend_below(figure, handles)
        return to_svg(figure, name)


def _together(
    run: RunData, arms: Sequence[ArmRun], drawings: Sequence[tuple[str, Callable[[Axes, ArmRun], None]]], name: str
) -> str:
    """All reward sets in the same panel, one panel per drawing."""
    if not arms:
        return ""
    with plotting():
        figure = new_figure(2.8)
        for number, (label, draw) in enumerate(drawings):
            axes = figure.add_subplot(1, len(drawings), number + 1)
            for arm in arms:
                draw(axes, arm)
            _mark_stages(axes, max(arms, key=lambda arm: len(arm.stages)), named=True, top=True)
            axes.set_ylabel(label)
            axes.set_xlabel("step, stages one after another")
        arms_below(figure, run, arms)
        return to_svg(figure, name)


def _mark_stages(axes: Axes, arm: ArmRun, *, named: bool, top: bool = False) -> None:
    """If there are several stages, mark where each ends and write its task at the foot or top of the panel."""
    axes.locator_params(axis="x", integer=True, nbins=6)
    stages = arm.in_sequence(arm.seeds[0])
    last, stage = stages[-1]
    axes.set_xlim(0.5, last + int(stage.plan["steps"]) + 0.5)
    if len(stages) == 1:
        return
    for number, (before, stage) in enumerate(stages, start=1):
        start = before + 0.5
        if before:
            axes.axvline(start, color=MUTED, lw=0.9, ls=(0, (2, 2)))
        if named:
            axes.annotate(f"{number} {stage.plan['task']}", (start, int(top)), xycoords=("data", "axes fraction"),
                          xytext=(4, 2 if top else 4), textcoords="offset points", fontsize=7.5,
                          color=MUTED)  # fmt: skip
