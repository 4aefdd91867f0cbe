"""A task's data, opened: the rows of each source and split, and how a row of them is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from cpt.common.files import expanded
from cpt.tasks.definition import Data, TaskDefinition
from cpt.tasks.rows import Fields, Layout, layout_of
from cpt.tasks.rows.columns import found as columns_of
from cpt.tasks.rows.unread import unread_pictures
from cpt.tasks.sources import Row, Rows, open_rows
from cpt.tasks.sources.answers import AnsweredRows

DataSplit = Literal["train", "test"]


@dataclass(frozen=True)
class Part:
    """One source's rows of one split.

    Attributes:
        split: what its rows are for; None where each row's hash decides.
        read: one row by its layout.
    """

    data: Data
    split: DataSplit | None
    rows: Rows
    read: Layout

    @cached_property
    def folder(self) -> str:
        """What relative paths of pictures start from."""
        if self.data.images is None:
            return self.rows.folder
        return str(Path(self.data.root or ".") / expanded(self.data.images))

    def fields(self, row: Row) -> Fields:
        """What one of its rows says. ValueError, without the row's place, where it can't be read."""
        try:
            return self.read(row)
        except RecursionError as error:
            raise ValueError("its values are nested too deep") from error


def opened_parts(definition: TaskDefinition, asks: bool) -> tuple[Part, ...]:
    """All sources of a task, in order.

    Args:
        asks: whether rows need a question.

    Raises:
        ValueError: data can't be opened, a column is missing or pictures are not read; the task is named.
    """
    assert definition.data is not None
    data = definition.data.parts
    try:
        found = tuple(part for one in data for part in _opened(one, data, definition, asks))
    except ValueError as error:
        raise ValueError(f"task {definition.name}: {error}") from error
    except OSError as error:  # a name too long, a folder that may not be read
        raise ValueError(f"task {definition.name}: {error.filename}: {error.strerror}") from error
    if not found:
        raise ValueError(f"task {definition.name}: the data have no rows")
    return found


def _opened(data: Data, among: list[Data], definition: TaskDefinition, asks: bool) -> Iterator[Part]:
    train, test = open_rows(data, "train"), open_rows(data, "test")
    if test is not None and data.answers_from is not None:
        test = AnsweredRows(test, data.answers_from, Path(data.root or "."))
    whole = open_rows(data, "all") if train is None and test is None else None
    cut = test is None and all(one.test is None for one in among)
    parts: list[tuple[Rows | None, DataSplit | None]] = [
        (train, None if cut else "train"),
        (test, "test"),
        (whole, None),
    ]
    for rows, split in parts:
        if rows is not None and len(rows):
            columns_of("group", data.columns, rows.columns)  # it is there, if one is named
            first = rows[0]
            part = Part(data, split, rows, layout_of(data, rows.columns, first, asks))
            if definition.filter.get("images") is not False:
                _check_pictures(part, first)
            yield part


def _check_pictures(part: Part, first: Row) -> None:
    """ValueError if the first row has pictures that nothing reads."""
    try:
        fields = part.fields(first)
    except ValueError:
        return  # the row is told with the others
    if name := unread_pictures(first, fields):
        raise ValueError(
            f"{part.rows.where(0)}: the column {name!r} has pictures and is not read: write data.columns.images: "
            f"{name}, or filter: {{images: false}}"
        )
