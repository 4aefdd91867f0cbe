"""The environment of a local Ray: a private folder that ends with the run, only the loopback, and its own token."""

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
_OWN = "/cpt-XXXXXXXX/r"  # Ray makes its folder accessible to everybody (0777), so it lies in a private one
_SESSION = "/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # the longest path that Ray makes in it
LONGEST = _SOCKET_PATH - len(_OWN) - len(_SESSION)  # bytes that a folder's path may have
_EVERYWHERE = ("/tmp", "/var/tmp")
_LOOPBACKS = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))
_ANSWER_SECONDS = 5.0
_TIDY_SECONDS = 30.0
_LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def choose_folder(environment: Mapping[str, str], longest: int = LONGEST) -> tuple[Path, str]:
    """Where Ray's folder is made: the first of RAY_TMPDIR, TMPDIR, /tmp and /var/tmp that can be used.

    Returns:
        The folder, and a line for the user if it is not what the environment asks for.

    Raises:
        ValueError: none of them can be written and has a path short enough for Ray's sockets.
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
    """The variables that a local Ray's processes get in addition to the driver's.

    Args:
        environment: that of the driver.
        folder: Ray's private folder.
        working_folder: that of the driver.
    """
    package = Path(cpt.__file__).resolve().parents[1]
    entries = environment.get("PYTHONPATH", "")
    path = without_working_folder(entries.split(os.pathsep) if entries else (), working_folder, package)
    if not {"site-packages", "dist-packages"} & set(package.parts):  # a clone: import cpt from it alone
        path.insert(0, str(package))
    return {
        # Ray's switch between all interfaces and the loopback, on any system.
        _LOOPBACK_ONLY: "0",
        # For the ports that vLLM and torch.distributed open; by default at the address of the machine's name.
        "VLLM_HOST_IP": "127.0.0.1",
        "GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo",
        # Installed packages go before the folder of a script and the working folder.
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": os.pathsep.join(os.path.join(working_folder, entry) for entry in path),
        WORKING_FOLDER: working_folder,
        reaper.MARK: folder,
    }


@cache
def token() -> dict[str, str]:
    """The variables with Ray's token. Without it, any user of this machine could make the run execute code.

    One token per driver process: Ray reads it once.
    """
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def reread_environment() -> None:
    """Make Ray's library read its settings, such as the token, from the environment again.

    It reads them when it is imported, which may be before they are set.
    """
    import ray

    ray._raylet.Config.initialize("")


def check_loopback() -> None:
    """RunFailed if this machine can't reach itself; Ray would wait for ever without a message."""
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
    """A folder that no other user may enter. In it are `r`, Ray's folder, and `empty`, in which Ray starts.

    Attributes:
        path: the folder.
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
        """Tell the reaper which processes Ray needs."""
        self._say(f"watch {' '.join(map(str, processes))}")

    def died(self) -> None:
        """Tell the reaper that one of them has ended; Ray's library may end this process next."""
        self._say("died")

    def told(self) -> None:
        """Tell the reaper that it need not print a message."""
        self._say("told")

    def close(self) -> None:
        """End what is left of Ray and remove the folder."""
        self.told()
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        with suppress(subprocess.TimeoutExpired):  # the reaper continues without this process
            self._reaper.wait(_TIDY_SECONDS)

    def _say(self, line: str) -> None:
        assert self._reaper.stdin is not None
        with suppress(BrokenPipeError):  # the reaper was killed
            self._reaper.stdin.write(f"{line}\n".encode())
            self._reaper.stdin.flush()


@contextmanager
def private_folder() -> Iterator[PrivateFolder]:
    """A folder for a local Ray. It and all processes of that Ray end with the block.

    If this process is killed, they end with it: see `cpt.run.reaper`.
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
    """Set the environment and working folder in which Ray starts, within a block. Its processes keep them.

    Every worker searches the driver's working folder before the installed packages, so Ray starts in an empty folder.
    """
    with changed(environment_of(os.environ, str(folder), os.getcwd())), inside(folder / "empty"):
        _set_loopback_only(True)  # if Ray is already imported, the variable comes too late
        try:
            yield
        finally:
            _set_loopback_only(False)  # a remote cluster needs an address at which it reaches this machine


@contextmanager
def changed(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process within a block."""
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
    """Change the working folder of this process within a block."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
