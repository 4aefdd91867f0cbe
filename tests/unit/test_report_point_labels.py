"""Where the labels of points lie: on nothing else, inside of the panel, near their points."""

from __future__ import annotations

import math
from itertools import combinations

from matplotlib.figure import Figure
from matplotlib.text import Text

from cpt.report.point_labels import label_points, overlap, place

PANEL = (0.0, 0.0, 300.0, 200.0)
SIZE = (24.0, 9.0)
# New-task accuracy and general retention of a sweep over three methods and four learning rates.
SWEEP = [
    *((9.1, -86.0), (0.0, -98.5), (0.0, -99.3), (0.0, -99.3)),
    *((90.1, 0.2), (92.3, -0.1), (92.7, -1.1), (87.1, -30.8)),
    *((89.7, 0.0), (88.8, -0.1), (88.5, -1.1), (78.9, -25.6)),
]


def box(centre, size):
    return (centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2)


def boxes(points, panel=PANEL):
    return [box(centre, SIZE) for centre in place(points, [SIZE] * len(points), panel)]


def test_labels_of_points_on_one_spot_lie_apart():
    found = boxes([(150.0, 100.0)] * 12)
    assert not [pair for pair in combinations(found, 2) if overlap(*pair)]


def test_a_label_lies_on_no_point_and_inside_of_the_panel():
    points = [(x, y) for x in (4.0, 20.0, 36.0, 290.0) for y in (4.0, 16.0, 28.0, 196.0)]
    found = boxes(points)
    assert not [pair for pair in combinations(found, 2) if overlap(*pair)]
    assert not [one for one in found for x, y in points if one[0] < x < one[2] and one[1] < y < one[3]]
    assert all(left >= 0 and bottom >= 0 and right <= 300 and top <= 200 for left, bottom, right, top in found)


def test_a_lonely_point_has_its_label_above_to_the_right_and_off_the_lines():
    ((x, y),) = place([(150.0, 100.0)], [SIZE], PANEL)
    assert x > 150 and y > 100
    across = [[(0.0, y), (300.0, y)]]
    ((_, lower),) = place([(150.0, 100.0)], [SIZE], PANEL, across)
    assert abs(lower - y) > SIZE[1] / 2


def test_the_same_points_have_the_same_labels_in_the_order_of_the_points():
    points = [(150.0, 100.0), (20.0, 20.0), (155.0, 100.0)]
    found = place(points, [SIZE] * 3, PANEL)
    assert found == place(points, [SIZE] * 3, PANEL)
    assert all(math.dist(at, point) < 40 for at, point in zip(found, points, strict=True))


def test_the_sweeps_labels_can_be_read_side_by_side():
    """They lay on each other when every one of them stood five points above and to the right."""
    figure = Figure(figsize=(5.2, 4.3), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*SWEEP, strict=True), marker="o")
    texts = [*("3e-5", "1e-4", "3e-4", "1e-3")] * 3
    figure.draw_without_rendering()
    label_points(axes, SWEEP, texts, ["black"] * 12)
    figure.draw_without_rendering()
    assert [text.get_text() for text in axes.texts] == texts
    sides = [tuple(Text.get_window_extent(text).extents) for text in axes.texts]  # an annotation's has its line, too
    assert not [pair for pair in combinations(sides, 2) if overlap(*pair)]
    inside = axes.bbox.extents
    assert all(inside[0] <= s[0] and inside[1] <= s[1] and s[2] <= inside[2] and s[3] <= inside[3] for s in sides)
