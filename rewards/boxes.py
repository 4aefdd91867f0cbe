"""Bounding boxes: intersection over union."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewards import prose
from rewards.extract import Extraction, Read, ReadStatus, Template, read_answer
from rewards.match import accepted, bad_gold, unpaid
from rewards.registry import reward
from rewards.score import Score

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 with x1 < x2 and y1 < y2; the origin is the image's upper left corner."""
Units = Literal["same", "unit", "thousandths"]

MAX_CHARS = 2_000
"""A longer text is no box."""

# At most seven digits before the point: areas stay finite.
_COORDINATE = r"[-+]?(?:[0-9]{1,7}+(?:\.[0-9]{0,9}+)?|\.[0-9]{1,9}+)"
_NUMBER = rf"\s*+({_COORDINATE})\s*+"
# (x1, y1), (x2, y2) as well as [x1, y1, x2, y2].
_BOX = re.compile(rf"[\[(]{_NUMBER},{_NUMBER}(?:,|\)\s*+,?\s*+\(){_NUMBER},{_NUMBER}[\])]")
_BARE = re.compile(rf"\s*+({_COORDINATE})" + rf"(?:\s*+,|\s)\s*+({_COORDINATE})" * 3 + r"\s*+")
_CODE_FENCE = re.compile(r"```\w*")
# What JSON may have around its box: [{"bbox_2d": …, "label": "the red circle"}].
_LABEL = re.compile(r"\"label\"\s*+:\s*+\"[^\"]*+\"")
_MAX_SIZE = {"unit": 1.0, "thousandths": 1000.0}


@reward(
    "iou", source="Everingham et al. 2010, PASCAL VOC", formula="area of intersection / area of union, best over gold"
)
def iou(
    completion: str,
    *,
    gold: Sequence[str],
    meta: Mapping[str, Any] | None = None,
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    coordinates: Units = "same",
    **_: object,
) -> Score:
    """Intersection over union of the one box said and a gold box: [x1, y1, x2, y2], (x1, y1), (x2, y2) or JSON.

    Gold is such a text too, one accepted box each. `coordinates` is what the completion is asked for: `same` as gold,
    or `unit` (0 to 1) or `thousandths` (0 to 1000) of an image whose `meta` has `width` and `height` in gold's pixels.
    Coordinates outside of those ranges, corners in the wrong order and boxes without area are malformed; several
    different boxes and a denial are ambiguous.

    Limits: partial credit: the whole image as the box earns the gold box's share of it. Corners only: no centre with
    size, no polygons, no exponents. Several objects are not matched to several gold boxes. Labels beside the box are
    not read. Texts beyond 2,000 characters are malformed.
    """
    said = _overlap(completion, gold, meta or {}, template, question, read, coordinates)
    if isinstance(said, Score):
        return said
    best, text = said
    return Score(best, {"iou": best}, text)


@reward(
    "iou-threshold",
    source="Everingham et al. 2010, PASCAL VOC; REC accuracy at 0.5",
    formula="1 if intersection over union ≥ threshold for a gold box, else 0",
)
def iou_threshold(
    completion: str,
    *,
    gold: Sequence[str],
    meta: Mapping[str, Any] | None = None,
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    coordinates: Units = "same",
    threshold: float = 0.5,
    **_: object,
) -> Score:
    """Whether the one box said overlaps a gold box enough. Boxes and `coordinates` as for `iou`; parts `hit` and `iou`.

    Limits: those of `iou`; the whole image as the box is right where the gold box is more than `threshold` of it.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"iou-threshold: threshold has to be above 0 and at most 1, got {threshold}")
    said = _overlap(completion, gold, meta or {}, template, question, read, coordinates)
    if isinstance(said, Score):
        return said if said.failed else Score(0.0, {"hit": 0.0, "iou": 0.0}, said.extracted, said.status)
    best, text = said
    hit = float(best >= threshold)
    return Score(hit, {"hit": hit, "iou": best}, text)


def _overlap(
    completion: str,
    gold: Sequence[str],
    meta: Mapping[str, Any],
    template: Template,
    question: str,
    read: Read,
    coordinates: Units,
) -> tuple[float, str] | Score:
    """The best overlap and the box said, or the score of a row that has none."""
    wanted = [read_box(answer)[0] for answer in accepted(gold)]
    golden = [box for box in wanted if box is not None]
    if not wanted or len(golden) < len(wanted):
        return bad_gold(
            f"every gold answer has to be one box [x1, y1, x2, y2] with x1 < x2 and y1 < y2, not {list(gold)!r}"
        )
    said = read_answer(completion, read, template, question=question)
    if said.status != "ok":
        return unpaid(said, "iou")
    box, status = read_box(said.raw)
    if box is None:
        return unpaid(Extraction("", status), "iou")
    text = "[" + ", ".join(f"{x:.6g}" for x in box) + "]"
    if coordinates != "same":
        size = _MAX_SIZE[coordinates]
        width, height = meta.get("width"), meta.get("height")
        if not width or not height:
            return bad_gold(f"coordinates={coordinates} needs the image's width and height in the row's meta")
        if min(box) < 0 or max(box) > size:
            return unpaid(Extraction("", "malformed"), "iou")
        x, y = float(width) / size, float(height) / size
        box = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    return max(intersection_over_union(box, one) for one in golden), text


def read_box(text: str) -> tuple[Box | None, ReadStatus]:
    """The one box of a text.

    Returns:
        The box and `ok`; or None and no_answer (no digits), ambiguous (several, or a denial), malformed (all else).
    """
    if len(text) > MAX_CHARS:
        return None, "malformed"
    text = _LABEL.sub(" ", _CODE_FENCE.sub(" ", text))
    found = [tuple(map(float, groups)) for groups in _BOX.findall(text)]
    rest = _BOX.sub(" ", text)
    bare = _BARE.fullmatch(text)
    if bare:
        found, rest = [tuple(map(float, bare.groups()))], ""
    if not found:
        return None, "malformed" if any(character.isnumeric() for character in text) else "no_answer"
    if len(set(found)) > 1 or prose.denies(rest):
        return None, "ambiguous"
    x1, y1, x2, y2 = found[0]
    # Other numbers beside the box: which are meant?
    if any(character.isnumeric() for character in rest.replace("bbox_2d", " ")):
        return None, "malformed"
    if not (x1 < x2 and y1 < y2 and all(map(math.isfinite, found[0]))):
        return None, "malformed"
    return (x1, y1, x2, y2), "ok"


def intersection_over_union(one: Box, other: Box) -> float:
    """Area of the intersection by area of the union, in [0, 1]; 0 for boxes that only touch."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return min(common / (area - common), 1.0)
