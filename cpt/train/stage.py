"""One stage from its start folder to its finished policy folder, in this process."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpt.folder import StageDir
    from cpt.plan import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.types import Sample


@dataclass(frozen=True)
class TrainResult:
    """What became of a stage.

    Attributes:
        steps: optimizer steps in total; equal to the plan's.
        resumed_from: step of the checkpoint this process went on from; 0 for a start from the beginning.
        seconds: wall time by phase of this process: load, train, save, drift.
        policy: the plain Hugging Face folder.
        notes: what the user should know, such as a checkpoint that could not be used.
    """

    steps: int
    resumed_from: int
    seconds: dict[str, float]
    policy: Path
    notes: tuple[str, ...] = ()


def train_stage(
    stage: StagePlan,
    *,
    start_folder: str | Path,
    out: StageDir,
    pool: RolloutPool | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Train a stage and write its policy; goes on from the last whole checkpoint in `out.checkpoints` if there is one.

    Args:
        start_folder: the policy the stage starts from: the base model's folder or the stage before's.
        out: the stage's folder. Written: metrics.jsonl, checkpoints/, policy/, adapter/ for a LoRA that is continued,
            drift.parquet, and filter.parquet for a filter that has not chosen the samples yet.
        pool: rollout engines; needed by methods and filters that sample, and to measure drift, which is left out
            without them.
            Whoever uses them next must push: what weights they are left with is not defined.
        on_step: told of every row of metrics.jsonl.

    Raises:
        ValueError: a setting that the model or the trainer does not allow, or a filter that keeps no sample.
        FloatingPointError: the training diverged.
    """
    from cpt.models.export import save_policy
    from cpt.models.load import load_processor
    from cpt.train.data import own_samples
    from cpt.train.drift import measure_drift
    from cpt.train.filter import filtered
    from cpt.train.plugins import StagePlugins
    from cpt.train.resume import last_checkpoint

    if stage.method.needs_rollouts and pool is None:
        raise ValueError(f"{stage.label}: {stage.method.type} needs a rollout pool")
    clock = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    found = last_checkpoint(out.checkpoints)
    own = filtered(
        stage,
        own_samples(stage),
        start_folder=start_folder,
        out=out,
        pool=pool,
        processor=load_processor(start_folder, trust_remote_code=stage.model.trust_remote_code),
    )
    trainer = _trainer(stage, own, Path(start_folder), out, pool)
    _instrument(trainer, stage, out, found.step, on_step)
    plugins = StagePlugins(stage, own, Path(start_folder), out, trainer.processing_class, found.step)
    plugins.before(trainer)
    lap("load_s")
    trainer.train(resume_from_checkpoint=str(found.path) if found.path else None)
    lap("train_s")
    done = trainer.state.global_step
    if done != stage.steps:
        raise RuntimeError(f"{stage.label}: {done} steps were trained, {stage.steps} are planned")
    plugins.after(trainer)
    save_policy(_plain_model(trainer.model, stage, out), start_folder, out.policy)
    lap("save_s")
    del trainer, plugins  # the memory of optimizer and gradients is for the two models to compare
    if pool is not None and stage.drift.samples:
        measure_drift(stage, out.policy, out.drift, pool)
        lap("drift_s")
    return TrainResult(done, found.step, seconds, out.policy, found.notes)


def drop_checkpoints(out: StageDir) -> None:
    """Delete a finished stage's checkpoints: its policy folder replaces them."""
    shutil.rmtree(out.checkpoints, ignore_errors=True)


def _trainer(stage: StagePlan, own: Sequence[Sample], start: Path, out: StageDir, pool: RolloutPool | None) -> Any:
    """The method's trainer over the stage's policy and its own samples."""
    from cpt.models.adapters import adapter_beside, attach_adapter, freeze_parts, lora_config
    from cpt.models.load import load_policy, load_processor
    from cpt.train.settings import stage_seed, weights_dtype

    trust = stage.model.trust_remote_code
    adapter = None
    if stage.tuning.type == "lora" and stage.tuning.between_stages == "continue":
        adapter = adapter_beside(start)
    weights = start if adapter is None else Path(stage.model.path)
    processor = load_processor(start, trust_remote_code=trust)
    _seed(stage_seed(stage))
    policy: Any = load_policy(weights, dtype=weights_dtype(stage), trust_remote_code=trust)
    peft_config = None
    if stage.tuning.type == "full":
        freeze_parts(policy, stage.freeze)
    elif adapter is None:
        peft_config = lora_config(policy, stage.tuning, stage.freeze)
    else:
        policy = attach_adapter(policy, adapter, stage.tuning)
    if not stage.method.needs_rollouts:
        from cpt.train.sft import sft_trainer

        return sft_trainer(stage, own, policy, processor, out.checkpoints, peft_config)
    from cpt.train.policy import grpo_trainer

    assert pool is not None
    return grpo_trainer(stage, own, policy, processor, out.checkpoints, pool, peft_config)


def _seed(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)


def _instrument(
    trainer: Any, stage: StagePlan, out: StageDir, step: int, on_step: Callable[[dict[str, Any]], None] | None
) -> None:
    """Metrics to disk instead of to the terminal; lines of steps that will be made again go."""
    from transformers import PrinterCallback

    from cpt.files import read_jsonl
    from cpt.models.attention import batch_images
    from cpt.train.log import keep_until
    from cpt.train.metrics import StepMetrics

    keep_until(out.metrics, step)
    if trainer.objectives is not None:
        trainer.objectives.restore(read_jsonl(out.metrics))
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepMetrics(out.metrics, trainer.phases.take, on_step, _zero_at_start(stage)))
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        batch_images(reference)


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


def _plain_model(model: Any, stage: StagePlan, out: StageDir) -> Any:
    """The model without adapters; one that the next stage continues is kept beside."""
    from cpt.models.adapters import ADAPTER, merged
    from cpt.models.export import save_adapter

    if stage.tuning.type == "lora" and stage.tuning.between_stages == "continue":
        save_adapter(model, out.policy.parent / ADAPTER)
    return merged(model)
