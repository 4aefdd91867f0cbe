"""A stage in a process of its own: progress, death and failure as the driver sees them."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from stages import digest, planned, rows

from cpt.common.files import append_jsonl
from cpt.run.worker import TrainerDied, TrainingFailed, run_stage, start_worker
from cpt.store.folder import StageDir
from cpt.train.result import TrainResult
from cpt.train.stage import train_stage

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("ray_cluster")]
SFT = {"type": "sft", "learning_rate": 1e-2, "max_steps": 16, "per_device_train_batch_size": 8, "save_steps": 2}


def test_a_killed_process_goes_on_where_it_was(base: Path, tmp_path: Path):
    import ray
    import torch

    (stage,) = planned(base, SFT)
    out, whole = StageDir(tmp_path / "killed"), StageDir(tmp_path / "whole")
    worker = start_worker(environment={"OMP_NUM_THREADS": "1"})
    process = ray.get(worker.ready.remote())

    def kill(row: dict[str, Any]) -> None:
        if row["step"] == 3:
            os.kill(process, signal.SIGKILL)

    with pytest.raises(TrainerDied, match=r"stage 1 \(count-colour\): the training process died after step"):
        run_stage(worker, stage, start_folder=base, out=out, on_step=kill)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the process that was killed: sums over threads round differently
    try:
        assert train_stage(stage, start_folder=base, out=out).resumed_from >= 2
        train_stage(stage, start_folder=base, out=whole)
    finally:
        torch.set_num_threads(threads)
    assert digest(out.policy) == digest(whole.policy)
    assert rows(out) == rows(whole)


def pretender(how: str) -> Any:
    """An actor that stands for a worker: trains two steps at once, raises, or loses its process."""
    import ray

    class Pretender:  # local, so that Ray sends its code: workers can't import test modules
        def train(self, stage: Any, start: str, out: StageDir, kept: Any, pool: Any) -> TrainResult:
            for step in (1, 2):
                append_jsonl(out.metrics, {"step": step, "loss": 1 / step})
            if how == "dies":
                os._exit(1)
            if how == "raises":
                raise ValueError("the learning rate is no number")
            return TrainResult(2, 0, {}, out.policy)

    return ray.remote(Pretender).options(num_cpus=0.1).remote()


def pretend(base: Path, out: Path, how: str) -> tuple[TrainResult | Exception, list[dict[str, Any]], Any]:
    """What run_stage returns or raises, the rows it reports, and the worker."""
    (stage,) = planned(base, SFT)
    worker = pretender(how)
    seen: list[dict[str, Any]] = []
    try:
        return run_stage(worker, stage, start_folder=base, out=StageDir(out), on_step=seen.append), seen, worker
    except (TrainerDied, TrainingFailed) as error:
        return error, seen, worker


def test_steps_are_reported_as_they_are_written(base: Path, tmp_path: Path):
    result, seen, _ = pretend(base, tmp_path, "works")
    assert result == TrainResult(2, 0, {}, tmp_path / "policy")
    assert seen == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("raises", TrainingFailed, "stage 1 (count-colour): ValueError: the learning rate is no number"),
        ("dies", TrainerDied, "stage 1 (count-colour): the training process died after step 2"),
    ],
)
def test_a_bad_end_is_one_clear_error(base: Path, tmp_path: Path, how: str, kind: type[Exception], message: str):
    result, _, _ = pretend(base, tmp_path, how)
    assert isinstance(result, kind)
    assert str(result).endswith(message)


def ask_until_it_ends(worker: Any, out: Path) -> None:
    """Ray kills in its own time: until then a call may still be answered."""
    import ray
    from ray.exceptions import RayTaskError

    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(RayTaskError):
            ray.get(worker.train.remote(None, "", StageDir(out), None, None), timeout=60)


@pytest.mark.parametrize("how", ["works", "raises"])
def test_the_process_ends_with_its_stage(base: Path, tmp_path: Path, how: str):
    from ray.exceptions import RayActorError

    _, _, worker = pretend(base, tmp_path, how)
    with pytest.raises(RayActorError):
        ask_until_it_ends(worker, tmp_path)
