"""Sources: where rows come from. `open_rows` finds out which kind of source data are, by looking at them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cpt.tasks.definition import Data
from cpt.tasks.sources.base import Row, Rows
from cpt.tasks.sources.text_files import TextRows

__all__ = ["Row", "Rows", "open_rows"]

Part = Literal["all", "train", "test"]


def open_rows(data: Data, part: Part) -> Rows | None:
    """The rows of one part of data (never those of a `mix`, whose parts are opened one by one).

    Args:
        part: `train` or `test` where the data have that split by themselves; `all` for data without splits.

    Returns:
        None where the data have no such part: neither `test` (then it is cut off from `train`, or `all`) …

    Raises:
        ValueError: there is no such file, folder, id, revision or split, or it can't be read; one line with the remedy.
    """
    named = {"train": data.train, "test": data.test, "all": data.path}[part]
    if named is None:
        return None
    files = [named] if isinstance(named, str) else list(named)
    base = Path(data.root or ".") / (data.path or "" if part != "all" else "")
    return TextRows([base / file for file in files])
