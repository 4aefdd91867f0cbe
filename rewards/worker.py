"""A process that can be killed, for code that may run for ever, crash, take all memory or end its process.

Mathematics (`rewards.maths_process`) and users' rewards (`rewards.python_file`) run in such processes. Not in threads:
nothing stops a thread that computes in C. Started by `subprocess` rather than forked: this process may hold torch, CUDA
and Ray. Not by multiprocessing or a pool upon it, such as pebble's: its processes run the caller's main module again,
their answers are pickles, they can't be started in a daemonic process nor asked in a forked one, and what they have
started themselves outlives their end.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

_END_SECONDS = 5.0


class Worker:
    """One process at most, started when first asked. Callers in other threads wait for their turn.

    It runs a file of this package, which prints `{"ready": true}` and then answers every line of its stdin with one
    line of JSON until stdin ends.
    """

    def __init__(self, script: Path, what: str, start_seconds: float, *, shows: bool = False) -> None:
        """What it is called in messages, how long it may take to start, and whether what it prints is shown."""
        self.script, self.what, self.start_seconds, self.shows = script, what, start_seconds, shows
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        _workers.add(self)

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def turn(self) -> threading.RLock:
        """Hold it for several requests that belong together."""
        return self._lock

    def ask(self, line: bytes, limit: float) -> dict[str, Any]:
        """The answer to a request, which is one line.

        Args:
            limit: seconds for this one request; starting the process does not count.

        Raises:
            TimeoutError: no answer within the limit. The process is killed; the next request gets a new one.
            RuntimeError: the process could not start, or it ended (crash, memory).
        """
        with self._lock:
            return self._ask(self._process or self._start(), line + b"\n", limit)

    def close(self) -> None:
        """End the process, if there is one, and wait for it."""
        with self._lock:
            self._end(_END_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: this folder has modules named like the standard library's; they must not come first.
        command, pipe = [sys.executable, "-P", str(self.script)], subprocess.PIPE
        # Its own session: Ctrl-C goes to the parent only, and child processes can be ended with it.
        process = subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=None if self.shows else subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        self._process = process
        try:
            self._ask(process, b"", self.start_seconds)
        except TimeoutError:
            raise RuntimeError(f"{self.what} did not start in {self.start_seconds:g} s") from None
        return process

    def _ask(self, process: subprocess.Popen[bytes], request: bytes, limit: float) -> dict[str, Any]:
        """Send a line and read the next one. A process that does not answer is ended."""
        line = None
        try:
            _write(process, request)
            line = _read_line(process, limit)
        finally:
            if not line:  # None: it hangs, or this thread was interrupted; empty: it ended by itself
                self._end(0.0 if line is None else _END_SECONDS)
        if not line:
            code = process.returncode
            how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            raise RuntimeError(f"{self.what} {how}")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _end(self, patience: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _close_pipes(process)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _forget(self) -> None:
        """In a forked child: the process belongs to the parent, and the lock may be held by a thread of the parent."""
        self._lock = threading.RLock()
        process, self._process = self._process, None
        if process is not None:
            _close_pipes(process)
            process.returncode = 0  # not ours to wait for

    def __del__(self) -> None:
        """Nobody can ask any more."""
        self._end(0.0)


def _write(process: subprocess.Popen[bytes], request: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it is gone; reading from it will say so
        while request:
            request = request[process.stdin.write(request) :]


def _read_line(process: subprocess.Popen[bytes], limit: float) -> bytes:
    """The next line; empty if the process has ended. TimeoutError if there is none within the limit."""
    assert process.stdout is not None
    readable = select.poll()
    readable.register(process.stdout, select.POLLIN)
    end = time.monotonic() + limit
    line = b""
    while not line.endswith(b"\n"):
        if not readable.poll(max(end - time.monotonic(), 0.0) * 1000):
            raise TimeoutError(f"not decided within {limit:g} s")
        piece = os.read(process.stdout.fileno(), 1 << 16)
        if not piece:
            return b""
        line += piece
    return line


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.stdout.close()


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def _close_all() -> None:
    for worker in list(_workers):
        worker.close()


def _forget_all() -> None:
    for worker in list(_workers):
        worker._forget()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_all)
