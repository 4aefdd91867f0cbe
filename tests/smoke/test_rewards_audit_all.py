"""`cpt rewards audit --all`: every shipped reward against every attack, mathematics in its worker process included."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rewards.registry import names

pytestmark = pytest.mark.smoke


def test_every_shipped_reward_passes_its_audit():
    command = [sys.executable, "-m", "cpt.cli", "rewards", "audit", "--all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    assert [line.partition(":")[0] for line in done.stdout.splitlines() if ": passed" in line] == names()
