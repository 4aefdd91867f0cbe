"""The report's curves, as inline SVG. Each function returns "" when the run has nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cpt.evaluate.scores import Scoring
from cpt.evaluate.stats import Metric
from cpt.report.figure_style import (
    INK,
    MUTED,
    arm_colours,
    arms_below,
    family_colours,
    label_ticks,
    new_figure,
    plotting,
    to_svg,
)
from cpt.report.load import GAP, LOSS, NO_VARIANCE, REWARD, TOKEN_ACCURACY, ArmRun, RunData
from cpt.report.point_labels import label_points
from cpt.report.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tradeoff(summary: Summary, scoring: Scoring) -> str:
    """New-task accuracy against BWT and against general retention: one curve per family, a point per arm."""
    panels = [("BWT", "backward transfer BWT (points)"), ("retention", "general retention (points)")]
    drawn = [(a, a.headline(scoring)) for a in summary.arms]
    panels = [p for p in panels if any(_both(h, p[0]) for _, h in drawn)]
    if not panels:
        return ""
    families = family_colours(summary.run)
    with plotting():
        figure = new_figure(4.3 + 0.08 * max(0, len(drawn) - 8))  # many labels need room
        for number, (name, label) in enumerate(panels):
            axes = figure.add_subplot(1, len(panels), number + 1)
            for family, colour in families.items():
                _tradeoff_curve(axes, [h for a, h in drawn if a.arm.family == family], name, colour)
            axes.axhline(0, color=MUTED, lw=0.8)
            axes.set_xlabel("new-task accuracy MFT (%)")
            axes.set_ylabel(label)
            axes.set_title("better is up and to the right", color=MUTED, fontsize=8.5)
            axes.margins(0.12)
            axes.set_xlim(at_least(axes.get_xlim(), 10.0))
            axes.set_ylim(at_least(axes.get_ylim(), 10.0))
        if handles := _family_legend(summary.run):
            figure.legend(handles=handles, loc="outside upper left", ncols=6)
        figure.draw_without_rendering()  # settles the layout, which the labels go by
        for axes, (name, _) in zip(figure.axes, panels, strict=True):
            shown = [(a.arm, _at(h, name)) for a, h in drawn if _both(h, name)]
            texts, colours = [arm.point for arm, _ in shown], [families[arm.family] for arm, _ in shown]
            label_points(axes, [at for _, at in shown], texts, colours)
        return to_svg(figure, f"tradeoff-{scoring}")


def at_least(limits: tuple[float, float], span: float) -> tuple[float, float]:
    """Limits of an axis, widened to `span` so that rounding errors look flat."""
    low, high = limits
    missing = max(0.0, span - abs(high - low))
    side = math.copysign(missing / 2, high - low)
    return low - side, high + side


def _both(headline: dict[str, Metric], name: str) -> bool:
    return headline["MFT"].value is not None and headline[name].value is not None


def _at(headline: dict[str, Metric], name: str) -> tuple[float, float]:
    return 100 * (headline["MFT"].value or 0.0), 100 * (headline[name].value or 0.0)


def _tradeoff_curve(axes: Axes, family: Sequence[dict[str, Metric]], name: str, colour: str) -> None:
    drawn = [headline for headline in family if _both(headline, name)]
    points = [_at(headline, name) for headline in drawn]
    if not points:
        return
    axes.plot(*zip(*points, strict=True), color=colour, marker="o", ms=5.5, mec="white", mew=0.8, zorder=3)
    for headline, (at_x, at_y) in zip(drawn, points, strict=True):
        x, y = headline["MFT"], headline[name]
        axes.plot([100 * (x.low or 0), 100 * (x.high or 0)], [at_y, at_y], color=colour, alpha=0.3, lw=1)
        axes.plot([at_x, at_x], [100 * (y.low or 0), 100 * (y.high or 0)], color=colour, alpha=0.3, lw=1)


def _family_legend(run: RunData) -> list[Any]:
    """Families with a sweep; the point of any other is labelled with its name."""
    from matplotlib.lines import Line2D

    colours = family_colours(run)
    swept = {arm.family: f"{arm.family} (by {_swept(arm.sweep)})" for arm in run.arms if arm.sweep}
    return [Line2D([], [], color=colours[name], marker="o", mec="white", label=label) for name, label in swept.items()]


def _swept(sweep: Any) -> str:
    return ", ".join(key.rsplit(".", 1)[-1].replace("_", " ") for key in sweep)


def accuracy_by_stage(summary: Summary, scoring: Scoring) -> str:
    """Accuracy on every trained task over the stages; a line marks the task's own stage."""
    run = summary.run
    curves = {a.arm.name: a.numbers[scoring].trained.values for a in summary.arms}

    def mark(axes: Axes, column: int) -> None:
        axes.axvline(column + 1, color=MUTED, lw=0.9, ls=(0, (2, 2)))
        axes.set_title(f"{run.tasks[column]}  (trained at stage {column + 1})")

    return _by_stage(run, curves, len(run.tasks), mark, "accuracy (%)", f"stages-{scoring}")


def retention_by_stage(summary: Summary, scoring: Scoring) -> str:
    """Change of the general tasks against the base model over the stages: the mean, then every task."""
    run = summary.run
    if not run.general:
        return ""
    curves = {}
    for a in summary.arms:
        values = a.numbers[scoring].general.values
        change = values - values[:1]
        curves[a.arm.name] = np.column_stack([change.mean(axis=1), change])
    titles = ["mean of all", *run.general]

    def mark(axes: Axes, column: int) -> None:
        axes.axhline(0, color=MUTED, lw=0.9)
        axes.set_title(titles[column], fontweight="bold" if column == 0 else "normal")

    return _by_stage(run, curves, len(titles), mark, "change from base (points)", f"retention-{scoring}")


def _by_stage(
    run: RunData, curves: dict[str, Any], panels: int, mark: Callable[[Axes, int], None], label: str, name: str
) -> str:
    """One panel per column of the curves (T + 1, C); all panels share their axes."""
    if not any(np.isfinite(values[1:]).any() for values in curves.values()):
        return ""
    stages = len(run.tasks)
    columns = panels if panels <= 5 else math.ceil(panels / 2)
    rows = math.ceil(panels / columns)
    colours = arm_colours(run)
    with plotting():
        figure = new_figure(2.5 * rows)
        first = None
        for column in range(panels):
            axes = figure.add_subplot(rows, columns, column + 1, sharex=first, sharey=first)
            first = first or axes
            for arm in run.arms:
                axes.plot(
                    range(stages + 1), 100 * curves[arm.name][:, column], color=colours[arm.name], marker="o", ms=3.5
                )
            mark(axes, column)
            axes.set_xticks(range(stages + 1), ["base", *(str(i) for i in range(1, stages + 1))])
            if column % columns == 0:
                axes.set_ylabel(label)
            if column + columns >= panels:
                axes.set_xlabel("after stage")
        assert first is not None
        first.set_ylim(at_least(first.get_ylim(), 5.0))  # shared by all panels
        arms_below(figure, run, run.arms)
        return to_svg(figure, name)


def learning_curves(run: RunData) -> str:
    """Reward, loss and token accuracy by step, one column per stage (first seed pale where there are several)."""
    series = [
        (REWARD, "mean reward", lambda arm: True),
        (NO_VARIANCE, "groups of one reward", lambda arm: True),
        (TOKEN_ACCURACY, "token accuracy", lambda arm: True),
        # Only supervised losses: the surrogate loss of an on-policy method is always near 0.
        (LOSS, "loss (nats per token)", lambda arm: not _has(arm, REWARD)),
    ]
    rows = [(key, label, [arm for arm in run.arms if wanted(arm) and _has(arm, key)]) for key, label, wanted in series]
    rows = [row for row in rows if row[2]]
    if not rows:
        return ""
    colours = arm_colours(run)
    with plotting():
        figure = new_figure(2.3 * len(rows))
        for number, (key, label, arms) in enumerate(rows):
            first = None
            for column, task in enumerate(run.tasks):
                place = number * len(run.tasks) + column + 1
                axes = figure.add_subplot(len(rows), len(run.tasks), place, sharey=first)
                first = first or axes
                for arm in arms:
                    for steps, values in _series(arm, column + 1, key):
                        axes.plot(steps, values, color=colours[arm.name], lw=1.2)
                axes.locator_params(axis="x", integer=True, nbins=7)
                axes.set_title(f"{column + 1}  {task}" if number == 0 else "")
                if column == 0:
                    axes.set_ylabel(label)
                if number == len(rows) - 1:
                    axes.set_xlabel("step")
        arms_below(figure, run, run.arms)
        return to_svg(figure, "learning")


def _has(arm: ArmRun, key: str) -> bool:
    return any(row.get(key) is not None for stage in arm.stages.values() for row in stage.metrics)


def _series(arm: ArmRun, index: int, key: str) -> list[tuple[list[int], list[float]]]:
    """Steps and values of one stage, per seed."""
    found = []
    for seed in arm.seeds:
        stage = arm.stages.get((seed, index))  # a joint arm has only one
        rows = [row for row in stage.metrics if row.get(key) is not None] if stage is not None else []
        if rows:
            found.append(([row["step"] for row in rows], [float(row[key]) for row in rows]))
    return found


def logprob_gap(run: RunData) -> str:
    """Largest log-probability gap between engine and trainer at every step, against its bound."""
    arms = [arm for arm in run.arms if _has(arm, GAP)]
    if not arms:
        return ""
    colours = arm_colours(run)
    with plotting():
        figure = new_figure(2.9)
        axes = figure.add_subplot()
        for arm in arms:
            for seed in arm.seeds:
                xs, ys = _over_stages(arm, seed)
                axes.plot(xs, ys, color=colours[arm.name], lw=1.2)
        bounds = {stage.plan["max_logprob_gap"] for arm in arms for stage in arm.stages.values()}
        for bound in sorted(bounds):
            axes.axhline(bound, color="#b3261e", lw=1.1, ls=(0, (4, 2)))
            axes.annotate(f"bound {bound:g}", (1, bound), xycoords=("axes fraction", "data"), xytext=(-4, 4),
                          textcoords="offset points", ha="right", fontsize=8.5, color="#b3261e")  # fmt: skip
        axes.locator_params(axis="x", integer=True)
        axes.set_yscale("log")
        label_ticks(axes.yaxis, lambda value: f"{value:.0e}".replace("e-0", "e-"))
        axes.set_xlabel("step, stages one after another")
        axes.set_ylabel("|engine − trainer| (nats)")
        arms_below(figure, run, arms)
        return to_svg(figure, "gap")


def _over_stages(arm: ArmRun, seed: int) -> tuple[list[float], list[float]]:
    xs: list[float] = []
    ys: list[float] = []
    for before, stage in arm.in_sequence(seed):
        for row in stage.metrics:
            if row.get(GAP) is not None:
                xs.append(before + row["step"])
                ys.append(max(float(row[GAP]), 1e-12))  # a logarithmic axis has no 0
    return xs, ys


def time_budget(bars: Sequence[tuple[str, dict[str, float]]], colours: dict[str, str]) -> str:
    """Wall time by phase, one stacked bar per arm.

    Args:
        bars: label of the bar, and seconds by phase.
        colours: of every phase, in the order of stacking.
    """
    if not bars:
        return ""
    from matplotlib.patches import Patch

    most = max(sum(phases.values()) for _, phases in bars)
    scale, unit = (60.0, "minutes") if most > 180 else (1.0, "seconds")
    with plotting():
        figure = new_figure(0.75 + 0.3 * len(bars) + 0.2 * math.ceil(len(colours) / 7))
        axes = figure.add_subplot()
        for row, (_, phases) in enumerate(bars):
            left = 0.0
            for phase, colour in colours.items():
                width = phases.get(phase, 0.0) / scale
                axes.barh(row, width, left=left, color=colour, height=0.66, edgecolor="white", linewidth=0.6)
                left += width
            axes.annotate(f"{left:.1f}", (left, row), xytext=(4, 0), textcoords="offset points", va="center",
                          fontsize=8.5, color=INK)  # fmt: skip
        axes.set_yticks(range(len(bars)), [label for label, _ in bars])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(unit)
        axes.margins(x=0.06)
        handles = [Patch(color=colour, label=phase.replace("_", " ")) for phase, colour in colours.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=7, handlelength=1.2)
        return to_svg(figure, "time")
