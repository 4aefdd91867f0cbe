"""Nothing of a pool outlives the process that started it, however that process ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stages import interruptible, random_model

pytest.importorskip("ray")
pytestmark = pytest.mark.smoke

DRIVER = """
import json, os, sys
import ray
from cpt.rollout.pool import RolloutPool
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=128 << 20, logging_level="ERROR", log_to_driver=False)
pool = RolloutPool.start(sys.argv[1], engine="hf", max_model_len=64)
print(json.dumps(pool.info()), flush=True)
sys.stdin.read()
"""


def descendants(pid: int) -> set[int]:
    """Process ids of everything that a process started, and what that started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # gone meanwhile
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_engines_end_with_their_driver(how: signal.Signals, tmp_path: Path):
    model = random_model(tmp_path / "model")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=interruptible,
    )
    assert driver.stdout is not None
    line = driver.stdout.readline()
    assert line, driver.communicate()[1].decode()
    (info,) = json.loads(line)
    # Ray's two agents of a node take a minute to notice that there is nobody left to report to; they hold nothing.
    agents = {pid for pid in descendants(driver.pid) if "Agent" in Path(f"/proc/{pid}/cmdline").read_text()}
    processes = (descendants(driver.pid) | {info["pid"]}) - agents
    assert len(processes) > 3
    os.kill(driver.pid, how)
    driver.wait(timeout=60)
    end = time.monotonic() + 60
    while left := [pid for pid in processes if alive(pid)]:
        assert time.monotonic() < end, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
        time.sleep(0.2)
