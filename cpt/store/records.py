"""Records of evaluated samples as parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from cpt.common.digests import Digest
from cpt.common.files import atomic_path
from cpt.common.parquet import read_rows
from cpt.types import RIGHT, FinishReason, Record

REEVALUATE = "delete the DONE.json beside it and run the same command again"
FINISH_REASONS = get_args(FinishReason)
# Columns that earlier versions did not write, and what they called others.
LATER = ("question_id", "metric", "right_from", "group")
RENAMED = {"score": "strict"}


def write_records(path: Path, records: Sequence[Record]) -> None:
    """Write evaluated samples as parquet with a fixed schema; the same records give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([record.row() for record in records], schema=_schema())
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_records(path: Path, digest: Digest | None = None) -> list[Record]:
    """Read one records.parquet.

    Args:
        digest: that of the file which the run wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is truncated or not the one that was written, or its columns or values are wrong.
    """
    rows, _ = read_rows(path, _schema(), REEVALUATE, later=LATER, renamed=RENAMED, digest=digest)
    for number, row in enumerate(rows):
        for name in ("score", "tolerant"):
            if not 0 <= row[name] <= 1:
                raise ValueError(f"{path}, row {number}: {name} is {row[name]}, and scores are between 0 and 1")
        if not 0 < row.get("right_from", RIGHT) <= 1:
            raise ValueError(f"{path}, row {number}: right_from is {row['right_from']}, not above 0 and at most 1")
        if row["n_tokens"] < 0 or row["finish_reason"] not in FINISH_REASONS:
            raise ValueError(f"{path}, row {number}: {row['n_tokens']} tokens that end with {row['finish_reason']!r}")
    return [Record(**row) for row in rows]


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
