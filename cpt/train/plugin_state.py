"""What plug-ins keep in a stage's checkpoints, each in a folder of its own, with a list of what belongs there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.common.files import read_json, write_json_atomic

if TYPE_CHECKING:
    from cpt.methods.plugin import Plugin

FOLDER = "plugins"
LIST = "plugins.json"
"""In the checkpoint: name of a plug-in → its files and their sizes in bytes. Written after all of them."""


def save_states(plugins: Mapping[str, Plugin], checkpoint: Path) -> None:
    """Let every plug-in write into a checkpoint."""
    written: dict[str, dict[str, int]] = {}
    for name, plugin in plugins.items():
        folder = checkpoint / FOLDER / name
        folder.mkdir(parents=True)
        plugin.save(folder)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        written[name] = {str(file.relative_to(folder)): file.stat().st_size for file in files}
    write_json_atomic(checkpoint / LIST, written)


def load_states(plugins: Mapping[str, Plugin], checkpoint: Path) -> None:
    """Let every plug-in read what it has written there."""
    for name, plugin in plugins.items():
        plugin.load(checkpoint / FOLDER / name)


def missing_state(checkpoint: Path, plugins: Iterable[str]) -> str | None:
    """Which of these plug-ins' files is not there, or not of its full length; None if all are."""
    wanted = list(plugins)
    if not wanted:
        return None
    if not (checkpoint / LIST).is_file():
        return f"{LIST} is missing"
    written = read_json(checkpoint / LIST)  # its sizes and those of its files are in the checkpoint's own list
    for name in wanted:
        if name not in written:
            return f"{LIST} does not know {name}"
        for file, size in written[name].items():
            path = checkpoint / FOLDER / name / file
            if not path.is_file() or path.stat().st_size != size:
                return f"{FOLDER}/{name}/{file} missing or cut off"
    return None
