"""The rows of metrics.jsonl as the driver reads them and as a resumed stage corrects them."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from cpt.common.files import SUM, write_text_atomic


class MetricsTail:
    """Reads the rows that a growing metrics.jsonl has gained, also across its replacement by a resumed stage."""

    def __init__(self, path: Path) -> None:
        self.path, self.last_step = path, 0
        self._file, self._offset = 0, 0
        self._seen: set[bytes] = set()

    def read(self) -> list[dict[str, Any]]:
        """Whole new rows since the last call, in order; rows that a replaced file has kept are not new."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as handle:
            file = os.fstat(handle.fileno()).st_ino
            if file != self._file:
                self._file, self._offset = file, 0
            handle.seek(self._offset)
            text = handle.read()
        text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        lines = [line for line in text.splitlines() if _step(line) < math.inf and line not in self._seen]
        self._seen.update(lines)
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        for row in rows:
            row.pop(SUM, None)
        if rows:
            self.last_step = rows[-1]["step"]
        return rows


def keep_until(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed stage writes again, and one that a kill cut off; atomic."""
    if path.exists():
        lines = path.read_bytes().splitlines()
        kept = b"".join(line + b"\n" for line in lines if _step(line) <= step)
        write_text_atomic(path, kept.decode("utf-8"))


def _step(line: bytes) -> float:
    """The line's step; infinite for a line that is none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf
