"""Maps whose regions have colours of their own, as JSON: "Which of these regions is yellow on the map?"."""

from __future__ import annotations

import colorsys
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from cpt.tasks.real_pictures.writing import number_of, write_json

# Degrees of hue that everybody calls by the name; a colour in between is called by neither, and asked for by none.
_HUES = {
    "red": (-10, 8), "orange": (22, 38), "yellow": (50, 66), "green": (90, 150), "cyan": (170, 188),
    "blue": (205, 250), "purple": (262, 288), "pink": (296, 340),
}  # fmt: skip
_CLEAR = 0.6  # saturation and value from which on a colour is clear
_GREY, _DARK = 0.15, 0.2  # saturation and value below which it is none
_VISIBLE = 0.003  # share of the picture
_OPTIONS = 4


@dataclass(frozen=True)
class Region:
    """A region of a map: its name, its colour in the picture, the share of the picture that it has."""

    name: str
    rgb: tuple[int, int, int]
    share: float
    asked: bool


def make(found: dict[str, Path], out: Path) -> dict[str, int]:
    """`pictures/` and `maps.json` (id, image, question, choices, answer as an index, map, kind).

    Two questions for each region whose colour can be called by a name that fits no other on its map: which region has
    the colour, and which colour the region has.
    """
    folder = found["kgeography-data"]
    (out / "pictures").mkdir()
    rows: list[dict[str, object]] = []
    for file in sorted(folder.glob("*.kgm")):
        tree = ElementTree.parse(file).getroot()
        picture = folder / _text(tree, "mapFile", file)
        asked = _questions(_regions(tree, picture, file))
        if asked:
            shutil.copyfile(picture, out / "pictures" / picture.name)
        for number, row in enumerate(asked):
            rows.append({"id": f"{file.stem}-{number}", "image": f"pictures/{picture.name}", "map": file.stem, **row})
    write_json(out / "maps.json", rows)
    return {"maps.json": len(rows)}


def _text(element: ElementTree.Element, name: str, file: Path) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise ValueError(f"{file}: a {element.tag} without {name}")
    return text


def _regions(tree: ElementTree.Element, picture: Path, file: Path) -> list[Region]:
    """All that has a colour in the picture, water and neighbours too, which are never asked for."""
    with Image.open(picture) as opened:
        total = opened.width * opened.height
        shares = {rgb: n / total for n, rgb in opened.convert("RGB").getcolors(total) or ()}
    regions = []
    for division in tree.findall("division"):
        key = division.find("color")
        if key is None:
            raise ValueError(f"{file}: a division without color")
        red, green, blue = (int(_text(key, name, file)) for name in ("red", "green", "blue"))
        asked = (division.findtext("ignore") or "").strip() != "yes"
        share = shares.get((red, green, blue), 0.0)
        regions.append(Region(_text(division, "name", file), (red, green, blue), share, asked))
    return [region for region in regions if region.share > 0]


def _questions(regions: list[Region]) -> list[dict[str, object]]:
    near = Counter(nearest_colour(region.rgb) for region in regions)
    names = sorted({region.name for region in regions if region.asked})
    rows: list[dict[str, object]] = []
    for region in regions:
        colour = clear_colour(region.rgb)
        unique = colour is not None and near[colour] == 1
        if not (unique and region.asked and region.share >= _VISIBLE and len(names) >= _OPTIONS):
            continue
        which = f"Which of these regions is {colour} on the map?"
        what = f"Which colour does {region.name} have on the map?"
        rows.append({"question": which, **_options(region.name, names, which), "kind": "region"})
        rows.append({"question": what, **_options(str(colour), sorted(_HUES), what), "kind": "colour"})
    return rows


def _options(right: str, names: list[str], question: str) -> dict[str, object]:
    """Four options with the right one among them, chosen and ordered by a hash."""
    order = sorted((name for name in names if name != right), key=lambda name: number_of(f"{question}/{name}".encode()))
    place = number_of(f"{question}/{right}".encode()) % _OPTIONS
    chosen = order[: _OPTIONS - 1]
    return {"choices": [*chosen[:place], right, *chosen[place:]], "answer": place}


def clear_colour(rgb: tuple[int, int, int]) -> str | None:
    """The name that everybody would give the colour; None if there is none."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in rgb))
    if saturation < _CLEAR or value < _CLEAR:
        return None
    return next((name for name, (low, high) in _HUES.items() if (hue * 360 - low) % 360 <= high - low), None)


def nearest_colour(rgb: tuple[int, int, int]) -> str | None:
    """The name that somebody might give the colour; None for greys, black and white."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in rgb))
    if saturation < _GREY or value < _DARK:
        return None
    return min(_HUES, key=lambda name: abs((hue * 360 - sum(_HUES[name]) / 2 + 180) % 360 - 180))
