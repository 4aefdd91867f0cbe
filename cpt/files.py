"""Files that survive a kill: whole or absent, never half written. JSON, JSON lines and parquet records."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpt.types import Record


def fsync_dir(folder: Path) -> None:
    """Make a rename inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that replaces it if the block ends without an exception, else is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        fsync_dir(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text_atomic(path: Path, text: str) -> None:
    """Write UTF-8 text; a reader sees the old file or the new one."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: Path, value: Any) -> None:
    """Write indented JSON; NaN and infinities become null, because strict readers refuse them."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomic(path, text + "\n")


def read_json(path: Path) -> Any:
    """Parse a JSON file. ValueError that names the file if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: damaged JSON ({error}); delete the file and run the same command again") from error


def append_jsonl(path: Path, row: Mapping[str, Any]) -> None:
    """Append one line. If a kill cut the previous line off, the new one still starts on a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(_finite(dict(row)), ensure_ascii=False, allow_nan=False)
    with path.open("ab+") as handle:
        if handle.seek(0, os.SEEK_END) > 0:
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                line = "\n" + line
        handle.write(line.encode("utf-8") + b"\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All whole rows of a file, in order; [] if there is no file. Lines that a kill cut off are left out."""
    if not path.exists():
        return []
    rows = []
    # Not splitlines(), for which some characters that JSON leaves as they are end a line.
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write evaluated samples as parquet with a fixed schema; the same records give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([record.row() for record in records], schema=_schema())
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_records(path: Path) -> list[Record]:
    """Read one records.parquet.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is truncated or has other columns than this version of cpt writes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(path)
    advice = "delete the DONE.json beside it and run the same command again"
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a whole parquet file, perhaps truncated; {advice}") from error
    known = [name for name in _schema().names if name in table.column_names]
    missing = [name for name in _schema().names if name not in (*known, "question_id")]  # which came later
    if missing:
        raise ValueError(f"{path}: columns missing: {', '.join(missing)}; written by another version of cpt")
    return [Record(**row) for row in table.select(known).to_pylist()]


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("arm", pa.string(), nullable=False),
            pa.field("seed", pa.int32(), nullable=False),
            pa.field("stage", pa.int32(), nullable=False),
            pa.field("task", pa.string(), nullable=False),
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("prompt", pa.string(), nullable=False),
            pa.field("completion", pa.string(), nullable=False),
            pa.field("finish_reason", pa.string(), nullable=False),
            pa.field("extracted", pa.string(), nullable=False),
            pa.field("gold", pa.list_(pa.string()), nullable=False),
            pa.field("strict", pa.float64(), nullable=False),
            pa.field("tolerant", pa.float64(), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("question_id", pa.string(), nullable=False),
        ]
    )


def _finite(value: Any) -> Any:
    """`value` with every NaN or infinite float replaced by None, numpy scalars by Python ones, paths by text."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
