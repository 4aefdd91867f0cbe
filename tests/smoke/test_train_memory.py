"""A-GEM, DER and the supervised side loss, in SFT and GRPO on the built-in architecture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from safetensors.torch import load_file
from stages import Killed, die_at, difference, digest, planned, rows, trained

from cpt.methods.registry import AnyRegulariser, AnyReplay, Regulariser, Replay
from cpt.models.load import load_processor
from cpt.plan.stages import Source, StagePlan
from cpt.recipe import RewardSpec
from cpt.rollout.local import LocalPool
from cpt.tasks import get_task

pytestmark = pytest.mark.smoke
SHARED = {"learning_rate": 0.05, "max_steps": 3, "optim": "sgd", "max_grad_norm": 1e9}
METHODS = {
    "sft": {"type": "sft", "target_style": "think"} | SHARED,
    "grpo": {"type": "grpo", "num_generations": 2, "max_completion_length": 6} | SHARED,
}
# Paid for different words: a model with random weights earns it now and then.
PAID = RewardSpec.model_validate({"components": [{"type": "repetition", "weight": 1.0, "n": 1}]})
AGEM = {"type": "a-gem", "samples": 16, "rows": 6}
DER = {"type": "der", "coefficient": 0.5, "samples": 8, "rows": 4, "plus": 0.1}
SIDE_LOSS = {"type": "buffer", "loss": "supervised", "ratio": 0.5, "budget": 8}


def stages(base: Path, method: str, *settings: dict[str, Any], parts: int = 1, **changed: Any) -> list[StagePlan]:
    """Both stages of read-digit and count-colour in batches of 8 rows; the second one may replay a task of words."""
    sizes = {"per_device_train_batch_size": 8 // parts, "gradient_accumulation_steps": parts}
    plans = planned(base, METHODS[method] | sizes | changed, tasks=("read-digit", "count-colour"))
    regularisers: list[AnyRegulariser] = [TypeAdapter(Regulariser).validate_python(one) for one in settings]
    reward = PAID if method == "grpo" else None
    return [replace(stage, regularisers=tuple(regularisers), reward=reward) for stage in plans]


def with_side_loss(stage: StagePlan) -> StagePlan:
    replay: AnyReplay = TypeAdapter(Replay).validate_python(SIDE_LOSS)
    return replace(stage, replay=replay, sources=(Source("read-digit", 24, finished=True), Source("arithmetic", 16)))


# So long that some step does conflict.
@pytest.mark.parametrize(
    ("method", "settings"), [("sft", {"target_style": "dataset", "max_steps": 6}), ("grpo", {})], ids=["sft", "grpo"]
)
def test_a_gem_projects_the_gradient_of_a_whole_step(
    base: Path, pool: LocalPool, tmp_path: Path, method: str, settings: dict[str, Any]
):
    plain = trained(stages(base, method, **settings)[1], base, tmp_path / "plain", pool)
    whole = trained(stages(base, method, AGEM, **settings)[1], base, tmp_path / "whole", pool)
    quarters = trained(stages(base, method, AGEM, parts=4, **settings)[1], base, tmp_path / "quarters", pool)
    assert difference(whole, quarters) < 2e-6  # float32, sums in another order
    told = [(row["plugin/a-gem/projected"], row.get("plugin/a-gem/cosine", 0.0)) for row in rows(whole)]
    assert all(projected == (cosine < 0) for projected, cosine in told)
    assert 1.0 in {projected for projected, _ in told}, told
    assert difference(whole, plain) > 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_der_holds_the_logits_of_the_stage_before(base: Path, pool: LocalPool, tmp_path: Path, method: str):
    first, second = stages(base, method, DER, max_steps=2)
    start = trained(first, base, tmp_path / "1", pool).policy
    plain = trained(stages(base, method, max_steps=2)[1], start, tmp_path / "plain", pool)
    whole = trained(second, start, tmp_path / "whole", pool)
    quarters = trained(stages(base, method, DER, parts=4, max_steps=2)[1], start, tmp_path / "quarters", pool)
    assert difference(whole, quarters) < 2e-6
    assert difference(whole, plain) > 1e-5
    before, after = [row["plugin/der/mse"] for row in rows(whole)]
    assert before < 5e-5 < after  # float16: by its rounding, most where rollouts' banned tokens have logits near -100

    left = load_file(tmp_path / "1" / "plugins" / "der" / "logits.safetensors")
    assert len(left) == DER["samples"]
    task, tokenizer = get_task("read-digit"), load_processor(base).tokenizer
    style = "think" if method == "sft" else "policy"  # what the method imitates, or the prompt's format
    samples = task.samples("train", 24)
    for key, logits in left.items():
        target = task.target(samples[int(key.removeprefix("read-digit/"))], style, "direct")
        assert logits.shape == (len(tokenizer(target)["input_ids"]) + 1, len(tokenizer))  # and the end of the turn


def test_the_side_loss_joins_the_policy_gradient(base: Path, pool: LocalPool, tmp_path: Path):
    plain = trained(stages(base, "grpo")[1], base, tmp_path / "plain", pool)
    whole = trained(with_side_loss(stages(base, "grpo")[1]), base, tmp_path / "whole", pool)
    quarters = trained(with_side_loss(stages(base, "grpo", parts=4)[1]), base, tmp_path / "quarters", pool)
    assert difference(whole, quarters) < 2e-6
    assert difference(whole, plain) > 1e-3
    nlls = [row["plugin/replay/nll"] for row in rows(whole)]
    assert nlls == sorted(nlls, reverse=True)


def test_a_killed_stage_resumes_to_the_same_weights(base: Path, pool: LocalPool, tmp_path: Path):
    first, second = stages(base, "grpo", AGEM, DER, save_steps=1)
    start = trained(first, base, tmp_path / "1", pool).policy
    second = with_side_loss(second)
    undisturbed = trained(second, start, tmp_path / "undisturbed", pool)
    with pytest.raises(Killed):
        trained(second, start, tmp_path / "killed", pool, on_step=die_at(3))
    resumed = trained(second, start, tmp_path / "killed", pool)
    assert rows(resumed) == rows(undisturbed)
    assert digest(resumed.policy) == digest(undisturbed.policy)
