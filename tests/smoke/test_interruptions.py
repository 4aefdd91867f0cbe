"""Whatever is killed, the same command ends with the same records, and no process outlives its run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from stages import interruptible

from cpt.files import read_records
from cpt.store import RunStore

pytestmark = pytest.mark.smoke

STEPS = 6
RECIPE = f"""
version: 1
name: interrupted
model: {{name_or_path: builtin/tiny-qwen2_5-vl}}
tasks: [which-row]
general: [exists]
prompt: direct
data: {{samples: 64}}
evaluation: {{samples: 24}}
drift: {{samples: 2}}
rollout: {{engine: vllm}}
arms:
  grpo:
    method: {{type: grpo, learning_rate: 1.0e-4, max_steps: {STEPS}, num_generations: 4,
             per_device_train_batch_size: 32, save_steps: 1}}
"""
PATIENCE = 900  # seconds until something that must happen counts as not happening; other tests may have the other core


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "interrupted.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert start(recipe, out).wait(PATIENCE) == 0, (out / "log").read_text()
    return out


def start(recipe: Path, out: Path) -> subprocess.Popen[bytes]:
    log = (out / "log").open("ab") if out.exists() else subprocess.DEVNULL
    command = [sys.executable, "-m", "cpt.cli", "run", str(recipe), "--out", str(out / "run")]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, preexec_fn=interruptible)


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"{what}: not after {PATIENCE} s"
        time.sleep(0.1)


def steps_logged(out: Path) -> int:
    (found,) = list((out / "run").glob("arms/*/*/*/metrics.jsonl")) or [None]
    return len(found.read_text().splitlines()) if found else 0


def children(driver: subprocess.Popen[bytes], name: str = "") -> list[psutil.Process]:
    alive = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        try:
            if name in " ".join(process.cmdline()):
                alive.append(process)
        except psutil.NoSuchProcess:
            continue
    return alive


def results(out: Path) -> tuple[list[object], list[tuple[int, float]]]:
    """Every record, and reward by step."""
    store = RunStore(out / "run")
    stage = store.stage_dir("grpo", 0, 1, "which-row")
    records = [*read_records(store.base_dir(0, "direct").records), *read_records(stage.records)]
    rows = [json.loads(line) for line in stage.metrics.read_text().splitlines()]
    return list(records), [(row["step"], row["reward"]) for row in rows]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path


def split_agents(driver: subprocess.Popen[bytes]) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The driver's processes, and Ray's two agents of a node apart: those take up to a minute to notice its end."""
    agents = children(driver, "Agent")
    return [process for process in children(driver) if process not in agents], agents


def ended(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def kill(driver: subprocess.Popen[bytes], name: str) -> None:
    found = children(driver, name)
    assert found, name
    for process in found:
        process.kill()


def test_whatever_ends_before_its_time_the_run_ends_as_if_nothing_had(recipe: Path, out: Path, undisturbed: Path):
    driver = start(recipe, out)
    until(lambda: steps_logged(out) >= 1, "a step")
    kill(driver, "ray::EngineActor")
    until(lambda: steps_logged(out) >= 2, "a step with another engine")
    kill(driver, "ray::TrainWorker")
    until(lambda: "going on from its last checkpoint" in (out / "log").read_text(), "the end of the trainer")
    until(lambda: steps_logged(out) >= 3, "a step with another trainer")
    family, agents = split_agents(driver)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(PATIENCE) == 130, (out / "log").read_text()
    until(lambda: ended(family), "the end of all after Ctrl-C")

    driver = start(recipe, out)
    until(lambda: steps_logged(out) >= 4, "a step after Ctrl-C")
    family, more_agents = split_agents(driver)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait(PATIENCE)
    until(lambda: ended(family), "the end of all with the driver")

    assert start(recipe, out).wait(PATIENCE) == 0, (out / "log").read_text()
    assert results(out) == results(undisturbed)
    until(lambda: ended([*agents, *more_agents]), "the end of Ray's agents")
