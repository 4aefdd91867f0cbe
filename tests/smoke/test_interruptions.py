"""Whatever is killed, the same command ends with the same records, and no process outlives its run.

What is measured on a policy may be added when all is finished.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from stages import interruptible

from cpt.common.files import read_json
from cpt.evaluate.drift import DriftRow, read_drift
from cpt.store.records import read_records
from cpt.store.run_store import RunStore

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
WITHOUT_DRIFT = "drift.samples=0"  # of the run that is interrupted; it is measured when that has ended
PATIENCE = 900  # seconds until something that must happen counts as not happening; other tests may have the other core


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, beside files that nothing may import in the place of a package."""
    path = tmp_path_factory.mktemp("recipe") / "interrupted.yaml"
    path.write_text(RECIPE)
    for name in ("cpt", "rewards", "torch", "yaml"):
        path.with_name(f"{name}.py").write_text(f"raise SystemExit('this is no {name}')\n")
    return path


@pytest.fixture(scope="module")
def rays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where Ray's private folders are: with a path that is short enough for its sockets."""
    with TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, rays: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed")
    assert start(recipe, out, rays).wait(PATIENCE) == 0, (out / "log").read_text()
    assert list(rays.iterdir()) == []
    return out


def start(recipe: Path, out: Path, rays: Path, *overrides: str) -> subprocess.Popen[bytes]:
    """A run, as the script `cpt` starts it: Python itself would look beside the recipe after `-m` (hence -P)."""
    command = [sys.executable, "-P", "-m", "cpt.cli", "run", recipe.name, *overrides, "--out", str(out / "run")]
    with (out / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=recipe.parent,
            env={**os.environ, "RAY_TMPDIR": str(rays)},
            preexec_fn=interruptible,
        )


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


def measured(out: Path) -> list[DriftRow]:
    """The drift of the one stage."""
    return read_drift(RunStore(out / "run").stage_dir("grpo", 0, 1, "which-row").drift)


def made(out: Path) -> dict[str, tuple[int, bytes]]:
    """When every file of the stage's was written, and what it holds: all but what drift adds."""
    stage = RunStore(out / "run").stage_dir("grpo", 0, 1, "which-row")
    added = ("drift", "responses")  # the answers that drift asked for are kept with the others
    files = [path for path in stage.root.rglob("*") if path.is_file() and not path.name.startswith(added)]
    return {str(path.relative_to(stage.root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path


def ended(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def kill(driver: subprocess.Popen[bytes], name: str) -> None:
    found = children(driver, name)
    assert found, name
    for process in found:
        process.kill()


def lines(out: Path) -> list[str]:
    return (out / "log").read_text().splitlines()


def check_listeners(driver: subprocess.Popen[bytes]) -> None:
    """Whoever listens does so on the loopback alone."""
    found = set()
    for process in [psutil.Process(driver.pid), *children(driver)]:
        with suppress(psutil.NoSuchProcess):
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((process.name(), connection.laddr.ip))
    assert {"raylet", "gcs_server"} <= {name for name, _ in found}
    assert {ip.removeprefix("::ffff:") for _, ip in found} == {"127.0.0.1"}


def test_whatever_ends_before_its_time_the_run_ends_as_if_nothing_had(
    recipe: Path, rays: Path, out: Path, undisturbed: Path
):
    driver = start(recipe, out, rays, WITHOUT_DRIFT)
    until(lambda: steps_logged(out) >= 1, "a step")
    check_listeners(driver)
    assert [folder.stat().st_mode & 0o777 for folder in rays.iterdir()] == [0o700]
    kill(driver, "ray::EngineActor")
    until(lambda: steps_logged(out) >= 2, "a step with another engine")
    kill(driver, "ray::TrainWorker")
    until(lambda: "going on from its last checkpoint" in (out / "log").read_text(), "the end of the trainer")
    until(lambda: steps_logged(out) >= 3, "a step with another trainer")
    family = children(driver)
    driver.send_signal(signal.SIGINT)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(PATIENCE) == 130, (out / "log").read_text()
    assert lines(out)[-1] == "cpt: interrupted; the same command again goes on from here (without --fresh)"
    assert ended(family)
    assert list(rays.iterdir()) == []

    driver = start(recipe, out, rays, WITHOUT_DRIFT)
    until(lambda: steps_logged(out) >= 4, "a step after Ctrl-C")
    family, told = children(driver), len(lines(out))
    kill(driver, "raylet/raylet")
    assert driver.wait(PATIENCE) == 1, (out / "log").read_text()
    died = "Ray died (killed, or out of memory); the same command again goes on from here"
    assert lines(out)[-1] == f"cpt: error: {died}"
    assert len(lines(out)) <= told + 5  # of the run's own; nothing of Ray's
    until(lambda: ended(family), "the end of all with Ray")

    driver = start(recipe, out, rays, WITHOUT_DRIFT)
    until(lambda: children(driver, "gcs_server"), "a Ray that starts")
    family = children(driver)
    driver.kill()
    driver.wait(PATIENCE)
    until(lambda: ended(family) and not list(rays.iterdir()), "the end of all with the driver")

    assert start(recipe, out, rays, WITHOUT_DRIFT).wait(PATIENCE) == 0, (out / "log").read_text()
    assert results(out) == results(undisturbed)
    assert list(rays.iterdir()) == []

    before, attempts = made(out), len(read_json(out / "run" / "manifest.json")["attempts"])
    assert {"policy/model.safetensors", "TRAINED.json", "DONE.json", "records.parquet"} <= before.keys()
    assert start(recipe, out, rays).wait(PATIENCE) == 0, (out / "log").read_text()  # drift is asked for now
    assert measured(out) == measured(undisturbed)
    assert made(out) == before  # no stage is trained again, and none is evaluated again
    (last,) = read_json(out / "run" / "manifest.json")["attempts"][attempts:]
    assert last["recipe_changes"] == ["-   samples: 0", "+   samples: 2"]
