"""Rows in JSON, JSON lines, CSV and plain text files: their places are remembered, and each is read when needed."""

from __future__ import annotations

import csv
import io
import json
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from cpt.tasks.sources.base import Row, Rows
from cpt.tasks.sources.json_spans import kind_of, rows_in_json

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv")
PLAIN = ".txt"
"""A row for each line that is not blank, with the column `text`; as `datasets` reads it."""
_LINES = (".jsonl", ".ndjson")
_BOM = b"\xef\xbb\xbf"
csv.field_size_limit(2**31 - 1)  # a field of a row may be a page of text


@dataclass
class _File:
    """Where the rows of one file are, in bytes.

    Attributes:
        header: the columns of a CSV file, whose rows have no names of their own.
        ids: the rows' keys, of a JSON file that is a mapping of rows.
        numbers: of the line where each row begins; of a JSON file, where `is_lines` is false, of the row.
        stamp: size and time of change of the file when it was opened.
    """

    path: Path
    starts: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    numbers: array[int] = field(default_factory=lambda: array("q"))
    columns: dict[str, None] = field(default_factory=dict)
    header: list[str] | None = None
    delimiter: str = ","
    ids: list[str] | None = None
    stamp: tuple[int, int] = (0, 0)
    is_lines: bool = True

    def add(self, start: int, end: int, number: int) -> None:
        self.starts.append(start)
        self.ends.append(end)
        self.numbers.append(number)

    def row(self, row: int, content: bytes) -> Row:
        text = content.decode()
        if self.path.suffix.lower() == PLAIN:
            return {"text": text.rstrip("\r\n")}
        if self.header is not None:
            fields = next(csv.reader(io.StringIO(text, newline=""), delimiter=self.delimiter))
            return dict(zip(self.header, fields, strict=True))
        found: dict[str, Any] = json.loads(text)
        return found if self.ids is None else {"id": self.ids[row], **found}


class TextRows(Rows):
    """Rows of text files, one file after another.

    Raises:
        ValueError: a file is missing or damaged; file and line in one message.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [_indexed(file) for file in files]
        self._firsts = tuple(accumulate((len(file.starts) for file in self._files), initial=0))
        self.columns = tuple(dict.fromkeys(name for file in self._files for name in file.columns))
        self.folder = str(files[0].parent)

    def __len__(self) -> int:
        return self._firsts[-1]

    def __getitem__(self, number: int) -> Row:
        """See `Rows`."""
        file, row = self._place(number)
        with _open(file) as opened:
            return _row(file, row, opened)

    def __iter__(self) -> Iterator[Row]:
        """See `Rows`."""
        for file in self._files:
            with _open(file) as opened:
                for row in range(len(file.starts)):
                    yield _row(file, row, opened)

    def where(self, number: int) -> str:
        """See `Rows`."""
        file, row = self._place(number)
        return f"{file.path.name}, {'line' if file.is_lines else 'row'} {file.numbers[row]}"

    def _place(self, number: int) -> tuple[_File, int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        file = bisect_right(self._firsts, number) - 1
        return self._files[file], number - self._firsts[file]


def _open(file: _File) -> io.BufferedReader:
    opened = file.path.open("rb")
    found = os.fstat(opened.fileno())
    if (found.st_size, found.st_mtime_ns) != file.stamp:
        opened.close()
        raise ValueError(f"{file.path} has changed since it was opened; run the same command again")
    return opened


def _row(file: _File, row: int, opened: io.BufferedReader) -> Row:
    opened.seek(file.starts[row])
    return file.row(row, opened.read(file.ends[row] - file.starts[row]))


def _indexed(path: Path) -> _File:
    found = _File(path)
    try:
        with path.open("rb") as opened:
            status = os.fstat(opened.fileno())
            found.stamp = status.st_size, status.st_mtime_ns
            begin = len(_BOM) if opened.read(len(_BOM)) == _BOM else 0
            opened.seek(begin)
            found.is_lines = path.suffix.lower() != ".json"
            if path.suffix.lower() == PLAIN:
                _index_plain(found, opened, begin)
            elif path.suffix.lower() in _LINES:
                _index_lines(found, opened, begin)
            elif path.suffix.lower() == ".json":
                _index_json(found, opened, begin)
            else:
                _index_csv(found, opened, begin)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text in UTF-8 ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    if not found.starts:
        raise ValueError(f"{path}: there are no rows in it")
    return found


def _index_plain(found: _File, opened: io.BufferedReader, at: int) -> None:
    found.columns = {"text": None}
    for number, line in enumerate(opened, start=1):
        if line.decode().strip():
            found.add(at, at + len(line), number)
        at += len(line)


def _index_lines(found: _File, opened: io.BufferedReader, at: int) -> None:
    for number, line in enumerate(opened, start=1):
        if line.strip():
            _note(found, _parsed(line.decode(), f"{found.path}, line {number}"), f"line {number}")
            found.add(at, at + len(line), number)
        at += len(line)


def _index_json(found: _File, opened: io.BufferedReader, begin: int) -> None:
    text = opened.read().decode()
    try:
        spans = rows_in_json(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1:  # JSON lines that are called .json
            opened.seek(begin)
            found.is_lines = True
            return _index_lines(found, opened, begin)
        raise ValueError(f"{found.path}, line {error.lineno}: no JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{found.path}: {error}") from error
    found.columns = spans.columns
    if spans.keys and "id" not in spans.columns:
        found.ids, found.columns = spans.keys, {"id": None, **spans.columns}
    at, byte = 0, begin
    for number, (start, end) in enumerate(spans.places, start=1):
        byte += len(text[at:start].encode())
        at, length = end, len(text[start:end].encode())
        found.add(byte, byte + length, number)
        byte += length
    return None


def _index_csv(found: _File, opened: io.BufferedReader, begin: int) -> None:
    found.delimiter = _delimiter(found.path, opened.readline().decode())
    opened.seek(begin)
    lines = _Lines(opened, begin)
    reader = csv.reader(lines, delimiter=found.delimiter, strict=True)
    while True:
        start, number = lines.at, lines.number + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{found.path}, line {number}: no CSV ({error})") from error
        if fields is None:
            return
        if found.header is None:
            found.header = _header(found.path, fields)
            found.columns = dict.fromkeys(found.header)
        elif fields:
            if len(fields) != len(found.header):
                raise ValueError(
                    f"{found.path}, line {number}: {len(fields)} fields where the header has {len(found.header)}; "
                    f"a text with {found.delimiter!r} or a line break in it stands in double quotes"
                )
            found.add(start, lines.at, number)


class _Lines:
    """Lines as text, and how far they go: `at` in bytes, `number` in lines."""

    def __init__(self, opened: io.BufferedReader, at: int) -> None:
        self.opened, self.at, self.number = opened, at, 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self.opened)
        self.at += len(line)
        self.number += 1
        return line.decode()


def _delimiter(path: Path, header: str) -> str:
    """A comma, unless there is none in the header but semicolons (as spreadsheets write in half of Europe) or tabs."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    return next((mark for mark in (",", ";", "\t") if mark in header), ",")


def _header(path: Path, fields: list[str]) -> list[str]:
    names = [name.strip() or f"column {number}" for number, name in enumerate(fields, start=1)]
    double = [name for name in names if names.count(name) > 1]
    if double:
        raise ValueError(f"{path}, line 1: two columns are called {double[0]!r}; give each a name of its own")
    return names


def _note(found: _File, value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{found.path}, {where}: a row is {kind_of(value)}, not a mapping of columns")
    found.columns.update(dict.fromkeys(value))


def _parsed(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        told = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise ValueError(f"{where}: no JSON ({told})") from error
