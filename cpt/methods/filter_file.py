"""filter.parquet: what a filter saw of every prompt, one row each, and which it kept. Written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.files import atomic_path
from cpt.methods.filtering import RIF, PromptRollouts, histogram

_ABOUT = b"cpt.filter"


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
    about = json.dumps({"key": found.key, "rule": found.rule.model_dump(mode="json")}, sort_keys=True)
    table = pa.Table.from_pylist(rows, schema=_schema().with_metadata({_ABOUT: about.encode()}))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_filter(path: Path) -> FilterFile:
    """Read the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is damaged, or written by another version of cpt.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise FileNotFoundError(path)
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a whole parquet file; delete it and run the same command again") from error
    about = (table.schema.metadata or {}).get(_ABOUT)
    if about is None or set(_schema().names) - set(table.column_names):
        raise ValueError(f"{path}: not the evidence of a filter, or another version's; delete it and run again")
    known = json.loads(about)
    rows = table.to_pylist()
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
    return FilterFile(known["key"], RIF.model_validate(known["rule"]), prompts, [row["kept"] for row in rows])


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
