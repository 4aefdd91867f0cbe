"""Flags as a folder of pictures with CSV files: which country's it is, and whether a colour is in it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from cpt.common.pictures import open_picture
from cpt.tasks.real_pictures.writing import write_csv

# Of countries that fly the same flag, the one that it is called after. The other groups are mistakes of the package.
_OWNERS = {"fr", "us", "nl"}
_SAME = 1.0  # grey levels that two small flags may differ by on average and still be one
# Degrees of hue. What lies between two of them is neither.
_HUES = {"red": (-15, 12), "yellow": (42, 66), "green": (80, 165), "blue": (190, 255)}
_STRONG, _BRIGHT = 0.4, 0.3  # saturation and value from which a pixel has a colour
_YES, _NO = 0.05, 0.003  # shares of the picture from which on a colour is in it, and below which it is not


def make(found: dict[str, Path], out: Path) -> dict[str, int]:
    """`pictures/`, `flags.csv` (file_name, country, code) and `colours.csv` (file_name, question, answer, colour).

    Left out are flags without a country of their own, and all but one of those that look the same.
    """
    names = _countries(found["tzdata"] / "iso3166.tab")
    files = {file.stem: file for file in sorted(found["iso-flags-png-320x240"].glob("*.png")) if file.stem in names}
    seen = {code: open_picture(file, f"flag {code}") for code, file in files.items()}
    (out / "pictures").mkdir()
    flags, colours = [], []
    for code in _told_apart(seen):
        name = f"{code}.png"
        shutil.copyfile(files[code], out / "pictures" / name)
        flags.append({"file_name": name, "country": names[code], "code": code})
        for colour, answer in colours_in(seen[code]).items():
            question = f"Is there {colour} in the picture?"
            colours.append({"file_name": name, "question": question, "answer": answer, "colour": colour})
    write_csv(out / "flags.csv", flags)
    write_csv(out / "colours.csv", colours)
    return {"flags.csv": len(flags), "colours.csv": len(colours)}


def _countries(file: Path) -> dict[str, str]:
    """Code → name, from the time zone database's table."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return {code.lower(): name for code, _, name in (line.partition("\t") for line in lines)}


def _told_apart(seen: dict[str, Image.Image]) -> list[str]:
    """The codes of flags that no other looks like, and one of each group that has an owner."""
    small = {code: np.asarray(flag.resize((32, 24), Image.Resampling.BOX), float) for code, flag in seen.items()}
    kept = []
    for code, flag in small.items():
        alike = {other for other, its in small.items() if np.abs(flag - its).mean() < _SAME}
        if len(alike) == 1 or code in _OWNERS:
            kept.append(code)
    return kept


def colours_in(flag: Image.Image) -> dict[str, str]:
    """Colour → yes or no, by the share of pixels that have it; a colour of which there is a trace only is left out."""
    hue, saturation, value = np.moveaxis(np.asarray(flag.convert("HSV"), float) / 255, 2, 0)
    coloured = (saturation > _STRONG) & (value > _BRIGHT)
    found = {}
    for colour, (low, high) in _HUES.items():
        share = (coloured & ((hue * 360 - low) % 360 <= high - low)).mean()
        if share >= _YES or share < _NO:
            found[colour] = "yes" if share >= _YES else "no"
    return found
