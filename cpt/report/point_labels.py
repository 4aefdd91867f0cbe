"""Places labels beside points so that none covers another, a point or the panel's edge.

Greedy and deterministic: the labels of isolated points first, each in the cheapest of a fixed set of places around its
point. A label that is far from its point is tied to it by a thin line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cpt.report.figure_style import PAPER

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = tuple[float, float]
Line = tuple[Point, Point]
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""

SIZE = 7.5  # font size; all lengths here are in points
_GAPS = (7.2, 11, 16, 22, 30, 40, 52, 66, 82, 100, 120, 145, 175)  # between a point and its label
_NEAR = 9.0  # a label further away is tied to its point
_ANGLES = tuple(math.radians(a) for a in (45, 0, -45, 90, -90, 135, 180, -135, 22, -22, 67, -67, 112, -112, 158, -158))
_MARKER = 3.0  # half of a marker's side
_AIR = 1.0  # around a label
_CROWD = 60.0  # points nearer than this make a crowd
# The cost of a place besides its distance: per square point of overlap, and per tie or line in the way.
_OVERLAP, _TIE, _LINE = 50.0, 60.0, 8.0


@dataclass
class _Taken:
    """What later labels have to avoid."""

    lines: list[Line]
    labels: list[Box] = field(default_factory=list)
    ties: list[Line] = field(default_factory=list)


def label_points(axes: Axes, points: Sequence[Point], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Write a text beside each point of a panel, if possible on none of its lines.

    Call it last, after the figure's `draw_without_rendering`, which settles the layout.

    Args:
        points: in data coordinates.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    scale = 72 / figure.dpi

    def scaled(found: Any) -> list[Point]:
        return [(float(x) * scale, float(y) * scale) for x, y in found]

    sizes = []
    for text in texts:
        drawn = axes.text(0, 0, text, fontsize=SIZE)
        extent = drawn.get_window_extent()
        sizes.append((extent.width * scale, extent.height * scale))
        drawn.remove()
    left, bottom, right, top = (float(side) * scale for side in axes.bbox.extents)
    anchors = scaled(axes.transData.transform(list(points)))
    lines = [scaled(line.get_transform().transform(line.get_xydata())) for line in axes.lines]
    centres = place(anchors, sizes, (left, bottom, right, top), lines)
    for number, centre in enumerate(centres):
        _write(axes, points[number], texts[number], colours[number], anchors[number], centre, sizes[number])


def _write(axes: Axes, at: Point, text: str, colour: str, anchor: Point, centre: Point, size: Point) -> None:
    from matplotlib.patheffects import withStroke

    tied = math.dist(anchor, _nearest(anchor, _box(centre, size))) >= _NEAR
    line = {"arrowstyle": "-", "color": colour, "alpha": 0.55, "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
    written = axes.annotate(
        text, at, xytext=(centre[0] - anchor[0], centre[1] - anchor[1]), textcoords="offset points", ha="center",
        va="center", fontsize=SIZE, color=colour, arrowprops=line if tied else None, zorder=4,
    )  # fmt: skip
    written.set_path_effects([withStroke(linewidth=1.8, foreground=PAPER)])
    written.set_in_layout(False)


def place(
    points: Sequence[Point], sizes: Sequence[Point], panel: Box, lines: Sequence[Sequence[Point]] = ()
) -> list[Point]:
    """The centres of labels of these sizes (width, height), in the points' order; all lengths in one unit.

    Args:
        lines: what is better not covered.
    """
    taken = _Taken([pair for line in lines for pair in pairwise(line)])
    crowd = [sum(math.dist(one, other) < _CROWD for other in points) for one in points]
    centres: dict[int, Point] = {}
    for number in sorted(range(len(points)), key=lambda i: crowd[i]):
        point, size = points[number], sizes[number]
        others = [other for other in points if other != point]
        least = math.inf
        for gap in _GAPS:
            if least <= gap:
                break  # a place further away cannot cost less
            for order, angle in enumerate(_ANGLES):
                centre = _beside(point, size, gap, angle)
                cost = gap + 0.2 * order + _cost(point, centre, size, panel, others, taken)
                if cost < least:
                    least, centres[number] = cost, centre
        box = _box(centres[number], size)
        taken.labels.append(box)
        taken.ties.append((point, _nearest(point, box)))
    return [centres[number] for number in range(len(points))]


def _beside(point: Point, size: Point, gap: float, angle: float) -> Point:
    """The label's centre where its side or corner lies `gap` from the point."""
    dx, dy = math.cos(angle), math.sin(angle)
    shift_x, shift_y = (max(-1.0, min(1.0, 1.5 * part)) / 2 for part in (dx, dy))
    return point[0] + dx * gap + shift_x * size[0], point[1] + dy * gap + shift_y * size[1]


def _cost(point: Point, centre: Point, size: Point, panel: Box, others: Sequence[Point], taken: _Taken) -> float:
    box = _box(centre, size)
    area = overlap(box, box) - overlap(box, panel)
    area += sum(overlap(box, label) for label in taken.labels)
    markers = [_box(other, (2 * _MARKER, 2 * _MARKER)) for other in (*others, point)]
    area += sum(overlap(box, marker) for marker in markers)
    tie = (point, _nearest(point, box))
    crossed = sum(_through(tie, label) for label in taken.labels) + sum(
        _through(tie, marker) for marker in markers[:-1]
    )
    crossed += sum(_through(other, box) or _crosses(*tie, *other) for other in taken.ties)
    return _OVERLAP * area + _TIE * crossed + _LINE * sum(_through(line, box) for line in taken.lines)


def _box(centre: Point, size: Point) -> Box:
    half = (size[0] / 2 + _AIR, size[1] / 2 + _AIR)
    return centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]


def overlap(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _nearest(point: Point, box: Box) -> Point:
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def _through(line: Line, box: Box) -> bool:
    """Whether a line meets a box: it crosses a diagonal, or one end lies inside."""
    left, bottom, right, top = box
    inside = any(left < x < right and bottom < y < top for x, y in line)
    return inside or _crosses(*line, (left, bottom), (right, top)) or _crosses(*line, (left, top), (right, bottom))


def _crosses(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the lines ab and cd cross properly."""

    def side(p: Point, q: Point, r: Point) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
