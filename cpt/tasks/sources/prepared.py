"""Rows that the `datasets` library reads: parquet files and what `save_to_disk` wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from cpt.tasks.sources.arrow import ArrowRows


def parquet_rows(files: Sequence[Path]) -> ArrowRows:
    """Rows of parquet files of one kind, one after another.

    Rows can't be read singly from parquet: `datasets` writes them into its cache (`HF_DATASETS_CACHE`) once.

    Raises:
        ValueError: a file is missing, is no parquet, or has other columns than the first.
    """
    import datasets
    import pyarrow
    from pyarrow import parquet

    rows, columns = [], []
    for file in files:
        try:
            rows.append((file.name, parquet.read_metadata(file).num_rows))
            columns.append(parquet.read_schema(file).names)
        except FileNotFoundError as error:
            raise ValueError(f"{file}: {error.strerror}") from error
        except (pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{file}: no parquet file, or a damaged one ({first_line(error)})") from error
        if sorted(columns[-1]) != sorted(columns[0]):
            different = sorted(set(columns[-1]) ^ set(columns[0]))
            raise ValueError(f"{file} and {files[0]} have different columns ({', '.join(different)})")
    if not sum(count for _, count in rows):
        raise ValueError(f"{files[0]}: there are no rows in it")
    with quiet():
        try:
            found = datasets.load_dataset(
                "parquet",
                data_files={"rows": [escape(str(file.absolute())) for file in files]},
                split="rows",
                keep_in_memory=False,
            )
        except (datasets.exceptions.DatasetsError, pyarrow.ArrowException, OSError) as error:
            raise ValueError(f"{files[0]}: {reason(error)}") from error
    return ArrowRows(found, rows, str(files[0].parent))


def saved_rows(folder: Path) -> ArrowRows:
    """Rows of a folder that `Dataset.save_to_disk` wrote. ValueError if it is damaged."""
    import datasets
    import pyarrow

    with quiet():
        try:
            found = datasets.Dataset.load_from_disk(str(folder.absolute()), keep_in_memory=False)
            return ArrowRows(found, [(folder.name, len(found))], str(folder))
        except (pyarrow.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{folder}: not what save_to_disk writes, or damaged ({first_line(error)})") from error


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings of the libraries', and no progress bars where nobody looks at them."""
    import datasets
    import huggingface_hub

    loggers = (datasets.logging, huggingface_hub.logging)
    verbosity, bars = [one.get_verbosity() for one in loggers], not datasets.are_progress_bars_disabled()
    for one in loggers:
        one.set_verbosity_error()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        for one, before in zip(loggers, verbosity, strict=True):
            one.set_verbosity(before)
        if bars:
            datasets.enable_progress_bars()


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def reason(error: BaseException) -> str:
    """What happened first, in one line: `datasets` wraps it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
