"""KL and RaPO on the built-in architecture: one update however a batch is cut, their effect, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from stages import difference, planned, rows

from cpt.methods.kl import KL
from cpt.methods.registry import AnyRegulariser, Regulariser
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.train.stage import train_stage

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("easily_rewarded")]
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


def kl(**settings: Any) -> KL:
    return KL.model_validate(settings)


def trained(
    base: Path,
    pool: LocalPool,
    out: Path,
    method: str,
    setting: KL | AnyRegulariser | None,
    *others: AnyRegulariser,
    parts: int = 1,
    steps: int = 3,
    tuning: Any = "full",
    index: int = 1,
    start: Path | None = None,
) -> StageDir:
    """One stage, each optimizer step in `parts` micro-batches."""
    sizes = {"per_device_train_batch_size": ROWS // parts, "gradient_accumulation_steps": parts, "max_steps": steps}
    stages = planned(base, METHODS[method] | sizes, tasks=("read-digit", "parity"), samples=64, tuning=tuning)
    divergence = setting if isinstance(setting, KL) else None
    regularisers = tuple(one for one in (setting, *others) if one is not None and not isinstance(one, KL))
    folder = StageDir(out)
    stage = replace(stages[index - 1], kl=divergence, regularisers=regularisers)
    train_stage(stage, start_folder=start or base, out=folder, pool=pool)
    return folder


Run = Callable[..., StageDir]


@pytest.fixture(scope="module")
def run(base: Path, pool: LocalPool, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three steps of a method with a plug-in or none, by default in stage 1; the same run for whoever asks again."""

    def once(method: str, setting: KL | AnyRegulariser | None, index: int = 1) -> StageDir:
        return trained(base, pool, tmp_path_factory.mktemp(method), method, setting, index=index)

    return cache(once)


IN_REWARD = kl(coefficient=1.0, estimator="k1", **{"in": "reward"})


@pytest.mark.parametrize(
    ("method", "setting"),
    [
        ("sft", kl(coefficient=1.0)),
        ("sft", kl(coefficient=1.0, estimator="k3", reference="ema", decay=0.5)),
        ("grpo", kl(coefficient=1.0)),
        ("grpo", kl(coefficient=1.0, estimator="k3")),
        ("dr_grpo", IN_REWARD),
        ("grpo", RAPO),
    ],
    ids=["sft exact", "sft k3 ema", "grpo exact", "grpo k3", "dr. grpo reward", "rapo"],
)
def test_four_quarters_are_one_whole(base: Path, pool: LocalPool, run: Run, tmp_path: Path, method: str, setting: Any):
    index = 2 if setting is RAPO else 1  # it pays from the second task on
    whole = run(method, setting, index)
    quarters = trained(base, pool, tmp_path, method, setting, parts=4, index=index)
    assert difference(whole, quarters) < 2e-6  # float32, sums in another order
    assert difference(whole, run(method, None, index)) > 1e-4  # it has done something
    measure = "distance" if setting is RAPO else "kl"
    first, second, third = (row[f"plugin/{setting.type}/{measure}"] for row in rows(whole))
    assert abs(first) < 1e-6  # where the stage starts
    assert second > 1e-2 and third > 1e-2
    for one, other in zip(rows(whole), rows(quarters), strict=True):
        assert one[f"plugin/{setting.type}/{measure}"] == pytest.approx(
            other[f"plugin/{setting.type}/{measure}"], abs=1e-5
        )


@pytest.mark.parametrize(
    ("method", "estimator", "much"),
    [("sft", "exact", 0.5), ("sft", "k2", 0.5), ("grpo", "exact", 1.0)],  # k2, k3: too noisy for three steps of GRPO
)
def test_a_larger_coefficient_keeps_nearer(run: Run, method: str, estimator: str, much: float):
    found = []
    for coefficient in (0.0, much):
        out = run(method, kl(coefficient=coefficient, estimator=estimator))
        found.append(rows(out)[-1]["plugin/kl/kl"])
    assert 0 < found[1] < 0.9 * found[0]


@pytest.mark.parametrize("method", ["sft", "grpo"])
def test_a_coefficient_of_0_is_the_plain_method(run: Run, method: str):
    out = run(method, kl(coefficient=0.0))
    assert difference(out, run(method, None)) == 0.0
    assert rows(out)[-1]["plugin/kl/kl"] > 1e-2


@pytest.mark.parametrize("between", ["merge", "continue"])
def test_adapters_have_the_same_references(base: Path, pool: LocalPool, tmp_path: Path, between: str):
    tuning = LORA | {"between_stages": between}

    def divergences(reference: str, index: int, start: Path) -> list[float]:
        setting = kl(coefficient=0.0, reference=reference)
        folder = tmp_path / reference / str(index)
        out = trained(base, pool, folder, "sft", setting, tuning=tuning, index=index, start=start)
        return [row["plugin/kl/kl"] for row in rows(out)]

    first = divergences("base", 1, base)
    assert abs(first[0]) < 1e-6 < first[1]
    found = {name: divergences(name, 2, tmp_path / "base" / "1" / "policy") for name in ("stage_start", "base", "ema")}
    assert found["stage_start"][0] == found["ema"][0] == 0.0
    assert found["stage_start"][2] > found["ema"][2] > 0  # the average comes along
    assert found["base"][0] > first[2] / 4  # where the first stage has left it


def test_what_is_added_to_the_reward(
    base: Path, pool: LocalPool, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Dr. GRPO's advantages are rewards less their group's mean: after the first rollouts, by hand."""
    from cpt.models.load import load_policy
    from cpt.rollout.sampling import ban_tokens
    from cpt.train import step
    from cpt.train.batch import PolicyBatch
    from cpt.train.scoring import as_model_inputs

    seen: dict[str, Any] = {}
    generate, rewarded = step.StageGRPOTrainer._generate_and_score_completions, step.rewarded

    def watched(self: Any, inputs: Any) -> Any:
        columns = generate(self, inputs)
        seen["batch"] = PolicyBatch(**columns)
        return columns

    def with_a_failure(*args: Any) -> Any:
        rewards = rewarded(*args)
        rewards.rewards_B[5] = torch.nan
        seen["task"] = rewards.rewards_B.clone()
        return rewards

    monkeypatch.setattr(step.StageGRPOTrainer, "_generate_and_score_completions", watched)
    monkeypatch.setattr(step, "rewarded", with_a_failure)
    elsewhere = run("sft", None).policy
    setting = kl(coefficient=0.3, estimator="k1", reference="path", path=str(elsewhere), **{"in": "reward"})
    out = trained(base, pool, tmp_path / "out", "dr_grpo", setting, parts=2, steps=1)

    reference: Any = load_policy(elsewhere)
    ban_tokens(reference)
    task, batch = seen["task"], seen["batch"]
    with torch.no_grad():
        logps = reference.eval()(**as_model_inputs(batch).inputs).logits.log_softmax(-1)
    length = batch.completion_ids.shape[1]
    there = logps[:, -length - 1 : -1].gather(2, batch.completion_ids[:, :, None])[:, :, 0]
    added = -0.3 * ((batch.old_logps - there) * batch.completion_mask).sum(1)
    total = (task + added).view(-1, 4)
    expected = (total - total.nanmean(1, keepdim=True)).view(-1)
    assert expected[5].isnan() and expected.isnan().sum() == 1
    assert batch.advantages.tolist() == pytest.approx(expected.nan_to_num(0.0).tolist(), abs=1e-5)
    (row,) = rows(out)
    assert row["reward"] == pytest.approx(task.nanmean().item())
    assert row["plugin/kl/reward"] == pytest.approx(added.mean().item(), abs=1e-5)
    assert row["plugin/kl/reward"] < -0.1
    assert row["frac_zero_std"] == 0.0  # no group has one reward once something is added


@pytest.mark.parametrize(("method", "parts"), [("sft", 1), ("grpo", 1), ("grpo", 2)])
def test_no_further_pass_of_the_policy(
    base: Path, pool: LocalPool, tmp_path: Path, method: str, parts: int, monkeypatch: pytest.MonkeyPatch
):
    """Two plug-ins on all distributions: the policy runs as often as without them, the stage's start once."""
    from transformers import Qwen2_5_VLModel

    passes: list[bool] = []
    forward = Qwen2_5_VLModel.forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        passes.append(output.last_hidden_state.requires_grad)
        return output

    def count(*settings: Any) -> tuple[int, int]:
        passes.clear()
        trained(base, pool, tmp_path / str(len(settings)), method, *(settings or [None]), parts=parts, steps=2)
        return passes.count(True), passes.count(False)

    with monkeypatch.context() as patch:
        patch.setattr(Qwen2_5_VLModel, "forward", counted)
        learning, other = count()
        assert count(kl(coefficient=1.0), LWF) == (learning, other + 2 * parts)
