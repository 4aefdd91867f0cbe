"""Records of evaluated samples as parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from cpt.common.digests import Digest
from cpt.common.files import atomic_path
from cpt.common.parquet import read_rows
from cpt.types import RIGHT, FinishReason, Record

REEVALUATE = "delete the DONE.json beside it and run the same command again"
RETRAIN = "delete the stage's folder, and the same command trains it again"
FINISH_REASONS = get_args(FinishReason)
# Columns that earlier versions did not write, and what they called others.
LATER = ("question_id", "metric", "right_from", "group")
RENAMED = {"score": "strict"}


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write evaluated samples as parquet with a fixed schema; the same records give the same bytes."""
    import pyarrow as pa

    _write(path, pa.Table.from_pylist([record.row() for record in records], schema=_schema()))


def _write(path: Path, table: Any) -> None:
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_steps(path: Path, found: Mapping[int, Sequence[Record]]) -> None:
    """Write what a policy in training was evaluated to, by optimizer step; the same records give the same bytes."""
    import pyarrow as pa

    rows = [{"step": step, **record.row()} for step, records in found.items() for record in records]
    _write(path, pa.Table.from_pylist(rows, schema=_schema().insert(0, pa.field("step", pa.int32(), nullable=False))))


def read_steps(path: Path, digest: Digest | None = None) -> dict[int, list[Record]]:
    """What `write_steps` wrote, the steps in order. Raises as `read_records`."""
    import pyarrow as pa

    schema = _schema().insert(0, pa.field("step", pa.int32(), nullable=False))
    rows, _ = read_rows(path, schema, RETRAIN, later=LATER, digest=digest)
    _check(path, rows)
    found: dict[int, list[Record]] = {}
    for row in rows:
        found.setdefault(row.pop("step"), []).append(Record(**row))
    return dict(sorted(found.items()))


def read_records(path: Path, digest: Digest | None = None, advice: str = REEVALUATE) -> list[Record]:
    """Read one records.parquet.

    Args:
        digest: that of the file which the run wrote.
        advice: what to do about a damaged file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is truncated or not the one that was written, or its columns or values are wrong.
    """
    rows, _ = read_rows(path, _schema(), advice, later=LATER, renamed=RENAMED, digest=digest)
    _check(path, rows)
    return [Record(**row) for row in rows]


def _check(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """ValueError for a value that no evaluation gives."""
    for number, row in enumerate(rows):
        for name in ("score", "tolerant"):
            if not 0 <= row[name] <= 1:
                raise ValueError(f"{path}, row {number}: {name} is {row[name]}, and scores are between 0 and 1")
        if not 0 < row.get("right_from", RIGHT) <= 1:
            raise ValueError(f"{path}, row {number}: right_from is {row['right_from']}, not above 0 and at most 1")
        if row["n_tokens"] < 0 or row["finish_reason"] not in FINISH_REASONS:
            raise ValueError(f"{path}, row {number}: {row['n_tokens']} tokens that end with {row['finish_reason']!r}")


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
            pa.field("score", pa.float64(), nullable=False),
            pa.field("tolerant", pa.float64(), nullable=False),
            pa.field("n_tokens", pa.int32(), nullable=False),
            pa.field("question_id", pa.string(), nullable=False),
            pa.field("metric", pa.string(), nullable=False),
            pa.field("right_from", pa.float64(), nullable=False),
            pa.field("group", pa.string(), nullable=False),
        ]
    )
