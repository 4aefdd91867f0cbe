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
        seconds: wall time by phase of this process: load, train, save.
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
        out: the stage's folder. Written: metrics.jsonl, checkpoints/, policy/, adapter/ for a LoRA that is
            continued, generated/ for SFT on the policy's own answers, and rollouts.jsonl if the plan says so.
        pool: rollout engines; needed by methods that sample. They are left with the weights that sampled last.
        on_step: told of every row of metrics.jsonl.

    Raises:
        ValueError: a setting that the model or the trainer does not allow.
        FloatingPointError: the training diverged.
    """
    from cpt.models.export import save_policy
    from cpt.train.data import own_samples
    from cpt.train.plugins import StagePlugins
    from cpt.train.resume import last_checkpoint

    if stage.method.needs_pool and pool is None:
        raise ValueError(f"{stage.label}: {stage.method.type} needs a rollout pool")
    clock = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    found = last_checkpoint(out.checkpoints)
    own = own_samples(stage)
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
    return TrainResult(done, found.step, seconds, out.policy, found.notes)


def drop_checkpoints(out: StageDir) -> None:
    """Delete a finished stage's checkpoints: its policy folder replaces them."""
    shutil.rmtree(out.checkpoints, ignore_errors=True)


def _trainer(stage: StagePlan, own: Sequence[Sample], start: Path, out: StageDir, pool: RolloutPool | None) -> Any:
    """The method's trainer over the stage's policy and its own samples."""
    from cpt.models.adapters import adapter_beside, attach_adapter, freeze_parts, lora_config
    from cpt.models.load import load_policy, load_processor
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
    if not stage.method.needs_rollouts:
        from cpt.train.sft import sft_trainer

        return sft_trainer(stage, own, policy, processor, out.checkpoints, peft_config, out=out, pool=pool)
    from cpt.train.policy import grpo_trainer
    from cpt.train.rollouts import RolloutLog

    assert pool is not None
    trainer = grpo_trainer(stage, own, policy, processor, out.checkpoints, pool, peft_config)
    if stage.leaves_rollouts:
        trainer.rollout_log = RolloutLog(out.rollouts, stage.prompt)
    return trainer


def _seed(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)


def _instrument(
    trainer: Any, stage: StagePlan, out: StageDir, step: int, on_step: Callable[[dict[str, Any]], None] | None
) -> None:
    """Metrics to disk instead of to the terminal; lines of steps that will be made again go."""
    from transformers import PrinterCallback

    from cpt.models.attention import batch_images
    from cpt.train.log import keep_until
    from cpt.train.metrics import StepMetrics, kl_bound

    keep_until(out.metrics, step)
    keep_until(out.rollouts, step)
    beta = getattr(stage.method, "beta", 0.0)
    bound = kl_bound(stage.model.dtype) if beta else None
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepMetrics(out.metrics, trainer.phases.take, on_step, bound))
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        batch_images(reference)


def _plain_model(model: Any, stage: StagePlan, out: StageDir) -> Any:
    """The model without adapters; one that the next stage continues is kept beside."""
    from cpt.models.adapters import ADAPTER, merged
    from cpt.models.export import save_adapter

    if stage.tuning.type == "lora" and stage.tuning.between_stages == "continue":
        save_adapter(model, out.policy.parent / ADAPTER)
    return merged(model)
