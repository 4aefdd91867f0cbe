"""What a folder of data holds: which splits, in which files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from glob import glob
from pathlib import Path

from cpt.common.keys import shortened
from cpt.tasks.sources.base import Rows
from cpt.tasks.sources.image_folder import METADATA, ClassFolders, DescribedPictures, is_picture, pictures_below
from cpt.tasks.sources.prepared import parquet_rows, saved_rows
from cpt.tasks.sources.text_files import PLAIN, SUFFIXES, TextRows

Splits = Mapping[str, Callable[[], Rows]]
"""Name of a split → opens it, or raises a ValueError that says why that can't be done. "" are rows without splits."""

_DATA = (*SUFFIXES, ".parquet")
_NO_DATA = ("dataset_info.json", "dataset_infos.json", "state.json", "dataset_dict.json")
_WORDS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
}  # fmt: skip
_SHARD = re.compile(r"(?P<name>.*?)[-_.]?(?P<number>\d{1,5})(-of-\d{1,5})?(-[0-9a-f]{16})?(?P<kind>\.\w+)")


def split_called(name: str) -> str | None:
    """Which of train, test and validation a file, folder or value is called after, as on the Hub: `test-00000`."""
    words = (_WORDS.get(word) for word in re.split(r"[-._ \d]+", name.lower()))
    return next((word for word in words if word is not None), None)


def rows_at(path: Path) -> Rows:
    """The rows of a file, of all files that a pattern fits, or of a folder without splits.

    Raises:
        ValueError: there is nothing, or it can't be read.
    """
    if path.is_dir():
        splits = splits_of(path)
        if len(splits) > 1:
            raise ValueError(f"{path} has splits of its own ({', '.join(splits)}); name one of them")
        return next(iter(splits.values()))()
    return _rows_of(matching(path) or [path])


def matching(path: Path) -> list[Path]:
    """The file or folder of this path, else those that it fits as a pattern, in order."""
    return [path] if path.exists() else [Path(name) for name in sorted(glob(str(path), recursive=True))]


def splits_of(folder: Path) -> Splits:
    """What is in a folder. ValueError if it is nothing that is known."""
    if (folder / "dataset_dict.json").is_file():
        return {name: partial(saved_rows, folder / name) for name in _saved_splits(folder)}
    if (folder / "state.json").is_file():
        return {"": partial(saved_rows, folder)}
    described = [folder / name for name in METADATA if (folder / name).is_file()]
    if described:
        return {"": lambda: DescribedPictures(_rows_of(described))}
    here = folder / "data" if not _data_files(folder) and _data_files(folder / "data") else folder
    files = _data_files(here)
    return _by_name(here, files) if files else _in_subfolders(folder)


def _rows_of(files: Sequence[Path]) -> Rows:
    kinds = {file.suffix.lower() for file in files}
    for file in files:
        if file.exists() and not file.is_file():  # a pipe would be waited for, a device never ends
            raise ValueError(f"{file} is no file" + (" but a folder" if file.is_dir() else ""))
    gone = next((file for file in files if not file.exists()), None)
    if gone is not None:
        there = [other.name for other in gone.parent.iterdir()] if gone.parent.is_dir() else []
        near = get_close_matches(gone.name, there, n=1)
        raise ValueError(f"{gone}: there is no such file or folder" + (f"; did you mean {near[0]!r}?" if near else ""))
    if kinds == {".parquet"}:
        return parquet_rows(files)
    if kinds <= set(SUFFIXES) or kinds == {PLAIN}:
        return TextRows(files)
    known = (*_DATA, PLAIN)
    strange = next((file for file in files if file.suffix.lower() not in known), None)
    if strange is None:
        raise ValueError(f"{files[0]} and others beside it are of several kinds; name files of one kind")
    raise ValueError(f"{strange} is of no kind that can be read ({', '.join(known)})")


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in _DATA
        and file.name not in _NO_DATA
        and not file.name.startswith(".")
        and file.is_file()
    )


def _by_name(folder: Path, files: Sequence[Path]) -> Splits:
    """Files are called after their splits, or all are one."""
    groups: dict[str, list[Path]] = {}
    for file in files:
        groups.setdefault(split_called(file.stem) or "", []).append(file)
    if len(groups) > 1:
        groups.pop("", None)  # what lies beside files of splits
    return {split: _one(folder, found) for split, found in groups.items()}


def _one(folder: Path, files: Sequence[Path]) -> Callable[[], Rows]:
    """Opens files that are pieces of one: a single one, or some numbered from 0 or 1."""
    pieces = [_SHARD.fullmatch(file.name) for file in files]
    numbers = sorted(int(piece["number"]) for piece in pieces if piece)
    same = len({(piece["name"], piece["kind"]) if piece else None for piece in pieces}) == 1
    if len(files) == 1 or (same and numbers in (list(range(len(files))), list(range(1, len(files) + 1)))):
        return partial(_rows_of, files)

    def refuse() -> Rows:
        names = shortened(", ".join(file.name for file in files), 200)
        raise ValueError(f"{folder} holds several files ({names}); write which is meant as data.train or data.test")

    return refuse


def _in_subfolders(folder: Path) -> Splits:
    """Subfolders that are called after splits, or pictures in folders."""
    inside = sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))
    named = {split_called(sub.name): sub for sub in inside if sub.name.lower() in _WORDS}
    if named and len(named) == len(inside):
        return {str(split): partial(rows_at, sub) for split, sub in named.items()}
    holding = shortened(", ".join(sub.name for sub in inside if _data_files(sub)), 200)
    if holding:
        raise ValueError(f"{folder} has folders with data ({holding}): name one as path, or files as data.train")
    if any(is_picture(file.name) for file in folder.iterdir()) or pictures_below(folder):
        return {"": partial(ClassFolders, folder)}
    known = shortened(", ".join(sub.name for sub in inside), 200)
    raise ValueError(
        f"{folder} holds no data: no {', '.join(_DATA)}, no pictures, nothing that save_to_disk wrote"
        + (f"; of its folders ({known}) name one" if inside else "")
    )


def _saved_splits(folder: Path) -> list[str]:
    try:
        return [str(name) for name in json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'dataset_dict.json'}: not what save_to_disk writes ({error})") from error
