"""What a source of rows is: something that reads one row at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]
"""Column → plain value. A picture inside a row is a `cpt.common.stored_pictures.StoredPicture`, which is not read yet;
a picture that lies beside the rows is the text of its path."""


class Rows(ABC):
    """The rows of one split of one source, read when they are asked for. Picklable.

    Attributes:
        columns: names of the columns, in order.
        folder: what pictures' relative paths start from where the task names no folder; a text, "" for none.
    """

    columns: tuple[str, ...]
    folder: str = ""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, number: int) -> Row:
        """One row, from 0. Its pictures are not read."""

    def __iter__(self) -> Iterator[Row]:
        """All rows in order; without the bytes of their pictures, so that a pass over all of them is cheap."""
        return (self[number] for number in range(len(self)))

    @abstractmethod
    def where(self, number: int) -> str:
        """What messages call a row, as its owner would look for it: `train.jsonl, line 17`."""
