"""The process that trains a stage, and the driver's view of it: progress, and one clear error if it ends badly."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.common.errors import RunFailed
from cpt.common.processes import check_same_code, enter_working_folder
from cpt.models.lean import lean_imports
from cpt.tasks import declare
from cpt.tasks.definition import TaskDefinition
from cpt.train.log import MetricsTail
from cpt.train.result import TrainResult
from cpt.train.stage import train_stage

if TYPE_CHECKING:
    from cpt.evaluate.evaluators.base import Engines, Evaluator, Subject
    from cpt.plan.stages import BasePlan, StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.store.folder import StageDir

OnStep = Callable[[dict[str, Any]], None]
POLL_SECONDS = 0.25
ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


class TrainerDied(RunFailed):
    """The training process is gone (killed, out of memory). The same stage again goes on from its last checkpoint."""


class TrainingFailed(RunFailed):
    """The training raised an error; trying again would raise it again."""


class TrainWorker:
    """One stage's process. A Ray actor through `start_worker`; plain in tests."""

    def ready(self, tasks: Sequence[TaskDefinition] = ()) -> int:
        """Import the training stack, so that this can happen while something else is awaited. The process's id.

        Args:
            tasks: that the recipe defines.
        """
        declare(tasks)
        enter_working_folder()
        import_trainers()
        return os.getpid()

    def train(
        self, stage: StagePlan, start_folder: str, out: StageDir, kept: Sequence[int] | None, pool: RolloutPool | None
    ) -> TrainResult:
        """See `cpt.train.stage.train_stage`."""
        import_trainers()

        return train_stage(stage, start_folder=start_folder, out=out, kept=kept, pool=pool)

    def check(self, base: BasePlan, pool: RolloutPool) -> float:
        """See `cpt.rollout.agreement.check_base`."""
        import_trainers()
        from cpt.rollout.agreement import check_base

        return check_base(base, pool)

    def measure(self, evaluator: Evaluator, subject: Subject, pool: Engines) -> dict[str, Any]:
        """See `cpt.evaluate.evaluators.base.Evaluator.run`. What the models took is free again afterwards."""
        import torch

        found = evaluator.run(subject, pool)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return found


def start_worker(
    *,
    cpus: float = 1,
    gpus: float = 0,
    environment: Mapping[str, str] | None = None,
    tasks: Sequence[TaskDefinition] = (),
) -> Any:
    """A fresh `TrainWorker` process, importing already. It is not restarted when it dies: its state is on disk.

    Args:
        environment: variables of the process, such as the number of threads (see `cpt.rollout.threads`).
        tasks: that the recipe defines.
    """
    import ray

    actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(TrainWorker)
    handle = actor.options(runtime_env={"env_vars": ENVIRONMENT | dict(environment or {})}).remote()
    handle.ready.remote(list(tasks))
    return handle


def run_stage(
    worker: Any,
    stage: StagePlan,
    *,
    start_folder: str | Path,
    out: StageDir,
    kept: Sequence[int] | None = None,
    pool: RolloutPool | None = None,
    on_step: OnStep | None = None,
) -> TrainResult:
    """Train a stage in `worker`, reporting every step as its line appears in metrics.jsonl; then end the worker.

    Raises:
        TrainerDied: the process ended without an answer. The message says how far it got.
        TrainingFailed: the training raised; the cause's message is in this one.
        RunFailed: the process runs another copy of cpt.
    """
    import ray
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

    rows = MetricsTail(out.metrics)
    rows.read()  # of an earlier attempt
    try:
        check_same_code([worker], f"{stage.label}: the training process")
        answer = worker.train.remote(stage, str(start_folder), out, kept, pool)
        while not ray.wait([answer], timeout=POLL_SECONDS)[0]:
            _report(rows, on_step)
        result: TrainResult = ray.get(answer)
        _report(rows, on_step)
    except RayTaskError as error:  # first: one that was caused by an engine's death is also a RayActorError
        raise TrainingFailed(f"{stage.label}: {_said(error.cause)}") from error
    except (RayActorError, OutOfMemoryError) as error:
        _report(rows, on_step)
        raise TrainerDied(f"{stage.label}: the training process died after step {rows.last_step}") from error
    finally:
        ray.kill(worker)
    return result


def run_check(worker: Any, base: BasePlan, pool: RolloutPool) -> float:
    """Whether the engines and transformers mean the same base model; `worker` can train afterwards.

    Raises:
        TrainingFailed: they don't, with the reason.
    """
    found: float = _answer(worker.check.remote(base, pool), "", "the process that checks the base model")
    return found


def run_evaluator(worker: Any, evaluator: Evaluator, subject: Subject, pool: Engines) -> dict[str, Any]:
    """Let an evaluator measure in `worker`, which can train afterwards. What its marker is to say.

    Raises:
        TrainingFailed: it raised, with the reason.
        TrainerDied: the process ended. The same command again measures, and trains nothing.
    """
    where = f"{subject.label}: {evaluator.name}: "
    found: dict[str, Any] = _answer(worker.measure.remote(evaluator, subject, pool), where, f"{where}the process")
    return found


def _answer(reference: Any, where: str, process: str) -> Any:
    """What a worker answers. `where` begins its errors' messages, `process` names it."""
    import ray
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise TrainingFailed(f"{where}{_said(error.cause)}") from error
    except (RayActorError, OutOfMemoryError) as error:
        raise TrainerDied(f"{process} died; out of memory is the usual reason") from error


def import_trainers() -> None:
    """Import TRL's trainers, and nothing along with them that training makes no use of."""
    with lean_imports("transformers", "trl"):
        from transformers.utils import logging
        from trl import GRPOTrainer, SFTTrainer  # noqa: F401
    logging.disable_progress_bar()
    # Trainers collect garbage when they start: half a second, were it to search all these modules.
    gc.freeze()
    atexit.register(gc.unfreeze)


def _said(cause: BaseException) -> str:
    """What a process raised, in words: a message alone may be no more than `'pixel_values'`."""
    return str(cause) if isinstance(cause, RunFailed) else f"{type(cause).__name__}: {cause}"


def _report(rows: MetricsTail, on_step: OnStep | None) -> None:
    for row in rows.read():
        if on_step is not None:
            on_step(row)
