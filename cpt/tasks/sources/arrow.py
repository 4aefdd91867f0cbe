"""Rows in Arrow files, which are mapped into memory: a row is read when it is asked for, a picture when it is seen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
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
        opened = _opened(self.file)
        found = opened.scalar(self.row, str(self.steps[0]))
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
        return {name: self._value(opened.scalar(row, name), number, file, row, name) for name in self.columns}

    def __iter__(self) -> Iterator[Row]:
        """See `Rows`."""
        for file, name in enumerate(self._files):
            row = 0
            for batch in _opened(name).batches:
                for start in range(0, len(batch), _AT_ONCE):
                    piece = batch.slice(start, _AT_ONCE)
                    yield from self._piece(piece, self._starts[file] + row, file, row)
                    row += len(piece)

    def _piece(self, piece: pyarrow.RecordBatch, number: int, file: int, row: int) -> Iterator[Row]:
        """The rows of one batch, whose first is this number of all and this row of its file."""
        columns: dict[str, Sequence[Any]] = {}
        for name in self.columns:
            column = piece.column(name)
            if _holds_pictures(column.type):
                columns[name] = [self._value(column[i], number + i, file, row + i, name) for i in range(len(piece))]
            else:
                columns[name] = [self._plain(value, name) for value in column.to_pylist()]
        for i in range(len(piece)):
            yield {name: values[i] for name, values in columns.items()}

    def where(self, number: int) -> str:
        """See `Rows`."""
        file = bisect_right(self._named_starts, number) - 1
        return f"{self._named[file][0]}, row {number - self._named_starts[file] + 1}"

    def _value(self, scalar: pyarrow.Scalar, number: int, file: int, row: int, name: str) -> Any:
        if not _holds_pictures(scalar.type):
            return self._plain(scalar.as_py(), name)
        return _with_pictures(scalar, (name,), lambda steps: self._picture(number, file, row, steps))

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
    batches: tuple[pyarrow.RecordBatch, ...]
    starts: tuple[int, ...]

    @property
    def rows(self) -> int:
        return self.starts[-1]

    def scalar(self, row: int, column: str) -> pyarrow.Scalar:
        batch = bisect_right(self.starts, row) - 1
        return self.batches[batch].column(column)[row - self.starts[batch]]


@lru_cache(maxsize=512)
def _opened(file: str) -> _Opened:
    """An Arrow file, once per process. OSError if there is none, or it is none."""
    import pyarrow

    try:
        batches = tuple(pyarrow.ipc.open_stream(pyarrow.memory_map(file)))
    except pyarrow.ArrowInvalid as error:
        raise OSError(f"{file}: {error}") from error
    return _Opened(batches, tuple(accumulate(map(len, batches), initial=0)))


def _classes(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Column → names of its classes, where numbers or lists of them stand for names."""
    import datasets

    kinds = {name: getattr(kind, "feature", kind) for name, kind in features.items()}
    return {name: list(kind.names) for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@lru_cache(maxsize=4096)
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


def _with_pictures(scalar: pyarrow.Scalar, steps: Steps, picture: Any) -> Any:
    """A value in which bytes, and structs of bytes and path, are pictures; a struct without bytes is its path."""
    if not scalar.is_valid:
        return None
    if _is_bytes(scalar.type):
        return picture(steps)
    if _is_list(scalar.type):
        return [_with_pictures(scalar[i], (*steps, i), picture) for i in range(len(scalar))]
    if not _holds_pictures(scalar.type):
        return scalar.as_py()
    names = [kind.name for kind in scalar.type]
    if "bytes" in names and set(names) <= {"bytes", "path"}:
        return (
            picture((*steps, "bytes"))
            if scalar["bytes"].is_valid
            else scalar["path"].as_py()
            if "path" in names
            else None
        )
    return {name: _with_pictures(scalar[name], (*steps, name), picture) for name in names}
