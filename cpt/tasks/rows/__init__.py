"""Layouts: how the question, the answers and the pictures stand in a row. `layout_of` finds out which one it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cpt.tasks.definition import Data
from cpt.tasks.rows.columns import by_columns
from cpt.tasks.rows.fields import Fields
from cpt.tasks.sources.base import Row

__all__ = ["Fields", "layout_of"]


def layout_of(data: Data, columns: Sequence[str], example: Row) -> Callable[[Row], Fields]:
    """How rows are read.

    Args:
        columns: that the rows have.
        example: the first row.

    Returns:
        Reads one row; ValueError, without the row's place, where the row can't be read (its answer is no text, its
        index of an option is none, …).

    Raises:
        ValueError: a column that the layout needs is missing; the message says which one, which there are, and what to
            write under data.columns.
    """
    return by_columns(data.columns, columns)
