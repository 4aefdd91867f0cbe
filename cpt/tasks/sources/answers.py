"""Test rows whose accepted answers lie in a file of their own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.common.keys import nearest
from cpt.tasks.definition import AnswersFrom
from cpt.tasks.sources.base import Row, Rows

COLUMN = "answer"


class AnsweredRows(Rows):
    """Rows whose column `answer` is the list of answers that another file has for them.

    A row that the file does not know has none, and is counted as unusable.

    Args:
        root: what the file's path starts from.

    Raises:
        ValueError: the file can't be read, is no JSON list of objects with these keys, or the rows lack `row`.
    """

    def __init__(self, rows: Rows, asked: AnswersFrom, root: Path) -> None:
        if asked.row is not None and asked.row not in rows.columns:
            raise ValueError(f"answers_from.row: there is no column {asked.row!r}{nearest(asked.row, rows.columns)}")
        self._rows, self._row, self.folder = rows, asked.row, rows.folder
        self.columns = tuple(dict.fromkeys((*rows.columns, COLUMN)))
        self._answers = _read(root / asked.file, asked)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> Row:
        """See `Rows`."""
        return self._answered(number, self._rows[number])

    def __iter__(self) -> Iterator[Row]:
        """See `Rows`."""
        return (self._answered(number, row) for number, row in enumerate(self._rows))

    def where(self, number: int) -> str:
        """See `Rows`."""
        return self._rows.where(number)

    def _answered(self, number: int, row: Row) -> Row:
        key = number + 1 if self._row is None else row.get(self._row)
        return {**row, COLUMN: self._answers.get(str(key), [])}


def _read(file: Path, asked: AnswersFrom) -> dict[str, list[str]]:
    """Answers by key, in the file's order."""
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror} (data.answers_from)") from error
    except ValueError as error:
        raise ValueError(f"{file}: no JSON ({error})") from error
    if asked.list is not None:
        if not isinstance(content, dict) or asked.list not in content:
            raise ValueError(f"{file}: there is no key {asked.list!r} (data.answers_from.list)")
        content = content[asked.list]
    if not isinstance(content, list):
        raise ValueError(f"{file}: no list; name its key under data.answers_from.list")
    found: dict[str, list[str]] = defaultdict(list)
    for number, one in enumerate(content, start=1):
        for name in (asked.key, asked.answer):
            if not isinstance(one, dict) or name not in one:
                raise ValueError(f"{file}, number {number}: there is no key {name!r} (data.answers_from)")
        answers: Any = one[asked.answer]
        found[str(one[asked.key])] += map(str, answers if isinstance(answers, list) else [answers])
    return dict(found)
