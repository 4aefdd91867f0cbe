"""Ends a local Ray when the run that started it ends for any reason: `python -I -S reaper.py FOLDER`.

When a run is killed, Ray's own processes take up to a minute to end, and those still starting never do. This program is
started before Ray. It waits until the run closes its standard input or has ended, then kills every process of that Ray
and removes its folder. It imports only the standard library.

If Ray dies first, its library may end the run's process without a message; then this program prints one. To know that,
it reads from standard input: `watch 12 34` (the processes that Ray needs), `died` (one of them has ended) and `told`
(the run has printed the message itself, or there is nothing to say).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "CPT_RAY_FOLDER"  # environment variable of every process of a local Ray
DIED = "Ray died (killed, or out of memory); the same command again goes on from here"
_LOOK_SECONDS = 0.2
_RUN_SECONDS = 60.0  # for a run to end after its Ray has died
_PATIENCE = 20.0  # seconds after which a process that can't be killed is ignored


def main(folder: str) -> None:
    """Wait until the run or Ray has ended, then clean up."""
    told, died = wait(os.getppid(), folder)
    if died and not told:
        with suppress(OSError):  # the reader is gone
            os.write(2, f"cpt: error: {DIED}\n".encode())
    end_all(folder)
    shutil.rmtree(folder, ignore_errors=True)


def wait(run: int, folder: str) -> tuple[bool, bool]:
    """Wait until the run has ended. Returns whether it has told the user, and whether Ray died before it."""
    events = select.poll()
    events.register(0, select.POLLIN)
    said, died_at = b"", 0.0
    vital: list[int] = []
    ends: list[int] = []
    while os.getppid() == run:
        ready = [descriptor for descriptor, _ in events.poll(1000 * _LOOK_SECONDS)]
        gone = any(name_of(process) is None for process in vital)
        if gone and not died_at and b"told" not in said and os.getppid() == run and name_of(run) is not None:
            died_at = time.monotonic()
            end_all(folder)  # before the rest of Ray prints pages about it
        if gone:  # an ended process would wake every poll
            for descriptor in ends:
                events.unregister(descriptor)
            ends = []
        if 0 in ready:
            piece = os.read(0, 4096)
            if not piece:
                break
            said += piece
            if not vital and b"watch " in said:
                vital = [int(one) for one in said.partition(b"watch ")[2].partition(b"\n")[0].split()]
                ends = wake_at_end(vital, events)
        if died_at and time.monotonic() - died_at > _RUN_SECONDS:
            kill(run)  # it hangs inside Ray
    return b"told" in said, bool(died_at) or b"died" in said


def wake_at_end(processes: list[int], events: select.poll) -> list[int]:
    """Make `events` wake up when one of the processes ends. Returns the descriptors that it waits for."""
    descriptors = []
    for process in processes:
        with suppress(OSError):  # it has just ended, or the kernel is older than 5.3: the caller polls anyway
            descriptors.append(os.pidfd_open(process))
            events.register(descriptors[-1], select.POLLIN)
    return descriptors


def end_all(folder: str) -> None:
    """Kill every process of the Ray, including those that are just starting."""
    end, quiet = time.monotonic() + _PATIENCE, 0
    while quiet < 2 and time.monotonic() < end:  # none found twice in a row: none is left to start more
        found = processes_of(folder)
        for process in found:
            kill(process)
        quiet = 0 if found else quiet + 1
        time.sleep(0.05)


def processes_of(folder: str) -> list[int]:
    """Processes of the Ray with this folder: marked in their environment, or named by Ray and with files open in it.

    Ray's agents overwrite their environment with their names, so the mark can't be read there.
    """
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _belongs(entry, folder)]


def _belongs(process: Path, folder: str) -> bool:
    try:
        if f"\0{MARK}={folder}\0".encode() in b"\0" + (process / "environ").read_bytes() + b"\0":
            return True
        if not (process / "cmdline").read_bytes().startswith(b"ray::"):
            return False
        opened = [process / "cwd", *(process / "fd").iterdir()]
        return any(os.readlink(link).startswith(f"{folder}/") for link in opened)
    except OSError:  # it has ended, or belongs to another user
        return False


def name_of(process: int) -> str | None:
    """The process's name; None if it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(") ")
    return None if rest.startswith("Z") else name


def kill(process: int) -> None:
    """Send SIGKILL, unless the process has ended."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
