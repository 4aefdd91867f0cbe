"""A worker process for mathematics that can be killed: asked from any thread, replaced when it hangs or dies."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_SCRIPT = Path(__file__).with_name("maths_worker.py")
_START_SECONDS = 120.0  # importing sympy on a busy machine
_END_SECONDS = 5.0


class MathsProcess:
    """One worker at most, started when first asked. Callers in other threads wait for their turn.

    A process of its own rather than a thread: math-verify's time limit is `signal.alarm`, which works on main threads
    only, and neither that nor a thread stops a power that is being computed in C. Started by `subprocess` rather than
    forked: this process may hold torch, CUDA and Ray.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return None if self._process is None else self._process.pid

    def equal(self, gold: Sequence[str], answer: str, limit: float) -> bool:
        """Whether the answer equals one of the accepted ones as mathematics.

        Args:
            limit: seconds for this one question; starting the worker does not count.

        Raises:
            TimeoutError: not decided within the limit. The worker is killed; the next question gets a new one.
            RuntimeError: math-verify raised, or the worker could not start or ended (crash, memory).
        """
        request = json.dumps({"gold": list(gold), "answer": answer, "limit": limit}) + "\n"
        with self._lock:
            process = self._process or self._start()
            reply = self._ask(process, request.encode(), limit)
        if "error" in reply:
            raise RuntimeError(f"math-verify raised {reply['error']}")
        equal: bool = reply["equal"]  # type: ignore[assignment]
        return equal

    def close(self) -> None:
        """End the worker, if there is one, and wait for it."""
        with self._lock:
            self._end(_END_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        # -P: this folder has modules named like the standard library's; they must not come first.
        command, pipe = [sys.executable, "-P", str(_SCRIPT)], subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0)
        self._process = process
        try:
            self._ask(process, b"", _START_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"the process that runs math-verify did not start in {_START_SECONDS:g} s") from None
        return process

    def _ask(self, process: subprocess.Popen[bytes], request: bytes, limit: float) -> dict[str, object]:
        """Send a line and read the next one. A worker that did not answer is of no more use: it is ended."""
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
            raise RuntimeError(f"the process that runs math-verify {how}")
        reply: dict[str, object] = json.loads(line)
        return reply

    def _end(self, patience: float) -> None:
        """Closing its stdin ends a worker that is idle; any other is killed after `patience` seconds. Reaps it."""
        process, self._process = self._process, None
        if process is None:
            return
        _close_pipes(process)
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _forget(self) -> None:
        """In a forked child: the worker is the parent's, and the lock may be held by a thread that is not here."""
        self._lock = threading.Lock()
        process, self._process = self._process, None
        if process is not None:
            _close_pipes(process)
            process.returncode = 0  # not ours to wait for


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


shared = MathsProcess()
"""The worker of this process."""
atexit.register(shared.close)
os.register_at_fork(after_in_child=shared._forget)
