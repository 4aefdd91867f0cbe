"""Rows in JSON, JSONL and CSV files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.tasks.sources.base import Row, Rows


class TextRows(Rows):
    """Rows of text files of one kind, one file after another."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._rows: list[tuple[Row, str]] = [(row, where) for file in files for row, where in _read(file)]
        self.columns = tuple(dict.fromkeys(name for row, _ in self._rows for name in row))
        self.folder = str(self.files[0].parent)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Row:
        """See `Rows`."""
        return self._rows[number][0]

    def where(self, number: int) -> str:
        """See `Rows`."""
        return self._rows[number][1]


def _read(file: Path) -> list[tuple[dict[str, Any], str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            if file.suffix == ".csv":
                return [(row, f"{file.name}, row {n}") for n, row in enumerate(csv.DictReader(text), start=1)]
            if file.suffix == ".jsonl":
                return [(json.loads(line), f"{file.name}, line {n}") for n, line in enumerate(text, 1) if line.strip()]
            return [(row, f"{file.name}, row {n}") for n, row in enumerate(json.load(text), start=1)]
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror}") from error
