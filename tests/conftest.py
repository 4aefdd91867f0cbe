"""What all tests share: an environment without network, and reasons for what is skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

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


# Modules that start whole runs, in processes of their own. Each of these tests fills two cores: in parallel they would
# starve each other.
ONE_AT_A_TIME = {"test_filter_command", "test_interruptions", "test_reward_study"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In parallel a module is one worker's, and those of `ONE_AT_A_TIME` are all the same worker's."""
    from xdist.scheduler import LoadScopeScheduling

    class ByModule(LoadScopeScheduling):
        """A scope is a module, or all that start runs."""

        def _split_scope(self, nodeid: str) -> str:
            module = Path(nodeid.partition("::")[0]).stem
            return "runs" if module in ONE_AT_A_TIME else module

    return ByModule(config, log)


ONLY_WHEN_ASKED = {
    "families": "vLLM on each family of models; run them with `pytest -m families tests/smoke`",
    "real": "packages with real pictures, which are downloaded; `pytest -m real tests/unit/test_real_pictures.py`",
}


def _left_out(config: pytest.Config) -> list[str]:
    """Marks of tests that run only if `-m` names them, and is not doing so."""
    return [mark for mark in ONLY_WHEN_ASKED if mark not in config.option.markexpr]


def pytest_report_header(config: pytest.Config) -> list[str]:
    """What is left out, and how it is run."""
    return [f"left out: {ONLY_WHEN_ASKED[mark]}" for mark in _left_out(config)]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unit tests before smoke tests, in parallel after those that start runs; tests that need a CUDA device are skipped
    where there is none. Those of `ONLY_WHEN_ASKED` are left out unless asked for."""
    for mark in _left_out(config):
        left_out = [item for item in items if item.get_closest_marker(mark)]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    items.sort(key=lambda item: item.get_closest_marker("smoke") is not None)
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.stem not in ONE_AT_A_TIME)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and not cuda_device():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and there is none"))
