"""Colours and plotting defaults of the report: one hue per recipe arm, its shades over a sweep."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cpt.report.load import ArmRun, RunData

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDTH = 10.4  # inches; the page scales figures to its own width
INK, MUTED, GRID, PAPER = "#1f2429", "#6b7480", "#e4e7ea", "#ffffff"
HUES = ("#c2553a", "#2c6a9e", "#3f7f5b", "#86589b", "#b58420", "#4b5a68", "#a8446b", "#5a8a1e")
# Phases of a training step in the order of stacking; names as in metrics.jsonl and events.jsonl.
STEP_PHASES = {
    "push": "#8db4d6",
    "rollout": "#2c6a9e",
    "reward": "#7fb7a3",
    "old_logprobs": "#b9a7d6",
    "forward": "#d98a73",
    "backward": "#c2553a",
    "forward_backward": "#c2553a",
    "optimizer": "#8f3b26",
}
EVALUATE = "#3f7f5b"
OTHER_PHASES = ("#b58420", "#d9c38a", "#86589b", "#4b5a68", "#a9b2bb", "#5a8a1e", "#a8446b")
REST, IDLE = "#c3cad0", "#e3e6e9"

RC: dict[str, Any] = {
    "svg.fonttype": "path",  # looks the same on every machine
    "svg.hashsalt": "cpt",  # the same data give the same bytes
    "font.size": 9.5,
    "font.family": "DejaVu Sans",
    "text.parse_math": False,
    "axes.edgecolor": "#b4bbc2",
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def arm_colours(run: RunData) -> dict[str, str]:
    """A colour per arm: the family's hue, paler for the first values of a sweep."""
    colours = {}
    for number, family in enumerate(run.families):
        arms = [arm for arm in run.arms if arm.family == family]
        for place, arm in enumerate(arms):
            part = 1.0 if len(arms) == 1 else place / (len(arms) - 1)
            colours[arm.name] = mix(_hue(number), PAPER, 0.58 * (1 - part))
    return colours


def family_colours(run: RunData) -> dict[str, str]:
    """The full hue of every family."""
    return {family: _hue(number) for number, family in enumerate(run.families)}


def _hue(number: int) -> str:
    """The hues, then the same ones darker, then paler."""
    hue = HUES[number % len(HUES)]
    return (hue, mix(hue, "#000000", 0.45), mix(hue, PAPER, 0.45))[number // len(HUES) % 3]


def mix(one: str, other: str, share: float) -> str:
    """`one` with a share of `other` in it, both as #rrggbb."""
    parts = [round((1 - share) * int(one[i : i + 2], 16) + share * int(other[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{part:02x}" for part in parts)


def heat(value: float | None) -> tuple[str, str]:
    """Background and text colour of a score in [0, 1]; grey for none."""
    if value is None:
        return "#f1f2f4", MUTED
    share = min(max(value, 0.0), 1.0)
    background = mix("#f7fafc", "#17466f", share**1.25)
    return background, PAPER if share > 0.62 else INK


@contextmanager
def plotting() -> Iterator[None]:
    """matplotlib with the report's defaults instead of the user's."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(RC)
        yield


def new_figure(height: float) -> Figure:
    """An empty figure of the page's width. `height`: inches, without a legend below."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an inline <svg>; ids carry `name`, so that several figures can share a page."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    # Only the layout: savefig would draw the whole figure once just for it.
    FigureCanvasSVG(figure)
    figure.set_dpi(72)
    if engine := figure.get_layout_engine():
        engine.execute(figure)
        figure.set_layout_engine(None)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'(xlink:href|href)="#', rf'\1="#{name}-', text)
    # A hundredth of a point is finer than any screen: shorter numbers halve the page.
    text = re.sub(r'\bd="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path.group()), text)
    text = re.sub(r">\s+<", "><", text)
    # The page sets the size; the view box keeps the proportions.
    opening, _, rest = text.partition(">")
    return re.sub(r' (width|height)="[^"]*"', "", opening) + ">" + rest


def label_ticks(axis: Axis, text: Callable[[float], str]) -> None:
    """Label the major ticks of a logarithmic axis, and not the minor ones.

    matplotlib's own is mathtext for both, which would stand there as it is written: labels are not parsed here.
    """
    from matplotlib.ticker import NullFormatter

    axis.set_major_formatter(lambda value, _: text(value))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, handles: Sequence[Any], columns: int = 5) -> None:
    """A legend under the panels, of `columns` at most; the figure grows by its height."""
    columns = min(columns, len(handles))
    figure.set_figheight(figure.get_figheight() + 0.19 * math.ceil(len(handles) / columns) + 0.12)
    figure.legend(handles=handles, loc="outside lower left", ncols=columns)


def arms_below(figure: Figure, run: RunData, arms: Sequence[ArmRun]) -> None:
    """A legend of arms under the panels, a column per family where there are several of one size."""
    from matplotlib.lines import Line2D

    colours = arm_colours(run)
    sizes = {family: sum(arm.family == family for arm in arms) for family in dict.fromkeys(arm.family for arm in arms)}
    columns = len(sizes) if len(set(sizes.values())) == 1 and 1 < len(sizes) <= 5 else 5
    legend_below(figure, [Line2D([], [], color=colours[arm.name], lw=2.4, label=arm.label) for arm in arms], columns)
