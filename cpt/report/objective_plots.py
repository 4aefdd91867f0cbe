"""RECAP's weights, convergence and instability of every objective by step, one row per arm."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cpt.report.figure_style import MUTED, legend_below, new_figure, plotting, to_svg
from cpt.report.load import ArmRun, RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_KEY = re.compile(r"objective/(.+)/(weight|convergence|instability)")
_SIGNALS = (("weight", "weight λ"), ("convergence", "convergence c"), ("instability", "instability i"))


def objective_weights(run: RunData) -> str:
    """A row of panels per arm that weighs objectives, first seed, stages one after another; "" if none does."""
    from matplotlib import colormaps
    from matplotlib.lines import Line2D

    arms = [(arm, names) for arm in run.arms if (names := _objectives(arm))]
    if not arms:
        return ""
    objectives = list(dict.fromkeys(name for _, names in arms for name in names))
    colours = {name: colormaps["tab20"](i % 20) for i, name in enumerate(objectives)}
    with plotting():
        figure = new_figure(2.2 * len(arms))
        for row, (arm, names) in enumerate(arms):
            for column, (signal, label) in enumerate(_SIGNALS):
                axes = figure.add_subplot(len(arms), len(_SIGNALS), row * len(_SIGNALS) + column + 1)
                for name in names:
                    axes.plot(*_series(arm, f"objective/{name}/{signal}"), color=colours[name], lw=1.1)
                _stage_borders(axes, arm)
                axes.set_title(label if row == 0 else "")
                axes.locator_params(axis="x", integer=True, nbins=7)
                if column == 0:
                    axes.set_ylabel(arm.label)
                if row == len(arms) - 1:
                    axes.set_xlabel("step, stages one after another")
        legend_below(figure, [Line2D([], [], color=colours[name], label=name) for name in objectives], 4)
        return to_svg(figure, "objectives")


def _objectives(arm: ArmRun) -> list[str]:
    """Names in the order of their first weights."""
    found: dict[str, None] = {}
    for _, stage in arm.in_sequence(arm.seeds[0]):
        if stage.metrics:
            found |= {match[1]: None for key in stage.metrics[0] if (match := _KEY.fullmatch(key))}
    return list(found)


def _series(arm: ArmRun, key: str) -> tuple[list[int], list[float]]:
    """Steps of the first seed that have a value (one per batch of rollouts), and their values.

    A stage without the objective leaves a gap.
    """
    xs: list[int] = []
    ys: list[float] = []
    for before, stage in arm.in_sequence(arm.seeds[0]):
        known = [(before + int(row["step"]), float(row[key])) for row in stage.metrics if row.get(key) is not None]
        for x, y in known or [(before, float("nan"))]:
            xs.append(x)
            ys.append(y)
    return xs, ys


def _stage_borders(axes: Axes, arm: ArmRun) -> None:
    for before, _ in arm.in_sequence(arm.seeds[0])[1:]:
        axes.axvline(before + 0.5, color=MUTED, lw=0.6, ls=(0, (2, 2)))
