"""The layout of a run folder, its lock and its deletion."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from cpt.common.files import fsync_dir, read_json
from cpt.store.schemas import FORMAT

# 1: markers without digests, keys without the data's and the whole model's fingerprints. 2: drift measured by training
# and listed in TRAINED.json, evaluation a part of a stage's key, records without the score's name and threshold.
FORMAT_VERSION = 3
IMPORTED = "imported-"  # how the markers of scores begin that were made elsewhere
GENERATION = "generation"  # the evaluator whose records every number of the report is made from
# What `--fresh` may delete: the things cpt itself puts into a run folder, never a stranger's file. The manifest goes
# last: a kill in between leaves a folder that still is recognised as a run.
OWNED = (
    *("arms", "base", "judgements", "recipe.yaml", "plan.json", "events.jsonl", "summary.json", "report.html"),
    *("rewards.html", "rewards.json", "rewards.parquet", "manifest.json"),
)
LOCK = ".lock"
MANIFEST_ADVICE = "delete the file and run the recipe's command again, which makes a new one from plan.json"


def default_folder(name: str) -> Path:
    """The folder of a run called `name`, unless `--out` says otherwise."""
    return Path("runs") / name


class RecipeLike(Protocol):
    """What the run folder needs to know of a recipe."""

    @property
    def name(self) -> str: ...
    @property
    def seeds(self) -> Sequence[int]: ...
    @property
    def may_change(self) -> frozenset[str]:
        """Sections of it that `resolved_hash` leaves out whole."""
        ...

    def resolved_hash(self) -> str:
        """Hash of everything that influences a result."""
        ...

    def dump_yaml(self) -> str:
        """The resolved recipe as YAML."""
        ...


class StageLike(Protocol):
    """What the store needs to know of a planned stage."""

    @property
    def arm(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def index(self) -> int: ...
    @property
    def task(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def key(self) -> str: ...

    def as_dict(self) -> dict[str, Any]:
        """Plain data for stage.json."""
        ...


class PlanLike(Protocol):
    """What the run folder needs to know of a whole plan."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for plan.json, the stages under `stages`."""
        ...

    def global_batch(self) -> dict[str, int]:
        """Completions per optimizer step of every arm."""
        ...


@dataclass(frozen=True, slots=True)
class StageDir:
    """The files of one stage. Only absolute paths, so it can be sent to a worker process."""

    root: Path

    @property
    def stage_json(self) -> Path:
        return self.root / "stage.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def filter(self) -> Path:
        return self.root / "filter.parquet"

    @property
    def generated(self) -> Path:
        return self.root / "generated"

    @property
    def rollouts(self) -> Path:
        return self.root / "rollouts.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def policy(self) -> Path:
        return self.root / "policy"

    @property
    def trained(self) -> Path:
        return self.root / "TRAINED.json"

    @property
    def records(self) -> Path:
        return self.root / "records.parquet"

    @property
    def drift(self) -> Path:
        return self.root / "drift.parquet"

    @property
    def during(self) -> Path:
        """Records of the policy in training; a result of the training like its metrics."""
        return self.root / "during.parquet"

    @property
    def evaluated(self) -> Path:
        """Markers of the evaluators, and what those write that have no place of their own."""
        return self.root / "evaluated"

    @property
    def done(self) -> Path:
        return self.marker(GENERATION)

    def marker(self, evaluator: str) -> Path:
        """Says that an evaluator has measured, and lists the digests of what it wrote."""
        return self.root / "DONE.json" if evaluator == GENERATION else self.evaluated / f"{evaluator}.json"

    def markers(self) -> list[Path]:
        """Those of all evaluators that are there."""
        return [*filter(Path.exists, [self.done]), *sorted(self.evaluated.glob("*.json"))]

    def of_arm(self, arm: str) -> StageDir:
        """The folder of another arm's stage, of the same seed and position in the same run."""
        return StageDir(self.root.parents[2] / safe_name(arm) / self.root.parent.name / self.root.name)


def safe_name(name: str) -> str:
    """`name` as one path component."""
    return re.sub(r"[^A-Za-z0-9._=@+,-]", "_", name).lstrip(".") or "_"


def check_ours(root: Path) -> None:
    """ValueError unless `root` is absent, empty or a cpt run."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"{root}: not a folder; choose another --out")
    if not root.is_dir() or is_run(root):
        return
    names = sorted(path.name for path in root.iterdir())
    # Without a manifest, only what an interrupted creation leaves may be in it.
    strangers = [name for name in names if name not in {LOCK, "recipe.yaml"} and not name.endswith(".tmp")]
    if strangers:
        listed = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        why = "its manifest.json is not of one" if "manifest.json" in strangers else "no manifest.json"
        raise ValueError(f"{root}: not empty and no cpt run (it holds {listed}; {why}); choose another --out")


def is_run(root: Path) -> bool:
    """Whether the folder is a cpt run, by its manifest or, if that is missing, its plan.

    Raises:
        ValueError: the manifest is damaged; the message says how to restore it.
    """
    manifest = root / "manifest.json"
    if manifest.exists():
        return bool(read_json(manifest, advice=MANIFEST_ADVICE).get("format") == FORMAT)
    return (root / "plan.json").exists() and read_json(root / "plan.json").get("format") == FORMAT


def lock(root: Path) -> FileLock:
    """Create the folder if needed and take its lock, which lasts until it is released or its process ends.

    Raises:
        ValueError: the folder can't be written, the lock is a link or no file, or another process holds it (its id is
            named).
    """
    path = root / LOCK
    # Never the kind of lock that is a mere file and outlives a process that is killed. Links are not followed.
    taken = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False, on_acquired=_note_holder)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ValueError(f"{path}: a link or no file, which cpt does not write to; remove it")
        taken.acquire()
    except Timeout:
        holder = path.read_bytes()[:32].decode(errors="replace").strip() or "unknown"
        raise ValueError(
            f"{root}: in use by another cpt, process {holder}; wait for it, end it, or choose another --out"
        ) from None
    except OSError as error:
        raise ValueError(f"{root}: can't be written ({error.strerror}); choose another --out") from error
    return taken


def _note_holder(descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def delete_run(root: Path) -> None:
    """Delete the files of a run, and only those. The caller has checked that it is one, and holds its lock."""
    for name in OWNED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    fsync_dir(root)
