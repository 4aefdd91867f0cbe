"""Where things lie in a run folder, and whose folder it is: lock, deletion, refusal of a changed recipe."""

from __future__ import annotations

import difflib
import fcntl
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cpt.files import fsync_dir, read_json

FORMAT = "cpt-run"
FORMAT_VERSION = 1
# What `--fresh` may delete: the things cpt itself puts into a run folder, never a stranger's file. The manifest goes
# last: a kill in between leaves a folder that still is recognised as a run.
OWNED = (
    *("arms", "base", "recipe.yaml", "plan.json", "events.jsonl", "summary.json", "report.html"),
    *("rewards.html", "rewards.json", "rewards.parquet", "manifest.json"),
)
LOCK = ".lock"


def default_folder(name: str) -> Path:
    """Where a command writes what is called `name`, unless `--out` says otherwise."""
    return Path("runs") / name


class RecipeLike(Protocol):
    """What the run folder needs to know of a recipe."""

    @property
    def name(self) -> str: ...
    @property
    def seeds(self) -> Sequence[int]: ...

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
    """Where the files of one stage are. Only paths, absolute ones: can be sent to a worker process."""

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
    def done(self) -> Path:
        return self.root / "DONE.json"

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
    # Without a manifest only what an interrupted creation leaves may be taken over.
    strangers = [name for name in names if name not in {LOCK, "recipe.yaml"} and not name.endswith(".tmp")]
    if strangers:
        listed = ", ".join(strangers[:3]) + (", …" if len(strangers) > 3 else "")
        raise ValueError(
            f"{root}: not empty and no cpt run (it holds {listed}, no manifest.json); choose another --out"
        )


def is_run(root: Path) -> bool:
    """Whether the folder carries the manifest of a cpt run."""
    path = root / "manifest.json"
    if not path.is_file():
        return False
    found = read_json(path)
    return isinstance(found, dict) and found.get("format") == FORMAT


def lock(root: Path) -> int:
    """Create the folder if needed and take its lock; the lock lasts until the returned descriptor is closed.

    Raises:
        ValueError: the folder can't be written, or another process holds it (its id is named).
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ValueError(f"{root}: can't be written ({error.strerror}); choose another --out") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ValueError(
            f"{root}: in use by another cpt, process {holder}; wait for it, end it, or choose another --out"
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def delete_run(root: Path) -> None:
    """Delete an earlier run's files, and only those. The caller knows that it is a run, and holds its lock."""
    for name in OWNED:
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    fsync_dir(root)


def check_same_recipe(root: Path, recipe: RecipeLike) -> None:
    """ValueError, with the difference, if the folder holds a run of another recipe or of another format."""
    found = read_json(root / "manifest.json")
    if found.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{root}: a run of format {found.get('format_version')}, this cpt writes {FORMAT_VERSION}; "
            "use the cpt that made it, choose another --out, or --fresh to delete it and start anew"
        )
    if found.get("recipe_hash") == recipe.resolved_hash():
        return
    stored = root / "recipe.yaml"
    old = stored.read_text(encoding="utf-8").splitlines() if stored.exists() else []
    new = recipe.dump_yaml().splitlines()
    diff = "\n".join(difflib.unified_diff(old, new, str(stored), "the recipe given", lineterm="", n=2))
    raise ValueError(
        f"{root}: holds a run of another recipe; choose another --out, or --fresh to delete it and start anew\n"
        f"{diff or '(the same text, which this version of cpt resolves differently)'}"
    )
