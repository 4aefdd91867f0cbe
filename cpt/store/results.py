"""The results in a stage's folder, and checks that they are still what the run wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt.common.digests import differing, listing
from cpt.common.files import fsync_dir, read_json, write_json_atomic
from cpt.store.folder import IMPORTED, StageDir
from cpt.store.records import read_records
from cpt.store.schemas import Done, Marker, Measured, PlannedStage, Trained
from cpt.types import Record

# In a stage's folder, but no result of its training.
_NO_RESULT = {
    *("stage.json", "TRAINED.json", "DONE.json", "records.parquet", "drift.parquet", "evaluated"),
    *("checkpoints", "trainings"),
}


def write_trained(where: StageDir, key: str, steps: int, **notes: Any) -> None:
    """Flush what training left in the folder to disk, then write TRAINED.json with its digests."""
    write_json_atomic(where.trained, {"key": key, "steps": steps, **notes, "files": written(where)}, sealed=True)


def written(where: StageDir) -> dict[str, Any]:
    """Digest of every file that training left in a stage's folder, after flushing them to disk."""
    tops = [path for path in where.root.iterdir() if path.name not in _NO_RESULT and not path.name.startswith(".")]
    found = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*")) if file.is_file()]
    make_durable(found)
    return listing(where.root, found)


def make_durable(files: list[Path]) -> None:
    """Flush the contents and names of files to disk, so that they survive a power cut."""
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    for folder in {file.parent for file in files}:
        fsync_dir(folder)


def read_marker(path: Path, shape: type[Marker], *, sealed: bool = True) -> dict[str, Any]:
    """TRAINED.json or an evaluator's marker. ValueError if it is damaged or not what the run wrote."""
    again = "trains" if path.name == "TRAINED.json" else "evaluates"
    found = read_json(path, shape, sealed=sealed, advice=f"delete the file, and the same command {again} again")
    return {"files": {}, "measures": "", **found}


def check_trained(where: StageDir, *, cached: bool = False, only: set[str] | None = None) -> None:
    """ValueError if a file that training left is not the one that TRAINED.json lists.

    Args:
        cached: see `cpt.common.digests.differing`.
        only: check these files alone, if they exist: a report reads copies of folders without policies.
    """
    files: Mapping[str, Any] = read_marker(where.trained, Trained)["files"]
    problem = None
    if only is not None:
        there = {name for name in only if (where.root / name).exists()}
        if more := sorted(there - files.keys()):
            problem = f"{where.root / more[0]} is not what the run wrote: training left no such file"
        files = {name: digest for name, digest in files.items() if name in there}
    problem = problem or differing(where.root, files, cached=cached)
    if problem is not None:
        raise ValueError(
            f"{problem}. Put the file back, or delete {where.root} and the folders of later stages beside it: the same "
            "command trains them again"
        )


def check_stage_json(where: StageDir, stage: Mapping[str, Any]) -> None:
    """ValueError if stage.json is damaged or belongs to another stage."""
    found = read_json(where.stage_json, PlannedStage, sealed=True)
    for name in ("arm", "seed", "index", "task"):
        if found[name] != stage[name]:
            raise ValueError(
                f"{where.stage_json}: not what the run wrote here: it is of {name} {found[name]}, not {stage[name]}; "
                f"put the folder back, or delete {where.root}, and the same command trains the stage again"
            )


def counts(where: StageDir, marker: Path, key: str, measures: str | None = None) -> bool:
    """Whether an evaluator's marker is there with all the files that it lists, of this policy.

    Args:
        key: of the policy.
        measures: what must have been measured on it (`cpt.evaluate.evaluators.base.measured_key`); None for whatever.
    """
    if not marker.exists():
        return False
    found = read_marker(marker, Measured)
    asked = bool(found["key"] == key) and measures in (None, found["measures"])
    return asked and all((where.root / name).exists() for name in found["files"])


def check_measured(where: StageDir, marker: Path) -> None:
    """ValueError if a file that an evaluator left is not the one that its marker lists."""
    problem = differing(where.root, read_marker(marker, Measured)["files"])
    if problem is not None:
        again = "import it again" if marker.name.startswith(IMPORTED) else "the same command evaluates again"
        raise ValueError(f"{problem}. Put it back, or delete {marker}: {again}")


def recorded(where: StageDir, *, seed: int, stage: int, arm: str | None = None, sealed: bool = True) -> list[Record]:
    """The records of a finished evaluation.

    Args:
        arm: None for the base model.
        sealed: whether the run's files have digests; those of format 1 do not.

    Raises:
        ValueError: the file is not the one that DONE.json lists, or has records of another evaluation.
    """
    done = read_marker(where.done, Done, sealed=sealed)
    digest = done["files"].get(where.records.name)
    if sealed and digest is None:
        raise ValueError(f"{where.done}: not what the run wrote: no digest of {where.records.name}; {_EVALUATE}")
    records = read_records(where.records, digest)
    if len(records) != done["records"]:
        raise ValueError(f"{where.records}: {len(records)} rows, but the run wrote {done['records']}; {_EVALUATE}")
    for record in records:
        whose = record.arm if arm is not None else None
        if (whose, record.seed, record.stage) != (arm, seed, stage):
            raise ValueError(
                f"{where.records}: not what the run wrote here: a record of arm {record.arm}, seed {record.seed}, "
                f"stage {record.stage}; {_EVALUATE}"
            )
    return records


_EVALUATE = "delete the DONE.json beside it, and the same command evaluates again"
