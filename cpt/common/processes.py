"""What trainers and engines have in common as processes: the run's working folder, and the same code as the driver."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import cpt
import rewards
from cpt.common.errors import RunFailed

WORKING_FOLDER = "CPT_WORKING_FOLDER"  # in the environment of a local Ray, which itself starts in an empty folder


def enter_working_folder() -> None:
    """Go to the driver's working folder, for whatever of the user's code opens files beside it."""
    folder = os.environ.get(WORKING_FOLDER)
    if folder is not None and os.path.isdir(folder):
        os.chdir(folder)


def check_same_code(actors: Iterable[Any], what: str) -> None:
    """RunFailed if a process runs another copy of cpt than this one: its numbers would be another program's.

    A copy at another place with the same text, as on another machine of a cluster, is the same.

    Args:
        actors: Ray actors.
        what: to call them.
    """
    import ray

    own = _own_code()
    for folder, text in ray.get([actor.__ray_call__.remote(_code()) for actor in actors]):
        if folder != own[0] and text != own[1]:
            raise RunFailed(
                f"{what} runs another cpt, that of {folder}, than this command, that of {own[0]}; remove it from "
                "PYTHONPATH, or install the same version on every machine"
            )


def _code() -> Callable[..., tuple[str, str]]:
    """A function for another process. Made here, it is sent as it is: one imported there would be the other copy's."""

    def code(_: object = None) -> tuple[str, str]:
        text = hashlib.blake2b(digest_size=16)
        folders = [Path(package.__file__ or "").resolve().parent for package in (cpt, rewards)]
        for folder in folders:
            for file in sorted(folder.rglob("*.py")):
                text.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
        return " and ".join(map(str, folders)), text.hexdigest()

    return code


@cache
def _own_code() -> tuple[str, str]:
    return _code()()
