"""Sources: where rows come from. `open_rows` finds out which kind of source data are, by looking at them.

- `base`: what a source is; `combined`: several as one, some rows of one
- `text_files`, `json_spans`: JSON, JSON lines, CSV
- `prepared`, `arrow`: parquet and `save_to_disk`; `hub`: the Hugging Face Hub
- `image_folder`: pictures in folders
- `folders`: what a folder holds
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from cpt.common.files import expanded
from cpt.common.keys import nearest
from cpt.tasks.definition import Data
from cpt.tasks.sources.base import Row, Rows
from cpt.tasks.sources.combined import JoinedRows, RowsWith
from cpt.tasks.sources.folders import Splits, matching, rows_at, split_called, splits_of
from cpt.tasks.sources.hub import hub_splits

__all__ = ["Row", "Rows", "open_rows"]

Part = Literal["all", "train", "test"]


def open_rows(data: Data, part: Part) -> Rows | None:
    """The rows of one part of data (never those of a `mix`, whose parts are opened one by one).

    Args:
        part: `train` and `test` are what the data say they are, or by themselves call so; where there is no split
            test, validation is it. `all` are data without splits.

    Returns:
        None where the data have no such part. Of data without any split only `all` is there; without `test` the caller
        cuts it off from `train` or `all`.

    Raises:
        ValueError: there is no such file, folder, id, revision or split, or it can't be read; one line with the remedy.
    """
    assert data.mix is None, "the parts of a mix are opened one by one"
    if data.split_column is not None:
        return _by_column(data, data.split_column, part)
    named = data.train if part == "train" else data.test if part == "test" else None
    if named is not None:
        found = [_named(data, name, part) for name in ([named] if isinstance(named, str) else named)]
        return found[0] if len(found) == 1 else JoinedRows(found)
    split = _own_split(data, part)
    return None if split is None else _splits(data)[split]()


def _named(data: Data, name: str, part: Part) -> Rows:
    """What `train` or `test` names: a file, a pattern or a folder below `path`, or a split."""
    below = None if data.hub else _base(data) / expanded(name)
    if below is not None and (data.path is None or matching(below)):
        return rows_at(below)
    splits = _splits(data)
    if name not in splits:
        what = data.hub or str(_base(data))
        if not any(splits):
            raise ValueError(f"{what}: data.{part} names {name!r}, and there is no such file and there are no splits")
        raise ValueError(f"{what}: there is no split {name!r} (data.{part}){nearest(name, list(splits))}")
    return splits[name]()


def _own_split(data: Data, part: Part) -> str | None:
    """The split that is a part without being named as one; none is guessed once the task names one."""
    if data.train is not None or data.test is not None:
        return None
    splits = _splits(data)
    if "" in splits:
        return "" if part == "all" else None
    words = {split_called(name) or name: name for name in reversed(list(splits)) if name.isalpha()}
    if part != "all":
        return next((words[word] for word in _WORDS[part] if word in words), None)
    if not any(word in words for word in (*_WORDS["train"], *_WORDS["test"])):
        what = data.hub or str(_base(data))
        raise ValueError(f"{what} has the splits {', '.join(splits)}: write which is data.train, which data.test")
    return None


_WORDS = {"train": ("train",), "test": ("test", "validation")}


def _splits(data: Data) -> Splits:
    if data.hub is not None:
        assert data.revision is not None, "a definition on the Hub has one"
        return hub_splits(data.hub, data.config, data.revision)
    base = _base(data)
    return splits_of(base) if base.is_dir() else {"": partial(rows_at, base)}


def _base(data: Data) -> Path:
    if "://" in (data.path or ""):
        raise ValueError(
            f"{data.path}: nothing is fetched from addresses; store it and write its path, or set data.hub"
        )
    return Path(data.root or ".").absolute() / expanded(data.path or "")


def _by_column(data: Data, column: str, part: Part) -> Rows | None:
    """Rows of a source whose splits are told by a column: `train` and `test` are values of it."""
    splits = _splits(data)
    if len(splits) > 1:
        raise ValueError(f"data.split_column: the data have splits already ({', '.join(splits)}); name a file as path")
    rows = next(iter(splits.values()))()
    if column not in rows.columns:
        raise ValueError(f"data.split_column: there is no column {column!r}{nearest(column, list(rows.columns))}")
    if part == "all":
        return rows
    values = {str(row.get(column)): None for row in rows}
    named = data.train if part == "train" else data.test
    if named is None:
        words = {split_called(value) or value: value for value in reversed(list(values))}
        found = next((words[word] for word in _WORDS[part] if word in words), None)
        return None if found is None else RowsWith(rows, column, (found,))
    wanted = [named] if isinstance(named, str) else named
    for value in wanted:
        if value not in values:
            raise ValueError(f"data.{part}: no row has {value!r} as its {column}{nearest(value, list(values)[:20])}")
    return RowsWith(rows, column, wanted)
