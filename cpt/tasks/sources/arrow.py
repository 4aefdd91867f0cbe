"""Rows in Arrow files, which are mapped into memory: a row is read when it is asked for, a picture when it is seen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from cpt.common.stored_pictures import StoredPicture
from cpt.tasks.sources.base import Row, Rows

if TYPE_CHECKING:
    import datasets
    import pyarrow

_AT_ONCE = 1000  # rows whose text a pass over all rows holds at once
_INDEX_OF_PANDAS = "__index_level_"

Steps = tuple[str | int, ...]
Picture = Callable[[Steps], StoredPicture]
ReadPictures = Callable[["pyarrow.Scalar", Steps, Picture], Any]
"""From a value, where it is in its row, and what makes a picture of a place."""


@dataclass(frozen=True)
class RowPicture(StoredPicture):
    """A picture inside a row.

    Attributes:
        file: the Arrow file.
        row: of the file, from 0.
        steps: the column, then keys and numbers inside of its value.
        name: the row's place as its owner knows it, and the column.
    """

    file: str
    row: int
    steps: Steps
    name: str = field(compare=False)

    def read(self) -> bytes:
        """See `StoredPicture.read`."""
        found = _opened(self.file).scalar(self.row, str(self.steps[0]))
        for step in self.steps[1:]:
            found = found[step]
        content: bytes = found.as_py()
        return content


class ArrowRows(Rows):
    """Rows of what the `datasets` library has prepared.

    Args:
        prepared: all rows of one split, mapped into memory.
        files: what the user calls the files, and the rows in each; a single name if they are one after another.
        folder: see `Rows`.
    """

    def __init__(self, prepared: datasets.Dataset, files: Sequence[tuple[str, int]], folder: str = "") -> None:
        self._files = tuple(file["filename"] for file in prepared.cache_files)
        self._starts = tuple(accumulate((_opened(file).rows for file in self._files), initial=0))
        assert self._starts[-1] == len(prepared), "the rows are those of the files, all of them, in order"
        self._named, self.folder = tuple(files), folder
        self._named_starts = tuple(accumulate((rows for _, rows in files), initial=0))
        self.columns = tuple(name for name in prepared.column_names if not name.startswith(_INDEX_OF_PANDAS))
        self._classes = _classes(prepared.features)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, number: int) -> Row:
        """See `Rows`."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        file = bisect_right(self._starts, number) - 1
        row = number - self._starts[file]
        opened = _opened(self._files[file])
        return {name: self._value(opened, opened.scalar(row, name), number, file, row, name) for name in self.columns}

    def __iter__(self) -> Iterator[Row]:
        """See `Rows`."""
        for file, name in enumerate(self._files):
            opened = _opened(name)
            row = 0
            for batch in opened.batches:
                for start in range(0, len(batch), _AT_ONCE):
                    piece = batch.slice(start, _AT_ONCE)
                    yield from self._piece(opened, piece, self._starts[file] + row, file, row)
                    row += len(piece)

    def _piece(self, opened: _Opened, piece: pyarrow.RecordBatch, number: int, file: int, row: int) -> Iterator[Row]:
        """The rows of one batch, whose first is this number of all and this row of its file."""
        columns: dict[str, Sequence[Any]] = {}
        for name in self.columns:
            column = piece.column(name)
            if name in opened.pictured:
                columns[name] = [
                    self._value(opened, column[i], number + i, file, row + i, name) for i in range(len(piece))
                ]
            else:
                columns[name] = [self._plain(value, name) for value in column.to_pylist()]
        for i in range(len(piece)):
            yield {name: values[i] for name, values in columns.items()}

    def where(self, number: int) -> str:
        """See `Rows`."""
        file = bisect_right(self._named_starts, number) - 1
        return f"{self._named[file][0]}, row {number - self._named_starts[file] + 1}"

    def _value(self, opened: _Opened, scalar: pyarrow.Scalar, number: int, file: int, row: int, name: str) -> Any:
        read = opened.pictured.get(name)
        if read is None:
            return self._plain(scalar.as_py(), name)
        return read(scalar, (name,), lambda steps: self._picture(number, file, row, steps))

    def _picture(self, number: int, file: int, row: int, steps: Steps) -> RowPicture:
        column = ".".join(str(step + 1) if isinstance(step, int) else step for step in steps if step != "bytes")
        return RowPicture(self._files[file], row, steps, f"{self.where(number)}, column {column}")

    def _plain(self, value: Any, name: str) -> Any:
        classes = self._classes.get(name)
        if classes is None or value is None:
            return value
        named = [classes[one] if one is not None and 0 <= one < len(classes) else None for one in _listed(value)]
        return named if isinstance(value, list) else named[0]


@dataclass(frozen=True)
class _Opened:
    """An Arrow file in memory. What pyarrow makes anew at every look is kept: columns, and what is in them.

    Attributes:
        pictured: column → how its values are read, of the columns that hold pictures.
    """

    batches: tuple[pyarrow.RecordBatch, ...]
    starts: tuple[int, ...]
    pictured: Mapping[str, ReadPictures]
    _columns: dict[tuple[int, str], pyarrow.Array] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return self.starts[-1]

    def scalar(self, row: int, column: str) -> pyarrow.Scalar:
        batch = bisect_right(self.starts, row) - 1
        found = self._columns.get((batch, column))
        if found is None:
            found = self._columns[batch, column] = self.batches[batch].column(column)
        return found[row - self.starts[batch]]


@lru_cache(maxsize=512)
def _opened(file: str) -> _Opened:
    """An Arrow file, once per process. OSError if there is none, or it is none."""
    import pyarrow

    try:
        batches = tuple(pyarrow.ipc.open_stream(pyarrow.memory_map(file)))
    except pyarrow.ArrowInvalid as error:
        raise OSError(f"{file}: {error}") from error
    schema = batches[0].schema if batches else ()
    pictured = {found.name: _pictures_in(found.type) for found in schema if _holds_pictures(found.type)}
    return _Opened(batches, tuple(accumulate(map(len, batches), initial=0)), pictured)


def _classes(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Column → names of its classes, where numbers or lists of them stand for names."""
    import datasets

    kinds = {name: getattr(kind, "feature", kind) for name, kind in features.items()}
    return {name: list(kind.names) for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _holds_pictures(kind: pyarrow.DataType) -> bool:
    """Whether bytes are in there."""
    import pyarrow

    if _is_list(kind):
        return _holds_pictures(kind.value_type)
    if pyarrow.types.is_struct(kind):
        return any(_holds_pictures(kind.field(i).type) for i in range(kind.num_fields))
    return _is_bytes(kind)


def _is_list(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_bytes(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _pictures_in(kind: pyarrow.DataType) -> ReadPictures:
    """Reads values of a type: bytes, and structs of bytes and path, are pictures; one without bytes is its path."""
    if _is_bytes(kind):
        return lambda scalar, steps, picture: picture(steps) if scalar.is_valid else None
    if not _holds_pictures(kind):
        return lambda scalar, steps, picture: scalar.as_py()
    if _is_list(kind):
        one = _pictures_in(kind.value_type)

        def of_list(scalar: pyarrow.Scalar, steps: Steps, picture: Picture) -> Any:
            if not scalar.is_valid:
                return None
            return [one(scalar[i], (*steps, i), picture) for i in range(len(scalar))]

        return of_list
    inside = {found.name: _pictures_in(found.type) for found in kind}
    if "bytes" in inside and set(inside) <= {"bytes", "path"}:

        def of_file(scalar: pyarrow.Scalar, steps: Steps, picture: Picture) -> Any:
            if not scalar.is_valid:
                return None
            if scalar["bytes"].is_valid:
                return picture((*steps, "bytes"))
            return scalar["path"].as_py() if "path" in inside else None

        return of_file

    def of_struct(scalar: pyarrow.Scalar, steps: Steps, picture: Picture) -> Any:
        if not scalar.is_valid:
            return None
        return {name: read(scalar[name], (*steps, name), picture) for name, read in inside.items()}

    return of_struct
