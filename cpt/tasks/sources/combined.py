"""Rows of several sources as one, and some of a source's rows."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate, chain

from cpt.tasks.sources.base import Row, Rows


class JoinedRows(Rows):
    """One source after another; `folder` is the first one's."""

    def __init__(self, parts: Sequence[Rows]) -> None:
        self._parts = tuple(parts)
        self._firsts = tuple(accumulate(map(len, parts), initial=0))
        self.columns = tuple(dict.fromkeys(name for part in parts for name in part.columns))
        self.folder = parts[0].folder

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, number: int) -> Row:
        """See `Rows`."""
        part, row = self._place(number)
        return part[row]

    def __iter__(self) -> Iterator[Row]:
        """See `Rows`."""
        return chain.from_iterable(self._parts)

    def where(self, number: int) -> str:
        """See `Rows`."""
        part, row = self._place(number)
        return part.where(row)

    def _place(self, number: int) -> tuple[Rows, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        part = bisect_right(self._firsts, number) - 1
        return self._parts[part], number - self._firsts[part]


class RowsWith(Rows):
    """The rows whose column has one of these values."""

    def __init__(self, rows: Rows, column: str, values: Collection[str]) -> None:
        self._rows, self.columns, self.folder = rows, rows.columns, rows.folder
        self._numbers = array("q", (number for number, row in enumerate(rows) if str(row.get(column)) in values))

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: int) -> Row:
        """See `Rows`."""
        return self._rows[self._place(number)]

    def __iter__(self) -> Iterator[Row]:
        """See `Rows`."""
        chosen = iter(self._numbers)
        following = next(chosen, None)
        for number, row in enumerate(self._rows):
            if number == following:
                yield row
                following = next(chosen, None)

    def where(self, number: int) -> str:
        """See `Rows`."""
        return self._rows.where(self._place(number))

    def _place(self, number: int) -> int:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._numbers[number]
