"""Bounding boxes: intersection over union."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewards import prose
from rewards.extract import Extraction, Read, ReadStatus, Template, read_answer
from rewards.match import accepted, bad_gold, unrewarded
from rewards.registry import reward
from rewards.score import Score

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 with x1 < x2 and y1 < y2; the origin is the image's upper left corner."""
Units = Literal["pixels", "unit", "thousandths", "square"]
"""What a box is measured in: pixels of the image; 0 to 1, or 0 to 1000, of its width and height; 0 to 1 of the image
after it was padded to a square, as LLaVA sees it (CoIN's boxes)."""

MAX_CHARS = 2_000
"""A longer text is no box."""

MAX_COORDINATE = 1e7
"""Larger ones are no pixels; areas stay finite."""

_COORDINATE = r"[-+]?(?:[0-9]{1,9}+(?:\.[0-9]{0,9}+)?|\.[0-9]{1,9}+)(?:[eE][-+]?[0-9]{1,2}+)?(?![\w.])"
_BETWEEN = r"(?:\s*+[,;、，；]\s*+|\s++)"
_POINT = rf"\s*+({_COORDINATE}){_BETWEEN}({_COORDINATE})\s*+"
_OPEN, _CLOSE = r"[\[({【<]", r"[\])}】>]"
# [x1, y1, x2, y2] as well as (x1, y1), (x2, y2) and [[x1, y1], [x2, y2]].
_BOX = re.compile(rf"{_OPEN}{_POINT}(?:[,;、，；]|(?<=\s)|{_CLOSE}\s*+[,;-]?\s*+{_OPEN}){_POINT}{_CLOSE}")
_BARE = re.compile(rf"\s*+({_COORDINATE})" + rf"{_BETWEEN}({_COORDINATE})" * 3 + r"\s*+")
_CODE_FENCE = re.compile(r"```\w*")
# <box>, <|box_start|>
_TAG = re.compile(r"</?\|?/?[A-Za-z]\w*\|?>")
# What JSON may have around its box: "label": "dog 3", "score": 0.9.
_LABEL = re.compile(r"""["']\w{1,30}["']\s*+:\s*+(?:"[^"]*+"|'[^']*+'|true|false|null)""", re.IGNORECASE)
_SCORE = re.compile(
    rf"""["']?(?:confidence|conf|score|prob|probability|id|index|category_id|area)["']?\s*+[:=]\s*+{_COORDINATE}""",
    re.IGNORECASE,
)
_NAMES = (
    ("x1", "xmin", "x_min", "left"),
    ("y1", "ymin", "y_min", "top"),
    ("x2", "xmax", "x_max", "right"),
    ("y2", "ymax", "y_max", "bottom"),
    ("x",),
    ("y",),
    ("width", "w"),
    ("height", "h"),
)
_NAMED = re.compile(
    rf"""["']?\b({"|".join(name for names in _NAMES for name in names)})\b["']?\s*+[:=]\s*+({_COORDINATE})""",
    re.IGNORECASE,
)
_PLACE = {name: place for place, names in enumerate(_NAMES) for name in names}
_QUOTED = re.compile(rf"""["']({_COORDINATE})["']""")
_KEY = re.compile(r"""["']\w{1,30}["']\s*+:|\b(?:bbox|box)(?:_2d)?\s*+[:=]?""", re.IGNORECASE)
_MAX_SIZE = {"unit": 1.0, "thousandths": 1000.0, "square": 1.0}


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
    coordinates: Units | Literal["same"] = "same",
    gold_coordinates: Units = "pixels",
    **_: object,
) -> Score:
    """Intersection over union of the one box said and a gold box, by two opposite corners in either order.

    [x1, y1, x2, y2], (x1, y1), (x2, y2), [[x1, y1], [x2, y2]], four numbers, `<box>…</box>`, x1=…, y1=…, x2=…, y2=…,
    and JSON: an object with a box, with x1, y1, x2, y2 (xmin, left and the like), or with x, y, width, height; or a
    list of such objects. Gold is such a text too, one accepted box each. `coordinates` is what the completion is asked
    for: `same` as gold, or `pixels`, `unit` (0 to 1), `thousandths` (0 to 1000) or `square` of an image whose `meta`
    has `width` and `height` in pixels. `square` is 0 to 1 on the image padded to a square, equally on both sides, as
    CoIN has its boxes. `gold_coordinates` is what gold is in where the two differ. Coordinates outside of those ranges
    and boxes without area are malformed; several different boxes and a denial are ambiguous.

    Limits: partial credit: the whole image as the box earns the gold box's share of it. Four numbers without names are
    corners, never a corner with a size; no polygons. Several objects are not matched to several gold boxes. Labels
    beside the box are not read. Texts beyond 2,000 characters are malformed.
    """
    said = _overlap(completion, gold, meta or {}, template, question, read, coordinates, gold_coordinates)
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
    coordinates: Units | Literal["same"] = "same",
    gold_coordinates: Units = "pixels",
    threshold: float = 0.5,
    above: bool = False,
    **_: object,
) -> Score:
    """Whether the one box said overlaps a gold box enough. Boxes and coordinates as for `iou`; parts `hit` and `iou`.

    At exactly the threshold it does (REC accuracy), unless `above`: CoIN counts what is more than 0.5.

    Limits: those of `iou`; the whole image as the box is right where the gold box is more than `threshold` of it.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"iou-threshold: threshold has to be above 0 and at most 1, got {threshold}")
    said = _overlap(completion, gold, meta or {}, template, question, read, coordinates, gold_coordinates)
    if isinstance(said, Score):
        return said if said.failed else Score(0.0, {"hit": 0.0, "iou": 0.0}, said.extracted, said.status)
    best, text = said
    hit = float(best > threshold if above else best >= threshold)
    return Score(hit, {"hit": hit, "iou": best}, text)


def _overlap(
    completion: str,
    gold: Sequence[str],
    meta: Mapping[str, Any],
    template: Template,
    question: str,
    read: Read,
    coordinates: Units | Literal["same"],
    gold_coordinates: Units,
) -> tuple[float, str] | Score:
    """The best overlap and the box, or the score of a row without one."""
    texts = [gold] if isinstance(gold, str | Mapping) else gold
    # An object with a box is what `read_box` reads; a mapping is an annotator's answer to all other rewards.
    texts = [json.dumps(box) if isinstance(box, Mapping) and "answer" not in box else box for box in texts]
    wanted = [read_box(answer)[0] for answer in accepted(texts)]
    golden = [box for box in wanted if box is not None]
    if not wanted or len(golden) < len(wanted):
        return bad_gold(f"every gold answer has to be one box [x1, y1, x2, y2] with an area, not {list(gold)!r}")
    said = read_answer(completion, read, template, question=question)
    if said.status != "ok":
        return unrewarded(said, "iou")
    box, status = read_box(said.raw)
    if box is None:
        return unrewarded(Extraction("", status), "iou")
    text = "[" + ", ".join(f"{x:.6g}" for x in box) + "]"
    if coordinates != "same" and coordinates != gold_coordinates:
        width, height = meta.get("width"), meta.get("height")
        if not width or not height:
            return bad_gold(f"coordinates={coordinates} needs the image's width and height in the row's meta")
        if coordinates != "pixels" and (min(box) < 0 or max(box) > _MAX_SIZE[coordinates]):
            return unrewarded(Extraction("", "malformed"), "iou")
        box = in_pixels(box, coordinates, width, height)
        golden = [in_pixels(one, gold_coordinates, width, height) for one in golden]
    return max(intersection_over_union(box, one) for one in golden), text


def in_pixels(box: Box, units: Units, width: float, height: float) -> Box:
    """A box in pixels of its image, whose size is given in pixels.

    CoIN's script pads a picture by whole pixels and a box by halves: of an odd difference, `square` takes the half.
    """
    if units == "pixels":
        return box
    if units == "square":
        side = max(width, height)
        left, top = (side - width) / 2, (side - height) / 2
        return box[0] * side - left, box[1] * side - top, box[2] * side - left, box[3] * side - top
    x, y = width / _MAX_SIZE[units], height / _MAX_SIZE[units]
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y


def read_box(text: str) -> tuple[Box | None, ReadStatus]:
    """The one box of a text.

    Returns:
        The box and `ok`; or None and no_answer (no digits), ambiguous (several, or a denial), malformed (all else).
    """
    if len(text) > MAX_CHARS:
        return None, "malformed"
    text = _QUOTED.sub(r"\1", _TAG.sub(" ", _CODE_FENCE.sub(" ", text)))
    found: list[tuple[str | float, ...]]
    if bare := _BARE.fullmatch(text):
        found, rest = [tuple(bare.groups())], ""
    else:
        named, rest = _named(_SCORE.sub(" ", _LABEL.sub(" ", text)))
        rest = _KEY.sub(" ", rest)
        found, rest = [*named, *_BOX.findall(rest)], _BOX.sub(" ", rest)
    if not found:
        return None, "malformed" if any(character.isnumeric() for character in text) else "no_answer"
    boxes = {_sorted(*map(float, corners)) for corners in found}
    if len(boxes) > 1 or prose.denies(rest):
        return None, "ambiguous"
    # Other numbers beside the box: ambiguous.
    if any(character.isnumeric() for character in rest):
        return None, "malformed"
    box = boxes.pop()
    if box[0] == box[2] or box[1] == box[3] or max(map(abs, box)) > MAX_COORDINATE:
        return None, "malformed"
    return box, "ok"


def _named(text: str) -> tuple[list[tuple[str | float, ...]], str]:
    """The boxes whose coordinates have names, each name once a box, and the text without them."""
    found: list[tuple[str | float, ...]] = []
    current: dict[int, str] = {}
    for name, number in _NAMED.findall(text):
        current[_PLACE[name.lower()]] = number
        if current.keys() >= {0, 1, 2, 3}:
            found.append(tuple(current[place] for place in range(4)))
            current = {}
        elif current.keys() >= {4, 5, 6, 7}:
            x, y, width, height = (float(current[place]) for place in range(4, 8))
            found.append((x, y, x + width, y + height))
            current = {}
    return (found, _NAMED.sub(" ", text)) if found and not current else ([], text)


def _sorted(x1: float, y1: float, x2: float, y2: float) -> Box:
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def intersection_over_union(one: Box, other: Box) -> float:
    """Area of the intersection by area of the union, in [0, 1]; 0 for boxes that only touch."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = width * height
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return min(common / (area - common), 1.0)
