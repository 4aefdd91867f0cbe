"""filter.parquet: what a filter saw of every prompt, one row each, and which it kept. Written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cpt.common.digests import bytes_digest
from cpt.common.files import AGAIN, atomic_path
from cpt.common.parquet import read_rows
from cpt.methods.filtering import RIF, PromptRollouts, histogram

_ABOUT = b"cpt.filter/2"  # with a digest of all that the file says
_ABOUT_BEFORE = b"cpt.filter"
_UNREADABLE = (json.JSONDecodeError, UnicodeDecodeError, ValidationError)


@dataclass(frozen=True)
class FilterFile:
    """One filter's evidence.

    Attributes:
        key: of the stage that it belongs to; empty for one that `cpt filter` wrote.
        prompts: P training prompts, in the order of the task's samples.
        kept: for each, whether it is trained on.
    """

    key: str
    rule: RIF
    prompts: Sequence[PromptRollouts]
    kept: Sequence[bool]

    def counts(self) -> tuple[list[int], list[int]]:
        """All prompts, and the kept ones, by right completions (see `histogram`); equally long."""
        everything = histogram(self.prompts)
        chosen = histogram([prompt for prompt, kept in zip(self.prompts, self.kept, strict=True) if kept])
        return everything, chosen or [0] * len(everything)


def write_filter(path: Path, found: FilterFile) -> None:
    """Write the file. Columns beside `FilterFile`'s own: rollouts, passes, pass_rate, reward_mean, reward_std."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(prompt, kept) for prompt, kept in zip(found.prompts, found.kept, strict=True)]
    known: dict[str, Any] = {"key": found.key, "rule": found.rule.model_dump(mode="json")}
    about = json.dumps({**known, "digest": _digest(known, rows)}, sort_keys=True)
    table = pa.Table.from_pylist(rows, schema=_schema().with_metadata({_ABOUT: about.encode()}))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_filter(path: Path) -> FilterFile:
    """Read the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or written by another version of cpt.
    """
    rows, metadata = read_rows(path, _schema(), AGAIN)
    about = metadata.get(_ABOUT, metadata.get(_ABOUT_BEFORE, b""))
    try:
        known = json.loads(about)
        digest = known.pop("digest", None)
        if _ABOUT in metadata and digest != _digest(known, rows):
            raise ValueError(f"{path}: not what the filter wrote; {AGAIN}")
        rule = RIF.model_validate(known["rule"])
    except (KeyError, AttributeError, TypeError, RecursionError, *_UNREADABLE) as error:
        raise ValueError(f"{path}: not the evidence of a filter, or another version's; {AGAIN}") from error
    prompts = [
        PromptRollouts(
            sample_id=row["sample_id"],
            task=row["task"],
            completions=tuple(row["completions"]),
            rewards=tuple(row["rewards"]),
            right=tuple(row["right"]),
        )
        for row in rows
    ]
    return FilterFile(str(known["key"]), rule, prompts, [row["kept"] for row in rows])


def _digest(known: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    return bytes_digest(json.dumps([known, rows], sort_keys=True).encode())


def _row(prompt: PromptRollouts, kept: bool) -> dict[str, Any]:
    return {
        "sample_id": prompt.sample_id,
        "task": prompt.task,
        "rollouts": len(prompt.right),
        "passes": prompt.passes,
        "pass_rate": prompt.pass_rate,
        "reward_mean": prompt.reward_mean,
        "reward_std": prompt.reward_std,
        "kept": kept,
        "completions": list(prompt.completions),
        "rewards": list(prompt.rewards),
        "right": list(prompt.right),
    }


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("task", pa.string(), nullable=False),
            pa.field("rollouts", pa.int32(), nullable=False),
            pa.field("passes", pa.int32(), nullable=False),
            pa.field("pass_rate", pa.float64(), nullable=False),
            pa.field("reward_mean", pa.float64()),  # null where the reward gave none
            pa.field("reward_std", pa.float64()),
            pa.field("kept", pa.bool_(), nullable=False),
            pa.field("completions", pa.list_(pa.string()), nullable=False),
            pa.field("rewards", pa.list_(pa.float64()), nullable=False),
            pa.field("right", pa.list_(pa.bool_()), nullable=False),
        ]
    )
