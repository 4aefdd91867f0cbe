"""What all tests share: an environment without network, and reasons for what is skipped."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import zip_longest

import pytest
from hypothesis import settings

# Before any library reads them. Subprocesses and Ray's workers inherit them.
os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    VLLM_NO_USAGE_STATS="1",
    RAY_USAGE_STATS_ENABLED="0",
    TOKENIZERS_PARALLELISM="false",
    MPLBACKEND="Agg",
    # One thread is as fast as two for models this small, and does not spin at barriers on a busy machine. The processes
    # of a run set their own (cpt.rollout.threads).
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
)

# The same examples every time, and no verdict that depends on how busy the machine is.
settings.register_profile("cpt", deadline=None, derandomize=True)
settings.load_profile("cpt")


def cuda_device() -> bool:
    """Whether the NVIDIA driver lists a device; asks it, not torch, whose import takes seconds."""
    if shutil.which("nvidia-smi") is None:
        return False
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listing.returncode == 0 and "GPU" in listing.stdout


# Modules that start Ray or whole runs. Each of these tests fills two cores: in parallel they would starve each other.
ONE_AT_A_TIME = {
    "test_interruptions", "test_reward_study", "test_rewards_ray", "test_rollout_orphans", "test_rollout_pool",
    "test_train_filter", "test_train_worker",
}  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unit tests before smoke tests; tests that need a CUDA device are skipped where there is none.

    In parallel the long ones come first, and those that start Ray stand between others, which need one core.
    """
    items.sort(key=lambda item: item.get_closest_marker("smoke") is not None)
    if hasattr(config, "workerinput"):
        smoke = dict.fromkeys(item.path.stem for item in items if item.get_closest_marker("smoke"))
        alone = [name for name in smoke if name in ONE_AT_A_TIME]
        others = [name for name in smoke if name not in ONE_AT_A_TIME]
        turns = [name for pair in zip_longest(alone, others) for name in pair if name is not None]
        items.sort(key=lambda item: turns.index(item.path.stem) if item.path.stem in turns else len(turns))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not cuda_device():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and there is none"))


@pytest.fixture(scope="module", autouse=True)
def one_at_a_time(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Among parallel workers one at most is in a module of `ONE_AT_A_TIME`."""
    if request.path.stem not in ONE_AT_A_TIME or not hasattr(request.config, "workerinput"):
        yield
        return
    with open(tmp_path_factory.getbasetemp().parent / "one_at_a_time", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
