"""Reading parquet files of ours: the ones that were written, whole, with the columns that they had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt.common.digests import Digest, bytes_digest, open_regular


def read_rows(
    path: Path,
    schema: Any,
    advice: str,
    *,
    later: Sequence[str] = (),
    renamed: Mapping[str, str] | None = None,
    digest: Digest | None = None,
) -> tuple[list[dict[str, Any]], dict[bytes, bytes]]:
    """The rows of a parquet file of ours, and what its schema says of them.

    Args:
        schema: what its columns must be; one whose numbers have another width is the same.
        later: columns that earlier versions did not write.
        renamed: columns that earlier versions called otherwise → by which name.
        digest: of the file that the run wrote.
        advice: what to do about a damaged file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not the one that was written, not whole, or has other columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise FileNotFoundError(path)
    with open_regular(path) as handle:
        content = handle.read()
    # First of all: what is damaged may bring the reader itself down.
    if digest is not None and (len(content), bytes_digest(content)) != (digest["bytes"], digest["blake2b"]):
        raise ValueError(f"{path} is not what the run wrote: its bytes have another digest; {advice}")
    try:
        table = pq.read_table(pa.BufferReader(content))
        old = {before: now for now, before in (renamed or {}).items() if now not in table.column_names}
        if old:
            table = table.rename_columns([old.get(name, name) for name in table.column_names])
        missing = [name for name in schema.names if name not in (*table.column_names, *later)]
        if missing:
            raise ValueError(f"{path}: columns missing: {', '.join(missing)}; written by another version of cpt")
        table = table.select([name for name in schema.names if name in table.column_names])
        rows: list[dict[str, Any]] = table.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a whole parquet file, perhaps truncated; {advice}") from error
    for found in table.schema:
        expected = schema.field(found.name)
        if not _alike(found.type, expected.type):
            raise ValueError(f"{path}: the column {found.name} holds {found.type}, not {expected.type}; {advice}")
        if not expected.nullable and table.column(found.name).null_count:
            raise ValueError(f"{path}: the column {found.name} has empty places; {advice}")
    return rows, table.schema.metadata or {}


def _alike(one: Any, other: Any) -> bool:
    from pyarrow import types

    numbers = [types.is_integer(kind) or types.is_floating(kind) for kind in (one, other)]
    lists = [types.is_list(kind) for kind in (one, other)]
    inside = all(lists) and _alike(one.value_type, other.value_type)
    return all(numbers) or one == other or types.is_null(one) or inside  # a column of nothing but empty places
