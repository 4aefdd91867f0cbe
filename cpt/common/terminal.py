"""The process around a command: its output, what Ctrl-C does, and where Python looks for modules.

A training of hours must not end because a line of progress can't be printed: the terminal was closed, the log's disk is
full, or the character set knows no minus sign.
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
_CURSOR = b"\x1b[?25h\n"  # shows it again: a live table hides it
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
    """For `codecs`: what can't be encoded in plain letters, or a question mark; a minus sign stays a minus sign."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(_READABLE.get(char, "?") for char in error.object[error.start : error.end]), error.end


codecs.register_error("cpt.readable", _readable)


class Output(io.TextIOBase):
    """A text stream that never raises: after the first failure it drops what it is given, and remembers the failure.

    Attributes:
        failure: the first one, or None.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failure: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cpt.readable")

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream; rich and typer draw by it."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Write, or drop. What Ray has to say of the death of a process is pages; cpt says it in a line."""
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
        """Of the stream."""
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
        """Let what waits in the stream's buffer go nowhere, or Python would try to write it again at its end."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def lasting_output() -> Iterator[Output]:
    """Standard output and error as `Output` for the length of a block, which gets the former.

    A stream that was closed before the start becomes /dev/null: its number would otherwise go to the next file opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
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
    """Why standard output could not be written, for a message; None if it could, or if its reader has just left."""
    if out.failure is None or out.failure.errno == errno.EPIPE:
        return None
    return f"standard output can't be written ({out.failure.strerror})"


class CtrlC:
    """Handles SIGINT, and SIGTERM where a caller sets it for that, too.

    The first one is a KeyboardInterrupt, which lets a command tidy up. A second one within a second is the same press
    of an impatient hand; a later one ends the process at once, with one line and exit code 130. Nothing is lost then
    either: what a run has finished is on disk, and its Ray ends with it.
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
    """End this process from wherever it is, with a line on standard error."""
    with suppress(OSError):  # nobody is there to read it
        if os.isatty(1):
            os.write(1, _CURSOR)
        if line:
            os.write(2, f"{line}\n".encode())
    os._exit(code)


ctrl_c = CtrlC()


@contextmanager
def patient_interrupts() -> Iterator[None]:
    """Ctrl-C goes to a fresh `ctrl_c` for the length of a block; not where it is ignored, as after nohup."""
    global ctrl_c
    ctrl_c = CtrlC()
    main = threading.current_thread() is threading.main_thread()  # no other one may set handlers
    if not main or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, ctrl_c)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end_on_interrupt() -> None:
    """Of a process that is done: Ctrl-C while Python tidies up ends it without a word."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def leave_working_folder() -> None:
    """Take the working folder off this process's search path, see `without_working_folder`."""
    with suppress(FileNotFoundError):  # it has been deleted: nothing can be found there
        sys.path[:] = without_working_folder(sys.path, os.getcwd(), Path(__file__).resolve().parents[2])


def without_working_folder(entries: Iterable[str], folder: str, package: Path) -> list[str]:
    """A search path for modules without the working folder, unless that is a clone of cpt, or where packages lie.

    With it, any `rewards.py` or `yaml.py` beside a recipe would be imported in the place of a package.

    Args:
        entries: of sys.path or PYTHONPATH; an empty one is the working folder.
        folder: the working folder.
        package: the folder that holds the package `cpt`.
    """
    packages = {"site-packages", "dist-packages"} & set(Path(folder).parts)
    if packages or os.path.realpath(package) == os.path.realpath(folder):
        return list(entries)
    return [entry for entry in entries if entry and os.path.realpath(entry) != os.path.realpath(folder)]
