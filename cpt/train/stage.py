"""One stage from its start folder to its finished policy folder, in this process."""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.common.digests import differing
from cpt.common.files import disk_may_be_full, read_json, read_jsonl
from cpt.models.export import save_policy
from cpt.models.load import load_policy, load_processor
from cpt.models.policy import Policy
from cpt.plan.stages import finished_version
from cpt.rollout.sampler import PolicyWeights
from cpt.store.results import write_trained
from cpt.store.schemas import Trained
from cpt.tasks.world import builtin
from cpt.train.log import keep_until
from cpt.train.merging import Merging
from cpt.train.result import TrainResult, drop_checkpoints, other_training
from cpt.train.rollouts import RolloutLog

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.store.folder import StageDir
    from cpt.train.during import During
    from cpt.train.plugin_terms import PluginTerms
    from cpt.train.plugins import StagePlugins
    from cpt.train.weighting import Objectives
    from cpt.types import Sample


def train_stage(
    stage: StagePlan,
    *,
    start_folder: str | Path,
    out: StageDir,
    kept: Sequence[int] | None = None,
    pool: RolloutPool | None = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Train a stage and write its policy; goes on from the last whole checkpoint in `out.checkpoints` if there is one.

    A stage of several trainings (`StagePlan.trainings`) makes them one after another, all but the last in folders of
    their own; those that are finished are not made again. metrics.jsonl counts their steps on.

    Args:
        start_folder: the policy the stage starts from: the base model's folder or the stage before's.
        out: the stage's folder. Written: metrics.jsonl, checkpoints/, policy/, adapter/ for a LoRA that is continued;
            generated/ for SFT on the policy's own answers, rollouts.jsonl and during.parquet if the plan says so.
        kept: positions of the stage's own samples that it trains on (`cpt.run.filtering.kept_samples`); None for all.
        pool: rollout engines; needed by methods that sample. They are left with the finished policy, which
            `check_folder` has pushed for everybody who measures something on it.
        on_step: told of every row of metrics.jsonl.

    Raises:
        ValueError: a setting that the model or the trainer does not allow.
        FloatingPointError: the training diverged.
    """
    from cpt.train.data import check_data, own_samples

    assert (kept is None) == (stage.filter is None), "samples are chosen before a stage is trained"
    if stage.method.needs_pool and pool is None:
        raise ValueError(f"{stage.label}: {stage.method.type} needs a rollout pool")
    if stage.during.steps and pool is None:
        raise ValueError(f"{stage.label}: evaluation during the stage needs a rollout pool")
    check_data(stage)
    start = Path(start_folder)
    own = own_samples(stage)
    if kept is not None:
        own = [own[position] for position in kept]
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
    from cpt.rollout.agreement import check_folder, terms_of
    from cpt.train.during import measured_so_far
    from cpt.train.hooks import Checkpoints
    from cpt.train.plugin_terms import PluginTerms
    from cpt.train.plugins import StagePlugins, make_plugins, rewarding
    from cpt.train.resume import Origin, last_checkpoint
    from cpt.train.settings import stage_seed
    from cpt.train.weighting import objectives_of

    clock = time.perf_counter()
    seconds: dict[str, float] = {}

    def lap(name: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[name], clock = now - clock, now

    during_file = measured_so_far(stage, out)
    origin = Origin(f"{stage.key}/{stage.run}", (metrics, out.rollouts, out.generated, during_file))
    objectives = objectives_of(stage)
    made = make_plugins(stage, objectives)
    found = last_checkpoint(out.checkpoints, made, origin)
    before = stage.run * stage.steps
    keep_until(out.rollouts, found.step)
    keep_until(metrics, before + found.step)
    if objectives is not None:
        own_rows = [row | {"step": row["step"] - before} for row in read_jsonl(metrics) if row["step"] > before]
        objectives.restore(own_rows)
    load, base = _loader(stage), None if stage.from_base else Path(stage.model.path)
    _seed(stage_seed(stage))
    policy = Policy.load(stage.tuning, load, start, base, stage.freeze)
    processor = load_processor(start, trust_remote_code=stage.model.trust_remote_code)
    trainer = _trainer(stage, own, policy, processor, out, pool, PluginTerms(made, rewarding(stage)), objectives)
    policy = policy.trained_by(trainer)
    trainer.add_callback(Checkpoints(origin, made, stage.method.save_total_limit, found.path))
    _instrument(trainer, stage, metrics, before, on_step)
    during = _during(trainer, stage, policy, during_file, pool)
    notes = (*found.notes, *(during.resume(found.step) if during else ()))
    plugins = StagePlugins(stage, made, own, start, out, trainer.processing_class, found.step)
    plugins.before(trainer)
    lap("load_s")
    with disk_may_be_full(out.checkpoints):
        trainer.train(resume_from_checkpoint=str(found.path) if found.path else None)
    lap("train_s")
    done = trainer.state.global_step
    if done != stage.steps:
        raise RuntimeError(f"{stage.label}: {done} steps were trained, {stage.steps} are planned")
    merging = None
    if stage.merge is not None:
        others = [other_training(out, run).policy for run in range(stage.run)]
        merging = Merging(stage.merge, load, start, base, policy.tensors(), others)
    out.during.unlink(missing_ok=True)  # of a policy that is gone
    measured = during.finish(out.during) if during else None
    model, merge = _finished(policy, trainer, plugins, merging, out.policy)
    save_policy(model, start, out.policy)
    lap("save_s")
    if pool is not None:
        terms, version = terms_of(stage.label, stage), finished_version(stage.key)
        check_folder(terms, out.policy, model, trainer.processing_class, pool, version)
        lap("check_s")
    return TrainResult(done, before + found.step, seconds, out.policy, notes, merge, measured)


def _loader(stage: StagePlan) -> Callable[[Path], Any]:
    """Reads a policy's folder as the stage holds policies in memory."""
    return partial(load_policy, dtype=stage.weights_dtype, **stage.model.loading)


def _trainer(
    stage: StagePlan,
    own: Sequence[Sample],
    policy: Policy,
    processor: Any,
    out: StageDir,
    pool: RolloutPool | None,
    plugins: PluginTerms,
    objectives: Objectives | None,
) -> Any:
    """The method's trainer over the stage's policy and its own samples."""
    model, checkpoints, adapters = policy.model, out.checkpoints, policy.peft_config
    added: dict[str, Any] = {"plugins": plugins, "objectives": objectives}
    if not stage.method.needs_rollouts:
        from cpt.train.sft import sft_trainer

        return sft_trainer(stage, own, model, processor, checkpoints, adapters, out=out, pool=pool, **added)
    from cpt.train.grpo import grpo_trainer

    assert pool is not None
    log = RolloutLog(out.rollouts, stage.prompt) if stage.leaves_rollouts else None
    return grpo_trainer(stage, own, model, processor, checkpoints, pool, adapters, log=log, **added)


def _seed(seed: int) -> None:
    from transformers import set_seed

    set_seed(seed)


def _instrument(
    trainer: Any,
    stage: StagePlan,
    metrics: Path,
    before: int,
    on_step: Callable[[dict[str, Any]], None] | None,
) -> None:
    """Metrics to disk instead of to the terminal."""
    from transformers import PrinterCallback

    from cpt.train.metrics import StepMetrics

    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(StepMetrics(metrics, trainer.phases.take, on_step, _zero_at_start(stage), before))
    reference = getattr(trainer, "ref_model", None)
    if reference is not None:
        builtin.accelerate(reference, stage.model.attention)


def _during(trainer: Any, stage: StagePlan, policy: Policy, file: Path, pool: RolloutPool | None) -> During | None:
    """Evaluates the policy between its steps; None where that is not asked for."""
    from cpt.train.during import During

    if not stage.during.steps:
        return None
    assert pool is not None
    weights = trainer.tools.sampler if stage.method.needs_rollouts else PolicyWeights(pool, stage.stream)
    during = During(stage, file, weights, policy.tensors, trainer.phases)
    trainer.add_callback(during)
    return during


def _zero_at_start(stage: StagePlan) -> dict[str, float]:
    """Metrics of the first step that are KL divergences of the policy from itself, and what rounding may make of them.

    Not under dropout, with which no two passes are alike.
    """
    from cpt.train.metrics import kl_bound

    bound = kl_bound(stage.model.dtype)
    found = {"kl": bound} if getattr(stage.method, "beta", 0.0) else {}
    if stage.kl is not None and stage.kl.starts_at_zero(stage.index) and not stage.tuning.has_dropout:
        found["plugin/kl/kl"] = bound
    return found


def _finished(
    policy: Policy, trainer: Any, plugins: StagePlugins, merging: Merging | None, folder: Path
) -> tuple[Any, dict[str, Any] | None]:
    """The plain model that the next stage starts from, and what merging did to it.

    Plug-ins look back from where the next stage starts: after merging. What is trained beside the weights they see as
    it was trained, because afterwards it is gone.
    """
    if not policy.tuning.trains_weights:
        plugins.after(trainer)
    model = policy.finish(folder)
    if merging is not None:
        merging.apply(model)
    if policy.tuning.trains_weights:
        plugins.after(trainer)
    return model, None if merging is None else merging.record(model)
