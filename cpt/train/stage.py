"""One stage from its start folder to its finished policy folder, in this process."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpt.folder import StageDir
    from cpt.plan import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.train.plugins import StagePlugins


@dataclass(frozen=True)
class TrainResult:
    """What became of a stage.

    Attributes:
        steps: optimizer steps in total; equal to the plan's.
        resumed_from: step that this process went on from; 0 for a start from the beginning.
        seconds: wall time by phase of this process: load, train, save.
        policy: the plain Hugging Face folder.
        notes: what the user should know, such as a checkpoint that could not be used.
        merge: what merging did (`cpt.train.merging.Merging.record`); None where nothing was merged.
    """

    steps: int
    resumed_from: int
    seconds: dict[str, float]
    policy: Path
    notes: tuple[str, ...] = ()
    merge: dict[str, Any] | None = None


def train_stage(
    stage: StagePlan,
    *,
    start_folder: str | Path,
    out: StageDir,
    pool: RolloutPool | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Train a stage and write its policy; goes on from the last whole checkpoint in `out.checkpoints` if there is one.

    A stage of several trainings (`StagePlan.trainings`) makes them one after another, all but the last in folders of
    their own; those that are finished are not made again. metrics.jsonl counts their steps on.

    Args:
        start_folder: the policy the stage starts from: the base model's folder or the stage before's.
        out: the stage's folder. Written: metrics.jsonl, checkpoints/, policy/, and adapter/ for a LoRA that is
            continued.
        pool: rollout engines; needed by methods that sample. They are left with the weights of the last step but one.
        on_step: told of every row of metrics.jsonl.

    Raises:
        ValueError: a setting that the model or the trainer does not allow.
        FloatingPointError: the training diverged.
    """
    if stage.method.needs_rollouts and pool is None:
        raise ValueError(f"{stage.label}: {stage.method.type} needs a rollout pool")
    *others, last = stage.trainings
    done: list[TrainResult] = []
    for training in others:
        where = other_training(out, training.run)
        if not (where.policy / "config.json").exists():
            done.append(_train(training, Path(start_folder), where, out.metrics, pool, on_step))
            drop_checkpoints(where)
            gc.collect()  # a trainer is full of cycles, and holds a model and its optimizer
    done.append(_train(last, Path(start_folder), out, out.metrics, pool, on_step))
    seconds = {name: sum(result.seconds[name] for result in done) for name in done[0].seconds}
    notes = tuple(note for result in done for note in result.notes)
    return replace(done[-1], steps=stage.steps, resumed_from=done[0].resumed_from, seconds=seconds, notes=notes)


def other_training(out: StageDir, run: int) -> StageDir:
    """Folder in a stage's of a training that is not its last one."""
    from cpt.folder import StageDir

    return StageDir(out.root / "trainings" / str(run))


def _train(
    stage: StagePlan,
    start: Path,
    out: StageDir,
    metrics: Path,
    pool: RolloutPool | None,
    on_step: Callable[[dict[str, Any]], None] | None,
) -> TrainResult:
    """One training; see `train_stage`."""
    from cpt.models.export import save_policy
    from cpt.tasks import get_task
    from cpt.train.plugins import StagePlugins
    from cpt.train.resume import last_checkpoint

    clock = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    trainer = _trainer(stage, start, out, pool)
    plugins = StagePlugins(stage, start, out, get_task(stage.task), trainer.processing_class)
    found = last_checkpoint(out.checkpoints, plugins.plugins)
    before = stage.run * stage.steps
    _instrument(trainer, stage, metrics, before, found.step, on_step)
    plugins.before(trainer)
    lap("load_s")
    trainer.train(resume_from_checkpoint=str(found.path) if found.path else None)
    lap("train_s")
    done = trainer.state.global_step
    if done != stage.steps:
        raise RuntimeError(f"{stage.label}: {done} steps were trained, {stage.steps} are planned")
    policy, merge = _finished(trainer, stage, start, out, plugins)
    save_policy(policy, start, out.policy)
    lap("save_s")
    return TrainResult(done, before + found.step, seconds, out.policy, found.notes, merge)


def drop_checkpoints(out: StageDir) -> None:
    """Delete a finished stage's checkpoints and other trainings: its policy folder replaces them."""
    for folder in (out.checkpoints, other_training(out, 0).root.parent):
        shutil.rmtree(folder, ignore_errors=True)


def _trainer(stage: StagePlan, start: Path, out: StageDir, pool: RolloutPool | None) -> Any:
    """The method's trainer over the stage's policy."""
    from cpt.models.adapters import adapter_beside, attach_adapter, freeze_parts, lora_config
    from cpt.models.load import load_policy, load_processor
    from cpt.tasks import get_task
    from cpt.train.settings import stage_seed, weights_dtype

    _seed(stage_seed(stage))
    trust = stage.model.trust_remote_code
    adapter = None
    if stage.tuning.type == "lora" and stage.tuning.between_stages == "continue":
        adapter = adapter_beside(start)
    weights = start if adapter is None else Path(stage.model.path)
    policy: Any = load_policy(weights, dtype=weights_dtype(stage), trust_remote_code=trust)
    processor = load_processor(start, trust_remote_code=trust)
    peft_config = None
    if stage.tuning.type == "full":
        freeze_parts(policy, stage.freeze)
    elif adapter is None:
        peft_config = lora_config(policy, stage.tuning, stage.freeze)
    else:
        policy = attach_adapter(policy, adapter, stage.tuning)
    task = get_task(stage.task)
    if not stage.method.needs_rollouts:
        from cpt.train.sft import sft_trainer

        return sft_trainer(stage, task, policy, processor, out.checkpoints, peft_config)
    from cpt.train.policy import grpo_trainer

    assert pool is not None
    return grpo_trainer(stage, task, policy, processor, out.checkpoints, pool, peft_config)


def _seed(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)


def _instrument(
    trainer: Any,
    stage: StagePlan,
    metrics: Path,
    before: int,
    step: int,
    on_step: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Metrics to disk instead of to the terminal; lines of steps that will be made again go."""
    from transformers import PrinterCallback

    from cpt.models.attention import batch_images
    from cpt.train.log import keep_until
    from cpt.train.metrics import StepMetrics, kl_bound

    keep_until(metrics, before + step)
    beta = getattr(stage.method, "beta", 0.0)
    bound = kl_bound(stage.model.dtype) if beta else None
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepMetrics(metrics, trainer.phases.take, on_step, bound, before))
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        batch_images(reference)


def _finished(
    trainer: Any, stage: StagePlan, start: Path, out: StageDir, plugins: StagePlugins
) -> tuple[Any, dict[str, Any] | None]:
    """The plain model that the next stage starts from, and what merging did to it.

    Plug-ins look back from where the next stage starts: after merging. Only adapters they see as they were trained,
    because afterwards there are none.
    """
    from cpt.train.merging import Merging

    adapted = stage.tuning.type == "lora"
    others = [other_training(out, run).policy for run in range(stage.run)]
    merging = None if stage.merge is None else Merging(stage, start, trainer.model, others)
    if adapted:
        plugins.after(trainer)
    policy = _plain_model(trainer.model, stage, out)
    if merging is not None:
        merging.apply(policy)
    if not adapted:
        plugins.after(trainer)
    return policy, None if merging is None else merging.record(policy)


def _plain_model(model: Any, stage: StagePlan, out: StageDir) -> Any:
    """The model without adapters; one that the next stage continues is kept beside."""
    from cpt.models.adapters import ADAPTER, merged
    from cpt.models.export import save_adapter

    if stage.tuning.type == "lora" and stage.tuning.between_stages == "continue":
        save_adapter(model, out.policy.parent / ADAPTER)
    return merged(model)
