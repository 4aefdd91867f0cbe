"""Ends a local Ray with the run that started it, however that ends: `python -I -S reaper.py FOLDER`.

Ray's own processes watch each other, which takes up to a minute, and not at all those that were still starting when the
run was killed. This one, started before Ray, waits until the run closes its end of standard input or is gone; then it
kills every process of that Ray, and removes its folder. It imports the standard library alone.

If Ray dies first, its library may end the run's process without a word. Then the line about it comes from here. For
that the run writes on standard input which processes Ray can't do without (`watch 12 34`), `died` as soon as it sees
one of them end, and `told` when nothing is to be told any more.
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

MARK = "CPT_RAY_FOLDER"  # in the environment of all that belongs to a local Ray
DIED = "Ray died (killed, or out of memory); the same command again goes on from here"
_LOOK_SECONDS = 0.2
_RUN_SECONDS = 60.0  # that a run may take to end when its Ray has died
_PATIENCE = 20.0  # seconds after which a process that can't be killed is left alone


def main(folder: str) -> None:
    """Wait for the end of the run, or of Ray, then tidy up."""
    told, died = wait(os.getppid(), folder)
    if died and not told:
        with suppress(OSError):  # nobody is there to read it
            os.write(2, f"cpt: error: {DIED}\n".encode())
    end_all(folder)
    shutil.rmtree(folder, ignore_errors=True)


def wait(run: int, folder: str) -> tuple[bool, bool]:
    """Until the run has ended: whether it has said so, and whether Ray had died before."""
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
            end_all(folder)  # before what is left of Ray tells about it at length
        if gone:  # or the loop would not rest any more
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
            kill(run)  # it waits inside of Ray
    return b"told" in said, bool(died_at) or b"died" in said


def wake_at_end(processes: list[int], events: select.poll) -> list[int]:
    """Have `events` wake up as soon as one of the processes has ended. Returns the descriptors that it waits for."""
    descriptors = []
    for process in processes:
        with suppress(OSError):  # it has just ended, or the kernel is older than 5.3: looking now and then has to do
            descriptors.append(os.pidfd_open(process))
            events.register(descriptors[-1], select.POLLIN)
    return descriptors


def end_all(folder: str) -> None:
    """Kill every process of the Ray, those too that are only just being started."""
    end, quiet = time.monotonic() + _PATIENCE, 0
    while quiet < 2 and time.monotonic() < end:  # when nobody is seen twice in a row, nobody has children coming
        found = processes_of(folder)
        for process in found:
            kill(process)
        quiet = 0 if found else quiet + 1
        time.sleep(0.05)


def processes_of(folder: str) -> list[int]:
    """Processes of the Ray whose folder this is: marked in their environment, or called by Ray and at work in it.

    Ray's agents overwrite their environment with their names, so that the mark can't be read there.
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
    except OSError:  # it has ended meanwhile, or is another user's
        return False


def name_of(process: int) -> str | None:
    """As the system lists it; None if it has ended."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(") ")
    return None if rest.startswith("Z") else name


def kill(process: int) -> None:
    """SIGKILL, if it still is there."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
