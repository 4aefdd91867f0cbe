"""Reads saved completions, scores them in this process, and writes the results.

No Ray, no GPU and no model: a debugger can stop inside a reward (a user's own: with CPT_DEBUG=1) on any row of a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.batch import guarded, text_of
from rewards.golds import check_golds, checks_golds
from rewards.registry import nearest
from rewards.score import Reward, Score, required_columns
from rewards.templates import TEMPLATES

FORMATS = (".parquet", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class Saved:
    """The rows of one file, by column. Every column has as many values as there are rows."""

    path: Path
    columns: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        return len(self.columns["completion"])

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each completion with the keywords that rewards take. An empty (null) value is left out.

        Raises:
            ValueError: a value that no reward could use, with its row.
        """
        used = [(name, _READERS[name]) for name in self.columns if name in _READERS]
        values = zip(*(self.columns[name] for name, _ in used), strict=True) if used else ([] for _ in range(len(self)))
        for number, (completion, row) in enumerate(zip(self.columns["completion"], values, strict=True), 1):
            name = "completion"
            keywords = {}
            try:
                said = _said(completion)
                for (name, read), value in zip(used, row, strict=True):
                    if value is not None:
                        keywords[name] = read(value)
            except ValueError as error:
                raise ValueError(f"{self.path}, row {number}, column {name}: {error}") from None
            yield said, keywords


def read_saved(path: Path, renamed: Mapping[str, str] = {}, constants: Mapping[str, object] = {}) -> Saved:
    """Read records.parquet, another parquet file or JSON lines.

    Args:
        renamed: our name → the file's name of a column, e.g. {"gold": "answer"}.
        constants: columns with one value for all rows, e.g. {"template": "think"}; they replace the file's.

    Raises:
        ValueError: no such file, not a file of this kind, damaged, empty, or without a column that is needed.
    """
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give one file in it, such as records.parquet")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    if path.suffix not in FORMATS:
        raise ValueError(f"{path}: unknown kind of file; it has to end in {', '.join(FORMATS)}")
    found = _read_parquet(path) if path.suffix == ".parquet" else _columns(list(read_lines(path)))
    if not any(len(values) for values in found.values()):
        raise ValueError(f"{path}: has no rows")
    columns = dict(found)
    for ours, theirs in renamed.items():
        if theirs not in found:
            raise ValueError(f"{path}: has no column {theirs!r}{nearest(theirs, found)}")
        columns[ours] = found[theirs]
    if "completion" not in columns:
        raise ValueError(
            f"{path}: has no column 'completion'; name the one with the model's text, as in "
            f"--column completion=output{nearest('completion', found)}"
        )
    n = len(columns["completion"])
    return Saved(path, columns | {name: [value] * n for name, value in constants.items() if value is not None})


def score_saved(saved: Saved, reward: Reward, name: str) -> list[Score | None]:
    """The reward of every row, in order; None for a row whose value of a needed column is empty, as in training.

    Args:
        name: of the reward, for messages.

    Raises:
        ValueError: the file lacks a column that the reward needs, no row has all of them, a row's gold answer is none
            that the reward can use (nothing has been scored then), or the reward fails on all.
    """
    needed = required_columns(reward)
    for column in sorted(needed):
        if column not in saved.columns:
            raise ValueError(
                f"{saved.path}: has no column {column!r}, which reward {name} needs; name the one that holds it, as in "
                f"--column {column}=THEIRS{nearest(column, saved.columns)}"
            )
    if checks_golds(reward):
        rows = ((f"{saved.path}, row {i}", row) for i, (_, row) in enumerate(saved.rows(), 1) if needed <= row.keys())
        check_golds(reward, rows, name)
    scores = [guarded(reward, completion, row) if needed <= row.keys() else None for completion, row in saved.rows()]
    if all(score is None for score in scores):
        raise ValueError(f"{saved.path}: no row has all of {', '.join(sorted(needed))}, which reward {name} needs")
    failed = [score for score in scores if score is not None and score.failed]
    if len(failed) == len(scores):
        raise ValueError(f"reward {name} could score no row; the first: {failed[0].status}: {failed[0].detail}")
    return scores


def write_table(path: Path, columns: Mapping[str, Sequence[Any]], kind: str) -> None:
    """Write columns as `.parquet` or JSON lines (`kind` is the suffix). What UTF-8 can't hold is written escaped."""
    if kind != ".parquet":
        rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        with path.open("w", encoding="utf-8") as handle:
            handle.writelines(json.dumps(row, default=str) + "\n" for row in rows)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: _arrow(values) for name, values in columns.items()})
    pq.write_table(table, path, compression="zstd")


def _arrow(values: Sequence[Any]) -> Any:
    """An Arrow array; a column whose values have several types becomes JSON text."""
    import pyarrow as pa

    clean = [_encodable(value) for value in values]
    try:
        return pa.array(clean)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else json.dumps(value, default=str) for value in clean])


def _encodable(value: Any) -> Any:
    """`value` with every lone surrogate, which no UTF-8 file can hold, written out as in `\\ud800`."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return value


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a whole parquet file ({str(error).splitlines()[0]})") from error
    columns: dict[str, list[Any]] = table.to_pydict()
    return columns


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON lines file. ValueError that names the line if one is damaged."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        handle = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path}: can't be read ({error.strerror})") from error
    with handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f'{path}, line {number}: has to be an object, as in {{"gold": …}}')
            yield row


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _said(value: Any) -> str:
    """A completion's text; of a chat, its last message's, as in training."""
    if isinstance(value, str):
        return value
    chat = isinstance(value, list) and value and all(isinstance(turn, Mapping) for turn in value)
    if chat and isinstance(value[-1].get("content"), str | list):
        return text_of(value)
    raise ValueError(f"has to be text or a chat's messages, not {_shown(value)}")


def as_texts(value: Any) -> list[str]:
    """One answer or a list of them, as texts; what is itself a list or an object, such as a box, as JSON.

    Of an annotator's row, as VQA has them, it is the answer.
    """
    return [_text(item) for item in (value if isinstance(value, list) else [value]) if item is not None]


def _text(value: Any) -> str:
    if isinstance(value, Mapping) and isinstance(value.get("answer"), str):
        return str(value["answer"])
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _template(value: Any) -> str:
    if value not in TEMPLATES:
        raise ValueError(f"there is no template {_shown(value)}{nearest(str(value), TEMPLATES)}")
    return str(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise ValueError(f"has to be a whole number, not {_shown(value)}")
    return int(value)


def _meta(value: Any) -> Mapping[str, Any]:
    """A mapping, or one as JSON text, because parquet would give every row the same keys."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON ({error})") from error
    if not isinstance(value, Mapping):
        raise ValueError(f"has to be a mapping, not {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


# The columns of a row that rewards get, and how they are read. `task` is for rewards that differ by task.
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "gold": as_texts,
    "candidates": as_texts,
    "choices": as_texts,
    "question": _text,
    "template": _template,
    "finish_reason": _text,
    "n_tokens": _count,
    "max_tokens": _count,
    "meta": _meta,
    "task": _text,
}
