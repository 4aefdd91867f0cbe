"""KL and RaPO on the built-in architecture: one update however a batch is cut, their effect, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from stages import planned, random_model, rows, tensors

from cpt.folder import StageDir
from cpt.methods.kl import KL
from cpt.methods.registry import AnyRegulariser, Regulariser
from cpt.rollout.engine import EngineSettings
from cpt.rollout.local import LocalPool, build_engine
from cpt.tasks import get_task as _get_task
from cpt.train.stage import train_stage
from cpt.train.worker import import_trainers
from rewards.score import Score

pytestmark = pytest.mark.smoke
ROWS = 8
SHARED = {"learning_rate": 0.05, "optim": "sgd", "max_grad_norm": 1e9}
METHODS = {
    "sft": {"type": "sft", "target_style": "think"} | SHARED,
    "grpo": {"type": "grpo", "num_generations": 4, "max_completion_length": 6} | SHARED,
    "dr_grpo": {"type": "dr_grpo", "num_generations": 4, "max_completion_length": 6} | SHARED,
}
LORA = {"type": "lora", "r": 4}
RAPO = TypeAdapter(Regulariser).validate_python({"type": "rapo", "coefficient": 5.0})
LWF = TypeAdapter(Regulariser).validate_python({"type": "lwf"})


class EasilyPaid:
    """A task whose reward a model with random weights earns now and then."""

    def __init__(self, name: str) -> None:
        self.name, self.task = name, _get_task(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def reward(self, sample: Any, completion: str, prompt: Any) -> Score:
        return Score(len(completion) % 5 / 4, {}, completion)


@pytest.fixture(scope="module", autouse=True)
def easily_paid() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cpt.tasks.get_task", EasilyPaid)
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import_trainers()
    return random_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def pool(base: Path) -> LocalPool:
    return LocalPool(build_engine("hf", EngineSettings(str(base))))


def kl(**settings: Any) -> KL:
    return KL.model_validate(settings)


def trained(
    start: Path,
    pool: LocalPool,
    out: Path,
    method: str,
    setting: KL | AnyRegulariser | None,
    *others: AnyRegulariser,
    parts: int = 1,
    steps: int = 3,
    tuning: Any = "full",
    index: int = 1,
) -> StageDir:
    """One stage, each optimizer step in `parts` micro-batches."""
    sizes = {"per_device_train_batch_size": ROWS // parts, "gradient_accumulation_steps": parts, "max_steps": steps}
    stages = planned(start, METHODS[method] | sizes, tasks=("read-digit", "parity"), samples=64, tuning=tuning)
    divergence = setting if isinstance(setting, KL) else None
    regularisers = tuple(one for one in (setting, *others) if one is not None and not isinstance(one, KL))
    folder = StageDir(out)
    stage = replace(stages[index - 1], kl=divergence, regularisers=regularisers)
    train_stage(stage, start_folder=start, out=folder, pool=pool)
    return folder
