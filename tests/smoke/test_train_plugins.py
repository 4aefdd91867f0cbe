"""Regularisers in SFT and GRPO on the built-in architecture: one update however a batch is cut, and their effect."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from stages import difference, moved, planned, rows, tensors

from cpt.methods.registry import AnyRegulariser, Regulariser
from cpt.plan.stages import StagePlan
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.train.stage import train_stage

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("easily_rewarded")]
ROWS = 8
SHARED = {"learning_rate": 0.05, "max_steps": 2, "optim": "sgd", "max_grad_norm": 1e9}
METHODS = {
    "sft": {"type": "sft", "target_style": "think"} | SHARED,
    "grpo": {"type": "grpo", "num_generations": 2, "max_completion_length": 6} | SHARED,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "ewc": {"type": "ewc", "coefficient": 1e3, "samples": 4},
    "l2": {"type": "l2", "coefficient": 4.0},
    "lwf": {"type": "lwf", "coefficient": 1.0},
    "mas": {"type": "mas", "coefficient": 1.0, "samples": 4},
    # An absolute value's gradient has one size: with a larger coefficient SGD's few steps swing around the reference.
    "cpo": {"type": "cpo", "coefficient": 0.01},
    "freeze-bottom": {"type": "freeze-bottom"},
    "hft": {"type": "hft"},
    "o-lora": {"type": "o-lora"},
    "reg-lora": {"type": "reg-lora"},
}
LORA = {"type": "lora", "r": 4}
TUNING: dict[str, Any] = {kind: LORA if kind in ("o-lora", "reg-lora") else "full" for kind in SETTINGS}


def regulariser(settings: dict[str, Any]) -> AnyRegulariser:
    return TypeAdapter(Regulariser).validate_python(settings)


def plans(
    base: Path, method: str, *settings: dict[str, Any], parts: int = 1, steps: int = 2, tuning: Any = "full"
) -> list[StagePlan]:
    """Both stages of a two-task arm, each optimizer step in `parts` micro-batches."""
    sizes = {"per_device_train_batch_size": ROWS // parts, "gradient_accumulation_steps": parts, "max_steps": steps}
    tasks = ("read-digit", "count-colour")
    stages = planned(base, METHODS[method] | sizes, tasks=tasks, samples=64, tuning=tuning)
    return [replace(stage, regularisers=tuple(map(regulariser, settings))) for stage in stages]


def two_stages(
    base: Path, pool: LocalPool, out: Path, method: str, *settings: dict[str, Any], tuning: Any = "full"
) -> list[StageDir]:
    """Train one after another."""
    start, done = base, []
    for stage in plans(base, method, *settings, tuning=tuning):
        done.append(StageDir(out / str(stage.index)))
        start = train_stage(stage, start_folder=start, out=done[-1], pool=pool).policy
    return done


@pytest.fixture(scope="module")
def plain(base: Path, pool: LocalPool, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[StageDir]]:
    """Both methods without a plug-in, and with adapters."""
    runs = {method: two_stages(base, pool, tmp_path_factory.mktemp(method), method) for method in METHODS}
    for method in METHODS:
        runs[f"{method} lora"] = two_stages(base, pool, tmp_path_factory.mktemp(method), method, tuning=LORA)
    return runs


@pytest.fixture(scope="module")
def whole_batches(
    base: Path, pool: LocalPool, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], list[StageDir]]:
    """Both stages of a method with a regulariser of `SETTINGS`; the same ones for whoever asks again."""

    @cache
    def train(method: str, kind: str) -> list[StageDir]:
        return two_stages(base, pool, tmp_path_factory.mktemp(kind), method, SETTINGS[kind], tuning=TUNING[kind])

    return train


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", SETTINGS)
def test_four_quarters_are_one_whole(
    base: Path, pool: LocalPool, plain: Any, whole_batches: Any, tmp_path: Path, kind: str, method: str
):
    tuning = TUNING[kind]
    first, whole = whole_batches(method, kind)
    second = plans(base, method, SETTINGS[kind], parts=4, tuning=tuning)[1]
    quarters = StageDir(tmp_path)
    train_stage(second, start_folder=first.policy, out=quarters, pool=pool)
    assert difference(whole, quarters) < 2e-6  # float32, sums in another order
    without = plain[method if tuning == "full" else f"{method} lora"]
    assert difference(whole, without[1]) > 1e-5  # it has done something
    assert all(any(key.startswith(f"plugin/{kind}/") for key in row) for row in rows(whole))


@pytest.mark.parametrize("method", METHODS)
def test_the_first_stage_has_nothing_to_remember(plain: Any, whole_batches: Any, method: str):
    assert difference(whole_batches(method, "ewc")[0], plain[method][0]) == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_frozen_layers_are_left_exactly_where_they_were(base: Path, pool: LocalPool, tmp_path: Path, method: str):
    first, second = two_stages(base, pool, tmp_path, method, {"type": "freeze-bottom", "layers": 3})
    names = tensors(first.policy).keys()
    still = names - moved(first.policy, second.policy)
    layers = {name for name in names if re.search(r"(?<!visual)\.layers\.[012]\.", name)}
    assert layers and layers <= still
    assert not any(re.search(r"\.layers\.3\..*proj\.weight", name) for name in still)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("kind", "measure", "much"),  # so much that plain SGD's three steps are still stable
    [
        ("ewc", "penalty", 1e2),
        ("l2", "penalty", 4.0),
        ("cpo", "penalty", 0.01),
        ("lwf", "kl", 0.2),
    ],
)
def test_a_larger_coefficient_keeps_nearer(
    base: Path, pool: LocalPool, whole_batches: Any, tmp_path: Path, method: str, kind: str, measure: str, much: float
):
    first, _ = whole_batches(method, kind)
    found = []
    for coefficient in (1e-3, much):
        second = plans(base, method, SETTINGS[kind] | {"coefficient": coefficient}, steps=3)[1]
        out = StageDir(tmp_path / str(coefficient))
        train_stage(second, start_folder=first.policy, out=out, pool=pool)
        value = rows(out)[-1][f"plugin/{kind}/{measure}"]
        found.append(value / coefficient if measure == "penalty" else value)
    assert 0 < found[1] < found[0]
