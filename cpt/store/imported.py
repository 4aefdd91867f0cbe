"""Scores that another program has made of a run's policies, beside the records of the run's own evaluation.

    <folder of a stage or of the base model>/evaluated/imported-<task>.parquet, and its marker imported-<task>.json

The marker names the policy's key: a policy that is trained again loses what was imported for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.common.files import read_json
from cpt.store.folder import IMPORTED, StageDir
from cpt.store.records import read_records, write_records
from cpt.store.run_store import RunStore
from cpt.store.schemas import Imported
from cpt.types import Record

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
AGAIN = "delete its marker, the .json of the same name, and import it again"


@dataclass(frozen=True)
class ImportedTask:
    """One task of one policy as another program has scored it.

    Attributes:
        marker: the file that says so.
        source: program and version.
    """

    marker: Path
    task: str
    source: str
    metric: str
    records: tuple[Record, ...]


def check_name(task: str) -> None:
    """ValueError for a name that can't be part of a file's."""
    if not _NAME.fullmatch(task):
        raise ValueError(f"--task {task}: letters, digits, '.', '_' and '-' only, a letter or digit first")


def write_imported(
    store: RunStore, where: StageDir, key: str, records: Sequence[Record], *, source: str, **notes: Any
) -> Path:
    """Keep one task's records, which are labelled as those of this policy. The marker's path.

    Args:
        key: of the policy.
        source: program and version.
        notes: what else the marker is to say.
    """
    task, metric = records[0].task, records[0].metric
    check_name(task)
    name = f"{IMPORTED}{task}"
    file = where.evaluated / f"{name}.parquet"
    store.forget(where, name)
    write_records(file, records)
    about: Mapping[str, Any] = {"task": task, "source": source, "metric": metric, "records": len(records), **notes}
    store.mark_measured(where, name, key, "", [file], **about)
    return where.marker(name)


def read_imported(where: StageDir, key: str | None) -> list[ImportedTask]:
    """What has been imported for a policy, by task.

    Args:
        key: of the policy, as planned.

    Raises:
        ValueError: a file is missing, not what was imported, or of another policy.
    """
    found = []
    for marker in sorted(where.evaluated.glob(f"{IMPORTED}*.json")):
        about = read_json(marker, Imported, sealed=True, advice="delete the file, and import it again")
        file = marker.with_suffix(".parquet")
        if about["key"] != key:
            raise ValueError(f"{marker}: imported for another policy than the one that is here; delete it")
        digest = about["files"].get(file.relative_to(where.root).as_posix())
        if digest is None or not file.exists():
            raise ValueError(f"{file} is missing; put it back, or delete {marker}")
        records = tuple(read_records(file, digest, AGAIN))
        found.append(ImportedTask(marker, about["task"], about["source"], about["metric"], records))
    return found
