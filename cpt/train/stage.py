"""One stage from its start folder to its finished policy folder, in this process."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.common.digests import differing
from cpt.common.files import read_json
from cpt.store.results import write_trained
from cpt.store.schemas import Trained

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.store.folder import StageDir
    from cpt.train.plugins import StagePlugins
    from cpt.types import Sample


@dataclass(frozen=True)
class TrainResult:
    """What became of a stage.

    Attributes:
        steps: optimizer steps in total; equal to the plan's.
        resumed_from: step that this process went on from; 0 for a start from the beginning.
        seconds: wall time by phase of this process: load, train, save, check.
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
        out: the stage's folder. Written: metrics.jsonl, checkpoints/, policy/, adapter/ for a LoRA that is continued;
            filter.parquet for a filter that has not chosen the samples yet, generated/ for SFT on the policy's own
            answers, rollouts.jsonl if the plan says so.
        pool: rollout engines; needed by methods and filters that sample. They are left with the finished policy, which
            `check_stage` has pushed for everybody who measures something on it.
        on_step: told of every row of metrics.jsonl.

    Raises:
        ValueError: a setting that the model or the trainer does not allow, or a filter that keeps no sample.
        FloatingPointError: the training diverged.
    """
    from cpt.train.data import check_data

    if stage.method.needs_pool and pool is None:
        raise ValueError(f"{stage.label}: {stage.method.type} needs a rollout pool")
    check_data(stage)
    start = Path(start_folder)
    own = _own_samples(stage, start, out, pool)
    *others, last = stage.trainings
    done: list[TrainResult] = []
    for training in others:
        where = other_training(out, training.run)
        if not _is_finished(where, training):
            done.append(_train(training, own, start, where, out.metrics, pool, on_step))
            write_trained(where, training.key, training.steps)
            drop_checkpoints(where)
            gc.collect()  # a trainer is full of cycles, and holds a model and its optimizer
    done.append(_train(last, own, start, out, out.metrics, pool, on_step))
    seconds = {name: sum(result.seconds[name] for result in done) for name in done[0].seconds}
    notes = tuple(note for result in done for note in result.notes)
    return replace(done[-1], steps=stage.steps, resumed_from=done[0].resumed_from, seconds=seconds, notes=notes)


def _own_samples(stage: StagePlan, start: Path, out: StageDir, pool: RolloutPool | None) -> list[Sample]:
    """The stage's own samples, or what its filter leaves of them."""
    from cpt.models.load import load_processor
    from cpt.train.data import own_samples
    from cpt.train.filter import filtered

    if stage.filter is None:
        return own_samples(stage)
    processor = load_processor(start, trust_remote_code=stage.model.trust_remote_code)
    return filtered(stage, own_samples(stage), start_folder=start, out=out, pool=pool, processor=processor)


def other_training(out: StageDir, run: int) -> StageDir:
    """Folder in a stage's of a training that is not its last one."""
    from cpt.store.folder import StageDir

    return StageDir(out.root / "trainings" / str(run))


def _is_finished(where: StageDir, training: StagePlan) -> bool:
    """Whether one of a stage's other trainings is done. What is not as it was left is deleted, and made again."""
    if not where.trained.exists():
        return False
    marker = read_json(where.trained, Trained, sealed=True)
    if marker["key"] == training.key and differing(where.root, marker["files"]) is None:
        return True
    shutil.rmtree(where.root)
    return False


def _train(
    stage: StagePlan,
    own: Sequence[Sample],
    start: Path,
    out: StageDir,
    metrics: Path,
    pool: RolloutPool | None,
    on_step: Callable[[dict[str, Any]], None] | None,
) -> TrainResult:
    """One training; see `train_stage`."""
    from cpt.models.export import save_policy
    from cpt.train.agreement import check_stage
    from cpt.train.log import keep_until
    from cpt.train.plugins import StagePlugins, make_plugins
    from cpt.train.resume import Origin, last_checkpoint

    clock = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    origin = Origin(f"{stage.key}/{stage.run}", (metrics, out.rollouts, out.generated))
    found = last_checkpoint(out.checkpoints, make_plugins(stage), origin)
    before = stage.run * stage.steps
    keep_until(out.rollouts, found.step)
    trainer = _trainer(stage, own, start, out, pool)
    trainer.origin = origin
    _instrument(trainer, stage, metrics, before, found.step, on_step)
    plugins = StagePlugins(stage, own, start, out, trainer.processing_class, found.step)
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
    if pool is not None:
        check_stage(stage, policy, trainer.processing_class, out.policy, pool)
        lap("check_s")
    return TrainResult(done, before + found.step, seconds, out.policy, found.notes, merge)


def drop_checkpoints(out: StageDir) -> None:
    """Delete a finished stage's checkpoints and other trainings: its policy folder replaces them."""
    for folder in (out.checkpoints, other_training(out, 0).root.parent):
        shutil.rmtree(folder, ignore_errors=True)


def _trainer(stage: StagePlan, own: Sequence[Sample], start: Path, out: StageDir, pool: RolloutPool | None) -> Any:
    """The method's trainer over the stage's policy and its own samples."""
    from cpt.models.adapters import adapter_beside, attach_adapter, freeze_parts, lora_config
    from cpt.models.load import load_policy, load_processor
    from cpt.train.settings import stage_seed

    trust = stage.model.trust_remote_code
    adapter = None
    if stage.tuning.type == "lora" and stage.tuning.between_stages == "continue":
        adapter = adapter_beside(start)
    weights = start if adapter is None else Path(stage.model.path)
    processor = load_processor(start, trust_remote_code=trust)
    _seed(stage_seed(stage))
    attention = stage.model.attention
    policy: Any = load_policy(weights, dtype=stage.weights_dtype, attention=attention, trust_remote_code=trust)
    peft_config = None
    if stage.tuning.type == "full":
        freeze_parts(policy, stage.freeze)
    elif adapter is None:
        peft_config = lora_config(policy, stage.tuning, stage.freeze)
    else:
        policy = attach_adapter(policy, adapter, stage.tuning)
    if not stage.method.needs_rollouts:
        from cpt.train.sft import sft_trainer

        return sft_trainer(stage, own, policy, processor, out.checkpoints, peft_config, out=out, pool=pool)
    from cpt.train.distillation import StageSDFTTrainer
    from cpt.train.policy import StageGRPOTrainer, grpo_trainer
    from cpt.train.rollouts import RolloutLog

    assert pool is not None
    kind = StageSDFTTrainer if stage.method.type == "sdft" else StageGRPOTrainer
    trainer = grpo_trainer(stage, own, policy, processor, out.checkpoints, pool, peft_config, kind)
    if stage.leaves_rollouts:
        trainer.rollout_log = RolloutLog(out.rollouts, stage.prompt)
    return trainer


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

    from cpt.common.files import read_jsonl
    from cpt.tasks.world import builtin
    from cpt.train.log import keep_until
    from cpt.train.metrics import StepMetrics

    keep_until(metrics, before + step)
    if trainer.objectives is not None:
        own = [row | {"step": row["step"] - before} for row in read_jsonl(metrics) if row["step"] > before]
        trainer.objectives.restore(own)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepMetrics(metrics, trainer.phases.take, on_step, _zero_at_start(stage), before))
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        builtin.accelerate(reference, stage.model.attention)


def _zero_at_start(stage: StagePlan) -> dict[str, float]:
    """Metrics of the first step that are KL divergences of the policy from itself, and what rounding may make of them.

    Not under dropout, with which no two passes are alike.
    """
    from cpt.train.metrics import kl_bound

    bound = kl_bound(stage.model.dtype)
    found = {"kl": bound} if getattr(stage.method, "beta", 0.0) else {}
    if stage.kl is not None and stage.kl.starts_at_zero(stage.index) and not getattr(stage.tuning, "dropout", 0.0):
        found["plugin/kl/kl"] = bound
    return found


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
