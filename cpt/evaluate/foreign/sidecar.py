"""harness.json, which `cpt eval --via` leaves beside its records: who scored, how, and the digests of the logs."""

from __future__ import annotations

from pathlib import Path

from cpt.common.digests import differing
from cpt.common.files import read_json

SIDECAR = "harness.json"
_DEPTH = 3  # <out>/<harness>/<model>/<file>


def version_beside(path: Path) -> str:
    """The version of the program that wrote a log, where `cpt eval --via` ran it; empty elsewhere.

    Raises:
        ValueError: the log is not the one that was written.
    """
    path = path.absolute()
    for folder in path.parents[:_DEPTH]:
        if not (folder / SIDECAR).is_file():
            continue
        about = read_json(folder / SIDECAR, sealed=True, advice="copy the folder again")
        name = path.relative_to(folder).as_posix()
        if name in about.get("files", {}):
            if problem := differing(folder, {name: about["files"][name]}):
                raise ValueError(f"{problem}; copy the folder again")
            return str(about["version"])
    return ""
