"""Drift in the report: a table of arms and stages, and drift against forgetting (RL's Razor's figure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpt.evaluate.drift import DIRECTIONS, FORMULAS, GROUPS, PROMPTS, rank_correlation
from cpt.evaluate.matrix import BY_NAME
from cpt.evaluate.scores import Scoring
from cpt.evaluate.stats import Metric, mean_or_nan
from cpt.report.arm_summary import ArmSummary
from cpt.report.figure_style import MUTED, arm_colours, arms_below, label_ticks, new_figure, plotting, to_svg
from cpt.report.load import ArmRun
from cpt.report.summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The vertical axes of the figure, both after the same stage and in points.
COSTS = {
    "forgetting": "−BWT after stage i: (1/(i−1)) Σ_{j<i} (R_{jj} − R_{ij}), from the second stage on",
    "general loss": "mean over the general tasks g of R_{0g} − R_{ig}",
}
FEWEST = 4  # points for a rank correlation


@dataclass(frozen=True)
class Point:
    """One arm after one stage, means over its seeds.

    Attributes:
        drift: forward, on the stage's new task, in nats per completion.
        cost: a share lost; negative where something was gained.
    """

    arm: ArmRun
    stage: int
    drift: float
    cost: float


def drift_view(summary: Summary) -> dict[str, Any]:
    """The template's variables; `rows` is empty if nothing was measured."""
    rows: list[dict[str, Any]] = [
        {"arm": item.arm, "stage": stage, "task": found.plan["task"], "cells": _cells(item, stage)}
        for item in summary.arms
        for (seed, stage), found in sorted(item.arm.stages.items())
        if seed == item.arm.seeds[0]
    ]
    measured = any(cell["value"] for row in rows for cell in row["cells"])
    return {
        "rows": rows if measured else [],
        "directions": DIRECTIONS,
        "groups": GROUPS,
        "formulas": FORMULAS,
        "prompts": PROMPTS,
        "costs": COSTS,
    }


def _cells(item: ArmSummary, stage: int) -> list[dict[str, str]]:
    drift = item.drift
    keys = [(direction, group) for direction in DIRECTIONS for group in GROUPS]
    return [_cell(drift.stages[stage - 1][key], drift.per_token[stage - 1][key]) for key in keys]


def _cell(metric: Metric, per_token: Metric) -> dict[str, str]:
    if metric.value is None or metric.low is None or metric.high is None or per_token.value is None:
        return {"value": "", "range": "", "per_token": "", "reason": metric.reason.removeprefix("n/a: ")}
    return {
        "value": nats(metric.value),
        "range": f"{nats(metric.low)} to {nats(metric.high)}",
        "per_token": f"{nats(per_token.value)} per token",
        "reason": "",
    }


def nats(value: float) -> str:
    """Two decimals, or two significant digits if below 0.1: drift spans many orders of magnitude."""
    if value == 0 or value >= 0.1:
        return f"{value:.2f}"
    text = f"{value:.2g}" if value >= 1e-3 else f"{value:.1e}".replace("e-0", "e-")
    return text.replace("-", "−")


def points(summary: Summary, scoring: Scoring, cost: str) -> list[Point]:
    """Every arm and stage where both drift and the cost are known."""
    found = []
    for item in summary.arms:
        for stage in range(1, len(summary.run.tasks) + 1):
            drift = item.drift.stages[stage - 1]["forward", "new"].value
            lost = _cost(item, scoring, stage, cost)
            if drift is not None and lost is not None:
                found.append(Point(item.arm, stage, drift, lost))
    return found


def _cost(item: ArmSummary, scoring: Scoring, stage: int, cost: str) -> float | None:
    numbers = item.numbers[scoring]
    if cost == "general loss":
        kept = numbers.retention.mean[stage - 1].value
        return None if kept is None else -kept
    transfer = BY_NAME["BWT"]
    if stage < transfer.least_stages:
        return None
    lost = -mean_or_nan(transfer.compute(numbers.trained.per_seed[:, : stage + 1, :stage]))
    return None if math.isnan(lost) else lost


def correlation(found: Sequence[Point]) -> str:
    """Spearman's ρ with the number of points, in words."""
    if len(found) < FEWEST:
        return f"n/a: {len(found)} points, fewer than {FEWEST}"
    rho = rank_correlation([point.drift for point in found], [point.cost for point in found])
    return f"n/a: all alike, n = {len(found)}" if math.isnan(rho) else f"ρ = {rho:.2f}, n = {len(found)}"


def drift_figure(summary: Summary, scoring: Scoring) -> str:
    """Drift on the new task against forgetting and general loss, a point per arm and stage; "" if there is none."""
    panels = {name: found for name in COSTS if (found := points(summary, scoring, name))}
    if not panels:
        return ""
    with plotting():
        figure = new_figure(4.3)
        for number, (name, found) in enumerate(panels.items(), start=1):
            _draw(figure.add_subplot(1, len(panels), number), summary, name, found)
        arms = list({point.arm.name: point.arm for found in panels.values() for point in found}.values())
        arms_below(figure, summary.run, arms)
        return to_svg(figure, f"drift-{scoring}")


def _draw(axes: Axes, summary: Summary, name: str, found: Sequence[Point]) -> None:
    colours = arm_colours(summary.run)
    for point in found:
        at = (point.drift, 100 * point.cost)
        axes.plot(*at, marker="o", ms=6.5, mec="white", mew=0.8, color=colours[point.arm.name], zorder=3)
        axes.annotate(str(point.stage), at, xytext=(5, 4), textcoords="offset points", fontsize=7.5, color=MUTED)
    if min(point.drift for point in found) > 0:  # a logarithmic axis has no 0
        from matplotlib.ticker import LogLocator

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        label_ticks(axes.xaxis, lambda value: f"{value:g}")
    axes.axhline(0, color=MUTED, lw=0.8)
    axes.set_xlabel("KL(π0 ‖ π) on the new task (nats per completion)")
    axes.set_ylabel(f"{name} (points)")
    axes.set_title(f"rank correlation {correlation(found)}", color=MUTED, fontsize=8.5)
    axes.margins(0.12)
