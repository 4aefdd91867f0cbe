"""The process of a command: its output, Ctrl-C, and where Python looks for modules.

A run must not end because a line of progress can't be printed: the terminal was closed, the disk of the log is full, or
the character set has no minus sign.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

INTERRUPTED = 130  # the exit code: 128 + SIGINT
GOES_ON = "cpt: interrupted; the same command again goes on from here (without --fresh)"
_SAME_PRESS = 1.0  # seconds in which a second Ctrl-C is still the first one
_CURSOR = b"\x1b[?25h\n"  # shows the cursor, which a live table hides
_OF_RAY = "ray_listen_error_messages"  # a thread of Ray 2.60's in the driver, which prints
_READABLE = {
    "−": "-",
    "–": "-",
    "—": "-",
    "‑": "-",
    "×": "x",
    "±": "+-",
    "·": ".",
    "…": "...",
    "→": "->",
    "↑": "^",
    "↓": "v",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "Σ": "sum",
    "█": "#",
    "░": ".",
    "─": "-",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
}


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Error handler for `codecs`: characters that can't be encoded become similar ASCII, or a question mark."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_READABLE.get(char, "?") for char in error.object[error.start : error.end]), error.end


codecs.register_error("cpt.readable", _readable)


class Output(io.TextIOBase):
    """A text stream that never raises: after the first failure it drops all further text.

    Attributes:
        failure: the first failure, or None.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cpt.readable")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding, which rich and typer read."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Write, or drop. Ray's pages on a process that died are dropped: cpt reports it in one line."""
        if threading.current_thread().name == _OF_RAY:
            return len(text)
        return self._try(self._stream.write, text) or len(text)

    def flush(self) -> None:
        """Flush, or drop."""
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        """Whether a terminal shows it."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The stream's file descriptor."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Always."""
        return True

    def _try(self, action: Any, *arguments: Any) -> Any:
        if self.failure is not None:
            return None
        try:
            return action(*arguments)
        except OSError as error:
            self.failure = error
            self._drain()
            return None

    def _drain(self) -> None:
        """Send the stream's buffer to /dev/null; otherwise Python would try to write it again when it exits."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def lasting_output() -> Iterator[Output]:
    """Make standard output and error an `Output` within the block, which gets the one of standard output.

    A stream that is closed becomes /dev/null; otherwise the next file that is opened would get its number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    before = sys.stdout, sys.stderr
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - may be needed until Python ends
    out, err = (Output(stream or nowhere) for stream in before)
    sys.stdout, sys.stderr = out, err
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def lost(out: Output) -> str | None:
    """Why standard output could not be written; None if it could, or if only its reader has left."""
    if out.failure is None or out.failure.errno == errno.EPIPE:
        return None
    return f"standard output can't be written ({out.failure.strerror})"


class CtrlC:
    """Signal handler for SIGINT, and for SIGTERM where a caller installs it.

    The first signal raises KeyboardInterrupt, so that the command can clean up. A second one within a second is
    ignored. A later one ends the process at once, with one line and exit code 130. Finished work is on disk by then,
    and the run's Ray ends with the process.
    """

    def __init__(self) -> None:
        self.line = "cpt: interrupted"
        self._first: float | None = None
        self._told = False

    def __call__(self, *_: object) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = now
            raise KeyboardInterrupt
        if now - self._first > _SAME_PRESS:
            end_now("" if self._told else self.line, INTERRUPTED)

    def tell(self) -> None:
        """Print the line."""
        self._told = True
        print(self.line, file=sys.stderr)


def end_now(line: str, code: int) -> None:
    """End this process at once, with a line on standard error."""
    with suppress(OSError):  # the reader is gone
        if os.isatty(1):
            os.write(1, _CURSOR)
        if line:
            os.write(2, f"{line}\n".encode())
    os._exit(code)


ctrl_c = CtrlC()


@contextmanager
def patient_interrupts() -> Iterator[None]:
    """Handle Ctrl-C with a new `ctrl_c` within the block, unless the process ignores it (nohup)."""
    global ctrl_c
    ctrl_c = CtrlC()
    main = threading.current_thread() is threading.main_thread()  # only this thread may set handlers
    if not main or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_on_interrupt() -> None:
    """From now on Ctrl-C ends the process without a message: only Python's own cleanup is left."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def leave_working_folder() -> None:
    """Remove the working folder from this process's search path; see `without_working_folder`."""
    with suppress(FileNotFoundError):  # the folder is deleted, so no module can be found there
        sys.path[:] = without_working_folder(sys.path, os.getcwd(), Path(__file__).resolve().parents[2])


def without_working_folder(entries: Iterable[str], folder: str, package: Path) -> list[str]:
    """A module search path without the working folder, unless that is a clone of cpt or a folder of packages.

    A `rewards.py` or `yaml.py` beside a recipe would otherwise be imported instead of the package of that name.

    Args:
        entries: those of sys.path or PYTHONPATH; an empty one means the working folder.
        folder: the working folder.
        package: the folder that holds the package `cpt`.
    """
    packages = {"site-packages", "dist-packages"} & set(Path(folder).parts)
    if packages or os.path.realpath(package) == os.path.realpath(folder):
        return list(entries)
    return [entry for entry in entries if entry and os.path.realpath(entry) != os.path.realpath(folder)]
