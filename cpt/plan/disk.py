"""Room on disk: what a plan will take, and what there is."""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.methods.targets import SelfSampled
from cpt.models import locate

if TYPE_CHECKING:
    from cpt.plan.run_plan import RunPlan
    from cpt.plan.stages import ModelPlan, StagePlan

# One evaluated sample in compressed parquet: prompt and completion dominate, and prompts repeat. One that was
# sampled to choose among prompts has less.
RECORD_BYTES = 200
_LINE_BYTES, _TOKEN_BYTES = 120, 4  # of a completion in JSON lines
_NUMBER_BYTES = {"float32": 4, "bfloat16": 2}
_TRAINED_BYTES = _NUMBER_BYTES["float32"]  # in checkpoints, whatever the model's own precision
# Numbers the optimizer keeps per trained number.
_OPTIMIZER_STATES = {"adamw_torch": 2.0, "adamw_torch_fused": 2.0, "adafactor": 0.1, "sgd": 0.0}


def estimate_bytes(plan: RunPlan) -> int | None:
    """Policies of all stages, what the running one needs beside, records, completions; None if the size is unknown.

    Checkpoints live until their stage ends, and the next one is written before the oldest goes.
    """
    if plan.model.nbytes is None:
        return None
    seeds = Counter(arm for arm, _ in plan.arms)  # which change no size
    stages = [(stage, seeds[arm]) for arm, own in plan.by_arm.items() for stage in own]
    checkpoints = max((checkpoint_bytes(stage) + _waiting_bytes(stage) for stage, _ in stages), default=0)
    sampled = sum(stage.sampled_before * times for stage, times in stages)
    during = sum(stage.during.completions * times for stage, times in stages)
    records = (plan.evaluated_samples() + during + sampled) * RECORD_BYTES
    policies = sum(policy_bytes(stage.model, stage.weights_dtype) * times for stage, times in stages)
    completions = sum(completion_bytes(stage) * times for stage, times in stages)
    return policies + completions + checkpoints + records


def policy_bytes(model: ModelPlan, dtype: str) -> int:
    """A policy: the model's folder, its weights in the precision that policies have; 0 if its size is unknown."""
    if model.nbytes is None:
        return 0
    size = _NUMBER_BYTES[dtype]
    tensors = locate.checkpoint_tensors(Path(model.path)).values()
    return model.nbytes + sum(size * math.prod(tensor.shape) - tensor.nbytes for tensor in tensors)


def completion_bytes(stage: StagePlan) -> int:
    """What a stage keeps of the completions it trains on: at most, were every one as long as the limit; mostly 0."""
    data = getattr(stage.method, "data", None)
    if isinstance(data, SelfSampled):
        epochs = 1 if data.refresh == "stage" else stage.steps * stage.batch_samples / stage.data_samples
        completions = math.ceil(epochs * stage.data_samples) * data.rollouts
    elif stage.leaves_rollouts:
        batch = stage.method.batch()
        completions = math.ceil(stage.steps / batch.steps) * batch.completions
    else:
        return 0
    return completions * (_LINE_BYTES + _TOKEN_BYTES * (stage.max_completion_length or 0))


def checkpoint_bytes(stage: StagePlan) -> int:
    """What a stage's checkpoints take at most while it runs; 0 if it writes none or the model's size is unknown."""
    every = stage.method.save_steps
    if every is None or stage.model.nbytes is None:
        return 0
    numbers = stage.tuning.trained_numbers(locate.checkpoint_tensors(Path(stage.model.path)))
    kept = min(stage.method.save_total_limit + 1, stage.steps // every)
    average = 1 if stage.merge is not None and stage.merge.type == "ema" else 0
    return int(kept * _TRAINED_BYTES * numbers * (1 + _OPTIMIZER_STATES[stage.method.optim] + average))


def _waiting_bytes(stage: StagePlan) -> int:
    """Policies of a stage's trainings that wait for the last one."""
    return (len(stage.trainings) - 1) * policy_bytes(stage.model, stage.weights_dtype)


def check_room(plan: RunPlan, out: Path) -> None:
    """ValueError if the plan needs more than is free where `out` is or will be; what lies there already is no loss."""
    needed = estimate_bytes(plan)
    if needed is None:
        return
    free = shutil.disk_usage(existing(out)).free
    there = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) if os.path.isdir(out) else 0
    if needed > free + there:
        raise ValueError(
            f"--out: {out}: this run needs about {size(needed)}, and {size(free)} are free; choose another, fewer "
            "arms or stages, or a larger method.save_steps"
        )


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    here = path.absolute()
    return next(folder for folder in (here, *here.parents) if os.path.isdir(folder))  # also of a name that is too long


def size(nbytes: float) -> str:
    """A size for people: 4.9 MB, decimal units."""
    units: Sequence[str] = ("B", "kB", "MB", "GB")
    for unit in units:
        if nbytes < 1000:
            return f"{nbytes:.0f} {unit}" if unit == "B" or nbytes >= 100 else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"
