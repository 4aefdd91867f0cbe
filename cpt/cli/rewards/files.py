"""Saved completions that a command reads, and the file that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from cpt.common.files import atomic_path
from rewards.lab.saved import Saved, read_saved, write_table


def read(file: Path, column: Sequence[str] | None, template: str | None, max_tokens: int | None) -> Saved:
    """The rows of a file, with columns renamed and filled in by the options."""

    renamed: dict[str, str] = {}
    for text in column or ():
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs):
            raise ValueError(f"--column {text}: has to be OURS=THEIRS, as in --column gold=answer")
        renamed[ours] = theirs
    return read_saved(file, renamed, {"template": template, "max_tokens": max_tokens})


def check_out(out: Path | None, source: Path, force: bool) -> None:
    """ValueError if the result would replace the input, or anything else without --force."""
    if out is None:
        return
    if out.suffix not in (".parquet", ".jsonl"):
        raise ValueError(f"{out}: unknown kind of file; --out has to end in .parquet or .jsonl")
    if out.exists() and source.exists() and out.samefile(source):
        raise ValueError(f"{out}: is the file that is read; give --out another name")
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; give --out a file's name")
    if files := [parent for parent in out.parents if parent.exists() and not parent.is_dir()]:
        raise ValueError(f"{out}: can't be written, since {files[0]} is a file; give --out another name")
    if out.exists() and not force:
        raise ValueError(f"{out}: exists; --force replaces it")


def write(out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write the columns, whole or not at all, and print the file's name."""

    with atomic_path(out) as temporary:
        write_table(temporary, columns, out.suffix)
    typer.echo(f"written: {out}")
