"""Pictures in folders: named after what they show, or described by a metadata file beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cpt.tasks.sources.base import Row, Rows

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


class ClassFolders(Rows):
    """A row for every picture below a folder: `image`, its path, and `label`, the name of the folder it lies in.

    Without folders inside the folder there is no `label`; of a picture that lies beside such folders it is None.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self._pictures = pictures_below(folder)
        if not self._pictures:
            raise ValueError(f"{folder}: there are no pictures in it ({', '.join(PICTURES)})")
        self.columns = ("image", "label") if any(os.sep in picture for picture in self._pictures) else ("image",)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, number: int) -> Row:
        """See `Rows`."""
        picture = self._pictures[number]
        row = {"image": picture, "label": os.path.basename(os.path.dirname(picture)) or None}
        return {name: row[name] for name in self.columns}

    def where(self, number: int) -> str:
        """See `Rows`."""
        return self._pictures[number]


class DescribedPictures(Rows):
    """Rows of a metadata file, whose `file_name` is called `image` and `x_file_name` `x`, as `datasets` does;
    `file_names` is called `images` and `x_file_names` `x`."""

    def __init__(self, described: Rows) -> None:
        self._described, self.folder = described, described.folder
        self._names = {name: _role(name) for name in described.columns}
        self.columns = tuple(self._names.values())
        if self.columns == described.columns:
            raise ValueError(
                f"{described.where(0)}: no column of the metadata is called file_name (or file_names, x_file_name); "
                f"there are {', '.join(described.columns)}"
            )

    def __len__(self) -> int:
        return len(self._described)

    def __getitem__(self, number: int) -> Row:
        """See `Rows`."""
        return self._renamed(self._described[number])

    def __iter__(self) -> Iterator[Row]:
        """See `Rows`."""
        return map(self._renamed, self._described)

    def where(self, number: int) -> str:
        """See `Rows`."""
        return self._described.where(number)

    def _renamed(self, row: Row) -> Row:
        return {self._names[name]: value for name, value in row.items()}


def _role(column: str) -> str:
    for ending, plain in (("file_name", "image"), ("file_names", "images")):
        if column == ending:
            return plain
        if column.endswith("_" + ending):
            return column[: -len(ending) - 1]
    return column


def pictures_below(folder: Path) -> list[str]:
    """Paths from the folder of all pictures below it, in order; nothing that is hidden."""
    found, seen = [], set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        names = [] if real in seen else [name for name in files if is_picture(name)]
        seen.add(real)
        found += [os.path.relpath(os.path.join(here, name), folder) for name in names]
    return sorted(found)


def is_picture(name: str) -> bool:
    """Whether a file's name is a picture's, and not hidden."""
    return name.lower().endswith(PICTURES) and not name.startswith(".")
