"""Pictures that a layout passes over, because their column has a name that nobody expects."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from cpt.common.stored_pictures import StoredPicture
from cpt.tasks.rows.fields import Fields
from cpt.tasks.sources.base import Row

_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"))


def unread_pictures(row: Row, fields: Fields) -> str:
    """The column of a row without pictures that holds some, or a picture's file name; empty if none does."""
    if fields.images:
        return ""
    said = {fields.question, fields.id, *fields.answers, *fields.choices}
    for name, value in row.items():
        values = value if isinstance(value, list | tuple) else [value]
        if any(_is_picture(one) and one not in said for one in values):
            return name
    return ""


def _is_picture(value: Any) -> bool:
    if isinstance(value, StoredPicture):
        return True
    return isinstance(value, str) and "://" not in value and PurePath(value).suffix.lower() in _SUFFIXES
