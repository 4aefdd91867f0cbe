"""Which rows of a task's data can be used, and to which split each belongs: found in one pass that reads no picture."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cpt.common.console import counted
from cpt.common.keys import nearest, shortened
from cpt.common.stored_pictures import PictureFile, SquarePicture, StoredPicture, StoredPictures
from cpt.tasks.definition import FROM_FIELDS, TaskDefinition, fields_of
from cpt.tasks.parts import DataSplit, Part, opened_parts
from cpt.tasks.rows import Fields
from cpt.tasks.rows.values import text_of
from cpt.tasks.sources import Row
from rewards import registry
from rewards.registry import CheckGold

_SHOWN = 3  # rows that a message names


class Place(NamedTuple):
    """Where a row is: the number of the part of the data that has it, and its own number there."""

    part: int
    row: int


@dataclass(frozen=True)
class Unusable:
    """A row that is left out, and why.

    Attributes:
        kind: `gold` where the metric can't use its answer; else `row`.
    """

    place: Place
    split: DataSplit
    reason: str
    kind: Literal["row", "gold"] = "row"


@dataclass(frozen=True)
class _Indexed:
    """What one pass over all rows finds.

    Attributes:
        own_names: whether every usable row has an id, and no two the same.
    """

    rows: Mapping[str, list[Place]]
    unusable: list[Unusable]
    own_names: bool


class RowIndex:
    """The rows of a task.

    Raises:
        ValueError: when rows are first asked for: data can't be opened, a column is missing, a split is empty, or more
            rows than `drop_at_most` can't be used.
    """

    def __init__(self, definition: TaskDefinition) -> None:
        assert definition.data is not None
        self.definition = definition
        self._data = definition.data.parts
        words = definition.prompt
        # Words that are fixed for all rows need no question in them.
        self.asks = words.direct is None or "question" in fields_of(words.direct)

    @property
    def has_training_rows(self) -> bool:
        """Whether the data say where rows to train on are; else they are for evaluation alone."""
        return any(one.train is not None or one.test is None for one in self._data)

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """All sources, opened."""
        return opened_parts(self.definition, self.asks)

    @cached_property
    def example(self) -> Fields:
        """The first usable row."""
        for split in ("train", "test"):
            if places := self.places(split):
                return self.read_row(places[0])[1]
        told = f": {self._told(self.unusable)}" if self.unusable else "; look at filter and data.leave_out"
        raise ValueError(f"task {self.definition.name} has no usable row{told}")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Of all parts."""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.rows.columns))

    @property
    def hidden_columns(self) -> frozenset[str]:
        """Columns that must not stand in a prompt."""
        return frozenset(name for part in self.parts for name in part.read.hides)

    def read(self) -> None:
        """Read all rows once. See the class for errors."""
        for split in self._needed:
            self.of(split)

    @property
    def _needed(self) -> tuple[DataSplit, ...]:
        """Splits that can't be without a row."""
        return ("train", "test") if self.has_training_rows else ("test",)

    def of(self, split: Literal["train", "test"]) -> list[Place]:
        """The usable rows of a split, in the data's order."""
        found = self._by_split[split]
        if not found:
            raise self._none(split)
        return found

    def check_splits(self) -> None:
        """ValueError if the split that is evaluated, or one that is trained on, has no usable row."""
        for split in self._needed:
            if not self._indexed.rows[split]:
                raise self._none(split)

    def _none(self, split: DataSplit) -> ValueError:
        """Says why a split has no row."""
        out = [one for one in self.unusable if one.split == split]
        other = "train" if split == "test" else "test"
        told = "; look at data.train, data.test and filter"
        if out:
            told = f": {self._told(out)}"
        elif self.cut_by_hash and self._indexed.rows[other]:
            told = (
                f": the hash of pictures or question puts all there are ({len(self._indexed.rows[other])}) into "
                f"{other}; change data.test_share, or name test rows under data.test"
            )
        return ValueError(f"task {self.definition.name} has no usable row of split {split}{told}")

    def places(self, split: str) -> list[Place]:
        """Those of `of`, however few, and however many can't be used."""
        return self._indexed.rows[split]

    @property
    def unusable(self) -> list[Unusable]:
        """Rows that are left out because they can't be used; not those of `filter` and `leave_out`."""
        return self._indexed.unusable

    @property
    def cut_by_hash(self) -> bool:
        """Whether test rows were cut off from the others, because the data have none of their own."""
        return any(part.split is None for part in self.parts)

    @cached_property
    def _by_split(self) -> Mapping[str, list[Place]]:
        found, unusable = self._indexed.rows, self._indexed.unusable
        for split in ("train", "test"):
            out = [one for one in unusable if one.split == split]
            rows = len(found[split]) + len(out)
            most = max(data.drop_at_most for data in self._data)
            if out and found[split] and len(out) > most * rows:
                raise ValueError(
                    f"task {self.definition.name}, split {split}: {len(out)} of {rows} rows can't be used, more than "
                    f"data.drop_at_most ({most:g}): {self._told(out)}; mend them, name them in data.leave_out, or "
                    "raise data.drop_at_most (`cpt tasks check` lists all)"
                )
        return found

    def _told(self, out: list[Unusable]) -> str:
        told = "; ".join(f"{self.where(one.place)}: {one.reason}" for one in out[:_SHOWN])
        return told + (f"; and {len(out) - _SHOWN} more" if len(out) > _SHOWN else "")

    @cached_property
    def _indexed(self) -> _Indexed:
        found: dict[str, list[Place]] = {"train": [], "test": []}
        unusable: list[Unusable] = []
        names: set[str] = set()
        matched: set[str] = set()
        for number, part in enumerate(self.parts):
            left_out = set(map(str, part.data.leave_out))
            for row_number, row in enumerate(part.rows):
                place = Place(number, row_number)
                # First, so that a row that can't be read can be left out.
                if left_out and (where := part.rows.where(row_number)) in left_out:
                    matched.add(where)
                    continue
                if not self._wanted(part, row):
                    continue
                try:
                    fields = part.fields(row)
                except ValueError as error:
                    unusable.append(Unusable(place, part.split or "train", str(error)))
                    continue
                if fields.id in left_out:
                    matched.add(fields.id)
                    continue
                if not self._seen(fields):
                    continue
                split = part.split or self._split_of(part, fields)
                reason = self._problem(part, fields) or self._unfit_column(row)
                wrong_gold = "" if reason else self._gold_problem(row, fields)
                if reason or wrong_gold:
                    unusable.append(Unusable(place, split, reason or wrong_gold, "gold" if wrong_gold else "row"))
                    continue
                found[split].append(place)
                if fields.id and "/" not in fields.id:
                    names.add(fields.id)
        self._check_left_out(matched)
        return _Indexed(found, unusable, own_names=len(names) == len(found["train"]) + len(found["test"]))

    def _check_left_out(self, matched: set[str]) -> None:
        """ValueError if a row that is to be left out is not there, which would be a slip of the pen."""
        for name in (str(name) for data in self._data for name in data.leave_out):
            if name not in matched:
                raise ValueError(
                    f"task {self.definition.name}: data.leave_out: no row is {name!r}; write a row's id, or its place "
                    f"as messages have it, such as {self.where(Place(0, 0))!r}"
                )

    def _wanted(self, part: Part, row: Row) -> bool:
        """Whether the row's columns have what `filter` asks of them."""
        for name, value in self.definition.filter.items():
            values = value if isinstance(value, list) else [value]
            if name == "images" and isinstance(value, bool):
                continue
            if name not in part.rows.columns:
                raise ValueError(
                    f"task {self.definition.name}: filter: there is no column {name!r}"
                    + nearest(name, list(part.rows.columns))
                )
            if row.get(name) not in values and str(row.get(name)) not in map(str, values):
                return False
        return True

    def _seen(self, fields: Fields) -> bool:
        """Whether the row has a picture, or has none, as `filter` asks."""
        asked = self.definition.filter.get("images")
        return not isinstance(asked, bool) or asked == bool(fields.images)

    def _split_of(self, part: Part, fields: Fields) -> DataSplit:
        keys = [image.key if isinstance(image, StoredPicture) else str(image) for image in fields.images]
        text = "\0".join(keys) or fields.question
        digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        return "test" if digest < part.data.test_share * 2**64 else "train"

    def _problem(self, part: Part, fields: Fields) -> str:
        if not fields.answers and self.definition.answered_by == "generation":
            return "it has no answer"
        if self.asks and not fields.question.strip():
            return "it has no question (data.columns.question names its column; or write it into prompt.direct)"
        missing = [str(image) for image in fields.images if isinstance(image, str) and not self._there(part, image)]
        if not missing:
            return ""
        # As a whole: where it was looked for is what its owner has to see.
        path = shortened(os.path.join(part.folder, missing[0]), 200)
        hint = "; write / for \\" if "\\" in missing[0] else ""
        return f"there is no picture {path} (data.images says where relative paths start){hint}"

    def _unfit_column(self, row: Row) -> str:
        """Which column that the words name has no text in this row; nothing where none is so."""
        for name in self.words_columns:
            try:
                text_of(row.get(name))
            except ValueError as error:
                return f"column {name}, which the prompt shows: {error}"
        return ""

    @cached_property
    def words_columns(self) -> set[str]:
        """Columns of a row that the definition's words name."""
        words = self.definition.prompt
        return {name for text in (words.direct, words.think) if text for name in fields_of(text)} - set(FROM_FIELDS)

    def _gold_problem(self, row: Row, fields: Fields) -> str:
        """Why the metric can't use a row's answers; nothing where it can, or where none is named."""
        check = self._check_gold
        if check is None:
            return ""
        given = {"gold": list(fields.answers), "choices": list(fields.choices), "meta": dict(row)}
        return check(**given, **self.definition.metric_options)

    @cached_property
    def _check_gold(self) -> CheckGold | None:
        name = self.definition.metric
        return registry.get(name).check_gold if name in registry.names() else None  # an unknown one is told elsewhere

    def _there(self, part: Part, image: str) -> bool:
        return os.path.isfile(os.path.join(part.folder, image))

    def read_row(self, place: Place) -> tuple[Row, Fields]:
        """One row, and what it says. ValueError names the row."""
        part = self.parts[place.part]
        row = part.rows[place.row]
        try:
            return row, part.fields(row)
        except ValueError as error:
            raise ValueError(f"task {self.definition.name}: {self.where(place)}: {error}") from error

    def group_of(self, place: Place, row: Row) -> str:
        """What its benchmark counts a row with (`data.columns.group`); "" where nothing says so."""
        named = self.parts[place.part].data.columns.group
        names = [named] if isinstance(named, str) else named or []
        return "/".join(text_of(row.get(name)) for name in names)

    def pictures(self, images: tuple[Any, ...], place: Place, owner: str) -> StoredPictures | tuple[()]:
        """A row's pictures, not read yet."""
        part = self.parts[place.part]
        stored = [one if isinstance(one, StoredPicture) else PictureFile(Path(part.folder, str(one))) for one in images]
        if part.data.padding == "square":
            stored = [SquarePicture(one) for one in stored]
        return StoredPictures(stored, f"{owner} ({self.where(place)})") if stored else ()

    def name_of(self, place: Place, fields: Fields) -> str:
        """What a row is called in records: its own id where all have one and no two the same, else its number from 1,
        after the number of its file or split where there are several."""
        if self._indexed.own_names:
            return fields.id
        return f"{place.part + 1}.{place.row + 1}" if len(self.parts) > 1 else str(place.row + 1)

    def where(self, place: Place) -> str:
        """A row as its owner would look for it."""
        return self.parts[place.part].rows.where(place.row)

    def summary(self) -> str:
        """How many rows each split has, and where the test rows come from."""
        train, test = len(self.places("train")), len(self.places("test"))
        cut = " (cut off by hash: the data have no test split)" if self.cut_by_hash and self.has_training_rows else ""
        out = f", {counted(len(self.unusable), 'row')} left out" if self.unusable else ""
        return f"{train} training rows, {test} test rows{cut}{out}"
