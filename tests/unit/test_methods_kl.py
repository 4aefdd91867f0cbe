"""KL and RaPO: estimators and their gradients on distributions over two tokens, and references."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy_stage import stage_of
from toys import Lookup, batch
from toys import plugin as plugin_of

from cpt.methods.divergence import token_kl
from cpt.methods.kl import KL, KLPlugin, estimate
from cpt.methods.plugin import Batch, Plugin
from cpt.methods.running import Means
from cpt.methods.snapshot import Snapshot

P, Q = torch.tensor([0.8, 0.2]), torch.tensor([0.5, 0.5])  # the policy's next token, and the reference's
KL_PQ = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
KL_QP = 0.5 * math.log(0.625) + 0.5 * math.log(2.5)
BOTH = torch.tensor([0, 1])


def policy() -> Lookup:
    """P after token 0, Q after token 1."""
    return Lookup([P.log().tolist(), Q.log().tolist()])


def reference() -> Lookup:
    """Q after either token."""
    return Lookup([Q.log().tolist(), Q.log().tolist()])


def begun(plugin: Plugin, model: nn.Module, **references: Any) -> Plugin:
    """The plug-in at the start of a stage."""
    plugin.before_stage(stage_of(model, Path(), index=2, references=references))
    return plugin


def kl(model: nn.Module, references: Mapping[str, Any] | None = None, **settings: Any) -> Plugin:
    setting = KL.model_validate({"coefficient": 1.0, **settings})
    return begun(setting.plugin(), model, **({"stage_start": reference()} if references is None else references))


# ---- estimators


@pytest.mark.parametrize(
    ("estimator", "by_hand"),
    [
        ("k1", [math.log(1.6), math.log(0.4)]),
        ("k2", [math.log(1.6) ** 2 / 2, math.log(0.4) ** 2 / 2]),
        ("k3", [0.625 - 1 + math.log(1.6), 2.5 - 1 + math.log(0.4)]),
    ],
)
def test_estimators_by_hand(estimator: Any, by_hand: list[float]):
    assert estimate(estimator, P.log(), Q.log()).tolist() == pytest.approx(by_hand, abs=1e-6)
    assert estimate(estimator, Q.log(), Q.log()).tolist() == [0.0, 0.0]


def test_exact_by_hand():
    shifted = P.log() + 7.0  # logits are not log-probabilities
    found = token_kl(torch.stack([shifted, Q.log()]), torch.stack([Q.log(), Q.log()]))
    assert found.tolist() == pytest.approx([KL_PQ, 0.0], abs=1e-6)


@pytest.mark.parametrize(("estimator", "unbiased"), [("k1", True), ("k2", False), ("k3", True)])
def test_the_mean_over_the_policys_own_tokens(estimator: Any, unbiased: bool):
    mean = float((P * estimate(estimator, P.log(), Q.log())).sum())
    assert (mean == pytest.approx(KL_PQ, abs=1e-6)) is unbiased


# In logits: ∇KL(p‖q) = p (log p/q − KL), ∇KL(q‖p) = p − q.
TOWARDS = [0.8 * (math.log(1.6) - KL_PQ), 0.2 * (math.log(0.4) - KL_PQ)]
OTHER_WAY = [0.3, -0.3]


def gradient(of: Callable[[torch.Tensor], torch.Tensor]) -> list[float]:
    """Gradient in the policy's logits of a function of its log-probabilities."""
    logits = P.log().clone().requires_grad_()
    of(torch.log_softmax(logits, -1)).backward()
    assert logits.grad is not None
    found: list[float] = logits.grad.tolist()
    return found


@pytest.mark.parametrize(("estimator", "expected"), [("k1", [0.0, 0.0]), ("k2", TOWARDS), ("k3", OTHER_WAY)])
def test_the_expected_gradient_in_the_loss(estimator: Any, expected: list[float]):
    found = gradient(lambda logps: (P * estimate(estimator, logps, Q.log())).sum())
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_gradient_of_exact_is_that_of_the_divergence():
    assert gradient(lambda logps: token_kl(logps[None], Q.log()[None]).sum()) == pytest.approx(TOWARDS, abs=1e-6)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", TOWARDS), ("k3", [a - b for a, b in zip(TOWARDS, OTHER_WAY, strict=True)])],
)
def test_the_expected_policy_gradient_of_the_reward(estimator: Any, expected: list[float]):
    # −E[r ∇log π] with r = −k: what a descent step follows.
    found = gradient(lambda logps: (P * estimate(estimator, P.log(), Q.log()) * logps).sum())
    assert found == pytest.approx(expected, abs=1e-6)


# ---- in the loss


def test_exact_is_a_mean_over_tokens_and_then_rows():
    # Row 1: P after 0, then Q after 1: (KL_PQ + 0) / 2. Row 2: P after 0. The padding is no token.
    model = policy()
    plugin = kl(model, coefficient=3.0)
    loss = plugin.term(model, batch([0, 1, 0], [0, 0]))
    mean = (KL_PQ / 2 + KL_PQ) / 2
    assert loss.item() == pytest.approx(3 * mean, abs=1e-6)
    assert plugin.metrics() == {"kl": pytest.approx(mean, abs=1e-6)}
    loss.backward()
    assert model.table.grad[0].tolist() == pytest.approx([3 * 0.75 * one for one in TOWARDS], abs=1e-6)
    assert model.table.grad[1].tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_an_estimator_looks_at_the_token_that_is_there():
    model = policy()
    k2 = [math.log(1.6) ** 2 / 2, math.log(0.4) ** 2 / 2]
    found = kl(model, estimator="k2").term(model, batch([0, 0, 1], [0, 1]))
    assert found.item() == pytest.approx(((k2[0] + k2[1]) / 2 + k2[1]) / 2, abs=1e-6)


def test_the_reference_gets_no_gradient():
    model, there = policy(), reference()
    kl(model, {"stage_start": there}).term(model, batch([0, 1])).backward()
    assert there.table.grad is None


def test_a_coefficient_of_0_measures_and_changes_nothing():
    model = policy()
    plugin = kl(model, coefficient=0.0)
    assert plugin.term(model, batch([0, 1])) is None
    assert plugin.metrics() == {"kl": pytest.approx(KL_PQ, abs=1e-6)}


def test_what_is_logged_is_a_mean_over_micro_batches():
    model = policy()
    plugin = kl(model)
    plugin.term(model, batch([0, 1]))
    plugin.term(model, batch([1, 1]))
    assert plugin.metrics() == {"kl": pytest.approx(KL_PQ / 2, abs=1e-6)}
    means = Means("a")
    assert means.read() == {"a": 0.0}
    means.note(a=2.0)
    assert means.read() == means.read() == {"a": 2.0}  # no news


def test_plugins_share_what_a_model_says_of_a_batch():
    model, there = policy(), reference()
    given = torch.stack([Q.log()]).requires_grad_()
    shared = Batch(batch([0, 1]).inputs, batch([0, 1]).labels, {model: lambda: given})
    plugins = [kl(model, {"stage_start": there}), begun(plugin_of(type="lwf"), model, stage_start=there)]
    assert [plugin.term(model, shared).item() for plugin in plugins] == [
        0.0,
        0.0,
    ]  # the given logits are the reference's
    assert (model.passes, there.passes) == (0, 1)
    assert kl(model, {"stage_start": there}).term(model, batch([0, 1])).item() == pytest.approx(KL_PQ, abs=1e-6)


# ---- references


@pytest.mark.parametrize(
    ("settings", "asked"),
    [({}, "stage_start"), ({"reference": "base"}, "base"), ({"reference": "path", "path": "old/policy"}, "old/policy")],
)
def test_the_reference_that_is_asked_for(settings: dict[str, Any], asked: str):
    model = policy()
    assert kl(model, {asked: reference()}, **settings).term(model, batch([0, 1])).item() == pytest.approx(
        KL_PQ, abs=1e-6
    )


def moved(model: Lookup, plugin: Plugin, logit: float) -> None:
    """An optimizer step: what a stage's loop does around it."""
    plugin.after_backward()
    with torch.no_grad():
        model.table[0, 0] = logit
    plugin.after_step()


def against(logit: float, other: float) -> float:
    """KL between the two-token distributions of the logits (logit, 0) and (other, 0)."""
    return float(token_kl(torch.tensor([[logit, 0.0]]), torch.tensor([[other, 0.0]])))


def test_ema_follows_after_every_step(tmp_path: Path):
    model = Lookup([[0.0, 0.0], [0.0, 0.0]])
    plugin = kl(model, {}, reference="ema", decay=0.75)
    one = batch([0, 1])
    assert plugin.term(model, one).item() == 0.0
    moved(model, plugin, 4.0)
    assert plugin.term(model, one).item() == pytest.approx(against(4.0, 1.0))  # 0.75 · 0 + 0.25 · 4
    assert plugin.term(model, one).item() == pytest.approx(against(4.0, 1.0))  # the step's next micro-batch
    moved(model, plugin, 8.0)
    plugin.save(tmp_path)  # a checkpoint after the step
    resumed = kl(Lookup([[0.0, 0.0], [0.0, 0.0]]), {}, reference="ema", decay=0.75)
    resumed.load(tmp_path)
    assert isinstance(resumed, KLPlugin) and resumed.average is not None
    assert resumed.average.values["table"][0].tolist() == [2.75, 0.0]  # 0.75 · 1 + 0.25 · 8
    assert plugin.term(model, one).item() == pytest.approx(against(8.0, 2.75))


def test_in_the_reward_ema_follows_steps_between_generations_too():
    model = Lookup([[0.0, 0.0], [0.0, 0.0]])
    plugin = kl(model, {}, reference="ema", decay=0.75, estimator="k1", coefficient=1.0, **{"in": "reward"})
    moved(model, plugin, 4.0)
    moved(model, plugin, 8.0)  # on the same completions: num_iterations or steps_per_generation
    logps = torch.log_softmax(torch.tensor([8.0, 0.0]), 0)
    added = plugin.reward(batch([0, 0]), logps[:1, None], torch.ones(1, 1))
    there = torch.log_softmax(torch.tensor([2.75, 0.0]), 0)  # 0.75 · (0.75 · 0 + 0.25 · 4) + 0.25 · 8
    assert added.item() == pytest.approx(float(there[0] - logps[0]))


def test_only_ema_has_something_to_save(tmp_path: Path):
    model = policy()
    plugin = kl(model)
    plugin.save(tmp_path)
    plugin.load(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_stays_where_the_model_was():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Dropout(0.5)).train()
    x = torch.tensor([[1.0, 2.0]])
    before = model[0](x)
    snapshot = Snapshot(model, {"0.weight": model[0].weight})
    with torch.no_grad():
        model[0].weight.zero_()
    assert torch.equal(snapshot(input=x), before)  # no dropout
    assert not snapshot(input=x).requires_grad
    assert model.training and model[0].weight.abs().sum() == 0


@pytest.mark.parametrize(
    ("settings", "stage", "zero"),
    [
        ({}, 2, True),
        ({"reference": "ema"}, 2, True),
        ({"reference": "base"}, 1, True),
        ({"reference": "base"}, 2, False),
    ],
)
def test_where_the_divergence_starts_at_zero(settings: dict[str, Any], stage: int, zero: bool):
    assert KL.model_validate(settings).starts_at_zero(stage) is zero


# ---- in the reward


LOGPS = torch.tensor([[math.log(0.8), math.log(0.5)], [math.log(0.2), 99.0]])  # of the policy; the last is padding
MASK = torch.tensor([[1, 1], [1, 0]])


def test_the_reward_loses_the_sum_over_tokens():
    plugin = kl(policy(), coefficient=2.0, estimator="k1", **{"in": "reward"})
    added = plugin.reward(batch([0, 0, 0], [0, 1]), LOGPS, MASK)
    assert added.tolist() == pytest.approx([-2 * math.log(1.6), -2 * math.log(0.4)], abs=1e-5)
    assert plugin.metrics() == {
        "kl": pytest.approx((math.log(1.6) / 2 + math.log(0.4)) / 2, abs=1e-5),  # a token's
        "reward": pytest.approx(-math.log(1.6) - math.log(0.4), abs=1e-5),
    }
    assert plugin.term(policy(), batch([0, 1])) is None
    assert kl(policy()).reward(batch([0, 1]), LOGPS[:1], MASK[:1]) is None
    assert not added.requires_grad


def test_a_failed_reward_stays_failed():
    added = kl(policy(), estimator="k1", **{"in": "reward"}).reward(batch([0, 0, 0], [0, 1]), LOGPS, MASK)
    assert (torch.tensor([math.nan, 1.0]) + added).isnan().tolist() == [True, False]


def test_rapo_pays_for_what_has_not_become_likelier():
    plugin = begun(plugin_of(type="rapo", coefficient=0.5, sharpness=2.0), policy(), stage_start=reference())
    # Row 1: mean of log(1.6) and 0. Row 2: log(0.4) < 0, less likely than before.
    bonus = plugin.reward(batch([0, 0, 0], [0, 1]), LOGPS, MASK)
    assert bonus.tolist() == pytest.approx([0.5 / 1.6, 0.5], abs=1e-5)  # exp(−2 · log(1.6) / 2)
    assert not bonus.requires_grad
    assert plugin.metrics() == {
        "distance": pytest.approx(math.log(1.6) / 4, abs=1e-5),
        "reward": pytest.approx((0.5 / 1.6 + 0.5) / 2, abs=1e-5),
    }


def test_a_masked_completion_is_paid_nothing():
    rows = batch([0, 0, 0], [0, 1])
    masked = Batch(rows.inputs, torch.where(torch.tensor([[True], [False]]), rows.labels, -100))
    only_first = MASK * torch.tensor([[1], [0]])  # the second was cut off, and mask_truncated_completions is set
    rapo = begun(plugin_of(type="rapo", coefficient=0.5, sharpness=2.0), policy(), stage_start=reference())
    assert rapo.reward(masked, LOGPS, only_first).tolist() == pytest.approx([0.5 / 1.6, 0.0], abs=1e-5)
    paid = kl(policy(), estimator="k1", **{"in": "reward"}).reward(masked, LOGPS, only_first)
    assert paid.tolist() == pytest.approx([-math.log(1.6), 0.0], abs=1e-5)


# ---- a larger coefficient keeps nearer


def climbed(plugin: Plugin, rate: float) -> float:
    """Probability of the one token of two that the task pays, after ascent on the exact gradient of the reward.

    Starts at 1/2, which is also the reference.
    """
    logits = torch.zeros(2, requires_grad=True)
    task, everything = torch.tensor([0.0, 1.0]), batch([0, 0], [0, 1])
    for _ in range(60):
        logps = torch.log_softmax(logits, 0)
        added = plugin.reward(everything, logps.detach()[:, None], torch.ones(2, 1))
        assert added is not None
        (slope,) = torch.autograd.grad((logps.exp() * (task + added)).sum(), logits)
        with torch.no_grad():
            logits += rate * slope
    return float(logits.detach().softmax(0)[1])


def test_a_larger_kl_coefficient_ends_nearer_to_the_reference():
    def in_reward(coefficient: float) -> Plugin:
        return kl(policy(), estimator="k1", coefficient=coefficient, **{"in": "reward"})

    found = [climbed(in_reward(one), rate=1 / one) for one in (0.5, 1.0, 2.0)]
    # max E[r] − β KL(π ‖ π_ref) is π ∝ π_ref exp(r / β)
    assert found == pytest.approx([1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-0.5))], abs=1e-4)
    distances = [token_kl(torch.tensor([1 - p, p]).log(), Q.log()).item() for p in found]
    assert distances[0] > distances[1] > distances[2] > 0


def test_rapo_pays_nothing_in_the_first_task():
    plugin = plugin_of(type="rapo")
    plugin.before_stage(stage_of(policy(), Path()))  # no reference is asked for
    assert plugin.reward(batch([0, 0, 0], [0, 1]), LOGPS, MASK) is None
    assert plugin.metrics() == {"distance": 0.0, "reward": 0.0}


def test_rapos_deviation_goes_on_from_step_to_step_and_from_task_to_task(tmp_path: Path):
    first = plugin_of(type="rapo", decay=0.75)
    stage = stage_of(policy(), tmp_path / "one")
    first.before_stage(stage)
    # Unbiased deviations: of (0, 1) sqrt(1/2); of (0, 2) sqrt(2); NaN counts in none. It starts as the first one.
    assert first.deviation(torch.tensor([0.0, 1.0, math.nan])) == pytest.approx(math.sqrt(0.5))
    average = 0.75 * math.sqrt(0.5) + 0.25 * math.sqrt(2)
    assert first.deviation(torch.tensor([0.0, 2.0])) == pytest.approx(average)
    assert first.metrics()["deviation"] == pytest.approx(average)
    first.after_stage(stage)
    second = plugin_of(type="rapo", decay=0.75)
    second.before_stage(stage_of(policy(), tmp_path / "two", 2, tmp_path / "one", references={"stage_start": None}))
    assert second.deviation(torch.tensor([1.0, 1.0])) == pytest.approx(0.75 * average)  # equal rewards: 0
    (tmp_path / "checkpoint").mkdir()
    second.save(tmp_path / "checkpoint")
    resumed = plugin_of(type="rapo", decay=0.75)
    resumed.load(tmp_path / "checkpoint")
    assert resumed.deviation(torch.tensor([1.0, 1.0])) == pytest.approx(0.75**2 * average)
    assert plugin_of(type="rapo", normalise="method").deviation(torch.tensor([0.0, 1.0])) is None


def test_a_larger_rapo_coefficient_ends_nearer_to_the_start():
    def rapo(coefficient: float) -> Plugin:
        setting = plugin_of(type="rapo", coefficient=coefficient, sharpness=2.0)
        return begun(setting, policy(), stage_start=reference())

    found = [climbed(rapo(one), rate=2 / one) for one in (2.0, 4.0, 8.0)]
    # At rest both tokens earn the same: 1 + λ exp(−2 d) = λ, where d = log(π / ½) of the paid one.
    assert found == pytest.approx([0.5 * (1 - 1 / one) ** -0.5 for one in (2, 4, 8)], abs=1e-4)
    assert found[0] > found[1] > found[2] > 0.5
