"""Where a run's own Ray lives: a private folder that goes with the run, the loopback alone, and a token of its own."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import cpt
from cpt.common.errors import RunFailed
from cpt.common.processes import WORKING_FOLDER
from cpt.common.terminal import without_working_folder
from cpt.run import reaper

logger = logging.getLogger(__name__)

_SOCKET_PATH = 107  # bytes, of Linux; macOS has 103
_OWN = "/cpt-XXXXXXXX/r"  # Ray opens what it is given to everybody (0777), so it is given a folder in a private one
_SESSION = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # the longest name that Ray puts below it
LONGEST = _SOCKET_PATH - len(_OWN) - len(_SESSION)  # bytes of a folder's path in which Ray's sockets fit
_EVERYWHERE = ("/tmp", "/var/tmp")
_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_ANSWER_SECONDS = 5.0
_TIDY_SECONDS = 30.0
_LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def choose_folder(environment: Mapping[str, str], longest: int = LONGEST) -> tuple[Path, str]:
    """The folder in which a run's Ray gets its own: RAY_TMPDIR, TMPDIR, /tmp or /var/tmp, the first that serves.

    Returns:
        The folder, and a line for the user if it is not the one that the environment asks for.

    Raises:
        ValueError: none of them has a path short enough for Ray's sockets and can be written.
    """
    asked = {name: environment[name] for name in ("RAY_TMPDIR", "TMPDIR") if environment.get(name)}
    refused = []
    for name, folder in [*asked.items(), *(("", folder) for folder in _EVERYWHERE)]:
        path = os.path.abspath(folder)
        shown = f"{name}={folder}" if name else folder
        if len(os.fsencode(path)) > longest:
            refused.append(f"{shown} is too long for the path of a socket (at most {longest} bytes)")
        elif not os.path.isdir(path) or not os.access(path, os.W_OK | os.X_OK):
            refused.append(f"{shown} is no folder that can be written")
        else:
            return Path(path), f"Ray's files go to {path}: {'; '.join(refused)}" if refused else ""
    raise ValueError(
        f"Ray finds no folder for its files: {'; '.join(refused)}; set RAY_TMPDIR to a folder that can be written, "
        f"with a path of at most {longest} bytes"
    )


def environment_of(environment: Mapping[str, str], folder: str, working_folder: str) -> dict[str, str]:
    """What a local Ray's processes find in their environment, beside what the driver has in its own.

    Args:
        environment: the driver's.
        folder: Ray's private one.
        working_folder: the driver's.
    """
    package = Path(cpt.__file__).resolve().parents[1]
    entries = environment.get("PYTHONPATH", "")
    path = without_working_folder(entries.split(os.pathsep) if entries else (), working_folder, package)
    if not {"site-packages", "dist-packages"} & set(package.parts):  # a clone: from there, and from no other one
        path.insert(0, str(package))
    return {
        # By this name Ray calls the choice between all interfaces and the loopback, on any system.
        _LOOPBACK_ONLY: "0",
        # What vLLM and torch.distributed open for themselves; by default at the address of the machine's name.
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        # Neither the folder of a script nor the working folder goes before the installed packages.
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(os.path.join(working_folder, entry) for entry in path),
        WORKING_FOLDER: working_folder,
        reaper.MARK: folder,
    }


@cache
def token() -> dict[str, str]:
    """The variables of the token without which everybody on this machine could have a run's processes execute code.

    One token for the life of the driver: Ray reads it once.
    """
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def reread_environment() -> None:
    """Let Ray's library take its settings, the token among them, from the environment as it is now.

    It has read them when it was imported, which may have been before they were set.
    """
    import ray

    ray._raylet.Config.initialize("")


def check_loopback() -> None:
    """RunFailed if this machine can't reach itself: Ray would wait for itself without a word."""
    reasons = []
    for family, address in _LOOPBACKS:
        try:
            with socket.create_server((address, 0), family=family) as server:
                socket.create_connection(server.getsockname()[:2], _ANSWER_SECONDS).close()
            return
        except OSError as error:
            reasons.append(f"{address}: {os.strerror(error.errno) if error.errno else error}")
    raise RunFailed(
        f"this machine can't reach itself over the loopback ({'; '.join(reasons)}), which Ray needs; bring it up, as "
        "in `ip link set lo up`"
    )


class PrivateFolder:
    """A folder that nobody else may enter, with `r` for Ray and `empty`, where it starts.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        for name in ("r", "empty"):
            os.mkdir(self.path / name)
        command = [sys.executable, "-I", "-S", reaper.__file__, path]
        self._reaper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd="/", start_new_session=True
        )

    def watch(self, processes: Sequence[int]) -> None:
        """Tell the reaper which processes Ray can't do without."""
        self._say(f"watch {' '.join(map(str, processes))}")

    def died(self) -> None:
        """Tell it that one of them has ended: Ray's library may be about to end this process."""
        self._say("died")

    def told(self) -> None:
        """Tell it that this process is about to end Ray itself, or tells of its end."""
        self._say("told")

    def close(self) -> None:
        """End what is left of Ray, and remove the folder."""
        self.told()
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # it goes on without this process
            self._reaper.wait(_TIDY_SECONDS)

    def _say(self, line: str) -> None:
        assert self._reaper.stdin is not None
        with suppress(BrokenPipeError):  # somebody has killed the reaper
            self._reaper.stdin.write(f"{line}\n".encode())
            self._reaper.stdin.flush()


@contextmanager
def private_folder() -> Iterator[PrivateFolder]:
    """A folder for a local Ray. It goes with the block, and so does all that Ray still has running.

    Or with this process, if that is killed: see `cpt.run.reaper`.
    """
    base, note = choose_folder(os.environ)
    if note:
        logger.warning(note)
    folder = PrivateFolder(tempfile.mkdtemp(prefix="cpt-", dir=base))  # 0700
    try:
        yield folder
    finally:
        folder.close()


@contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """Environment and working folder in which Ray is to start, for the length of a block; what it starts keeps them.

    Ray puts the driver's working folder before the installed packages of every worker, so it starts from an empty one.
    """
    with changed(environment_of(os.environ, str(folder), os.getcwd())), inside(folder / "empty"):
        _set_loopback_only(True)  # where Ray has been imported before, the variable comes too late
        try:
            yield
        finally:
            _set_loopback_only(False)  # a cluster elsewhere has to be told an address at which this machine is reached


@contextmanager
def changed(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment of this process with other values, for the length of a block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _set_loopback_only(only: bool) -> None:
    constants: Any = sys.modules.get("ray._private.ray_constants")
    if constants is not None:
        constants.ENABLE_RAY_CLUSTER = not only and not constants.IS_WINDOWS_OR_OSX


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """This process in another working folder, for the length of a block."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
