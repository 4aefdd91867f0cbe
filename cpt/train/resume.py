"""Going on inside a stage: which checkpoint can be trusted."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from cpt.common.digests import differing, file_digest, listing
from cpt.common.files import fsync_dir, read_json, write_json_atomic
from cpt.models.policy import trainable
from cpt.store.results import make_durable
from cpt.store.schemas import Checkpoint
from cpt.train.plugin_state import missing_state

_NAME = re.compile(r"checkpoint-(\d+)")
TRAINED = "trained.safetensors"
"""In a checkpoint: the values of all parameters that are trained."""
LIST = "DIGESTS.json"
"""In a checkpoint: whose it is, and the digest of every file. Written last."""


@dataclass(frozen=True)
class Found:
    """Where a stage can go on.

    Attributes:
        path: the checkpoint; None for a start from the beginning.
        step: optimizer steps done; 0 without a checkpoint.
        notes: what is wrong with newer checkpoints.
    """

    path: Path | None = None
    step: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Origin:
    """What a checkpoint belongs to.

    Attributes:
        key: of the stage and the training.
        beside: files outside that the stage goes on writing, such as metrics.jsonl; those that are there count.
    """

    key: str = ""
    beside: tuple[Path, ...] = ()

    def files(self) -> list[Path]:
        """Of `beside`, what is there; of a folder, all that is in it."""
        found = [file for path in self.beside for file in (path.rglob("*") if path.is_dir() else [path])]
        return sorted(file for file in found if file.is_file() and not file.name.startswith("."))


NOTHING = Origin()


def seal_checkpoint(checkpoint: Path, step: int, origin: Origin) -> None:
    """Have a checkpoint on disk, also after a power cut, and write the list that says that it is whole, last of all."""
    files = [file for file in checkpoint.rglob("*") if file.is_file() and file.name != LIST]
    beside = origin.files()
    make_durable([*files, *beside])
    outside = {os.path.relpath(file, checkpoint): file_digest(file) for file in beside}
    content = {"key": origin.key, "step": step, "files": listing(checkpoint, files), "beside": outside}
    write_json_atomic(checkpoint / LIST, content, sealed=True)
    for folder in (checkpoint, checkpoint.parent):
        fsync_dir(folder)


def last_checkpoint(folder: Path, plugins: Iterable[str] = (), origin: Origin = NOTHING) -> Found:
    """The newest checkpoint that is what was saved. Others that are newer are deleted, and the notes say so.

    Args:
        folder: holds `checkpoint-<step>` folders; may be absent.
        plugins: those whose state belongs to a checkpoint.
        origin: what it has to belong to.
    """
    names = tuple(plugins)
    notes: list[str] = []
    for step, path in reversed(_checkpoints(folder)):
        problem = what_is_wrong(path, step, names, origin)
        if problem is None:
            return Found(path, step, tuple(notes))
        notes.append(f"{path.name} can't be used ({problem}); going back to the one before")
        remove(path)
    return Found(notes=tuple(notes))


def what_is_wrong(checkpoint: Path, step: int, plugins: Iterable[str] = (), origin: Origin = NOTHING) -> str | None:
    """Why a checkpoint can't be resumed from; None if all of it is what was saved at this step of this stage."""
    if not (checkpoint / LIST).exists():
        return f"{LIST} is missing: the save was interrupted"
    try:
        saved = read_json(checkpoint / LIST, Checkpoint, sealed=True, advice="it is not used")
        if saved["step"] != step:
            return f"{LIST} belongs to another step"
        if saved["key"] != origin.key:
            return f"{LIST} belongs to another stage"
        if problem := differing(checkpoint, saved["files"]):
            return problem
        there = {file.relative_to(checkpoint).as_posix() for file in checkpoint.rglob("*") if not file.is_dir()}
        if more := sorted(there - saved["files"].keys() - {LIST}):
            return f"{more[0]} was not saved with it"
        for name, digest in saved["beside"].items():
            file = Path(os.path.normpath(checkpoint / name))
            if not file.is_file() or file_digest(file, digest["bytes"]) != digest:
                return f"{file} is not what it was when it was saved"
        if TRAINED not in there:
            return f"{TRAINED} is missing: another version of cpt saved it"
        return missing_state(checkpoint, plugins)
    except ValueError as error:
        return str(error)


def remove(path: Path) -> None:
    """Delete a checkpoint, or what stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def drop_older(folder: Path, most: int) -> None:
    """Delete all checkpoints but the newest ones, of which so many are kept."""
    for _, path in _checkpoints(folder)[:-most]:
        remove(path)


def _checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Steps and folders, the newest last."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    return sorted((int(match[1]), path) for path in entries if (match := _NAME.fullmatch(path.name)))


def save_trained(model: Any, checkpoint: Path) -> None:
    """Write what is trained of a model, by its names in memory, whatever the kind of tuning."""
    checkpoint.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().contiguous() for name, value in trainable(model).items()}, checkpoint / TRAINED)


def load_trained(model: Any, checkpoint: Path) -> None:
    """Read what `save_trained` wrote."""
    trained, saved = trainable(model), load_file(checkpoint / TRAINED)
    assert saved.keys() == trained.keys(), "a checkpoint of this stage has what this stage trains"
    for name, parameter in trained.items():
        parameter.detach().copy_(saved[name])
