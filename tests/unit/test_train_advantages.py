"""From rollouts to rewards and advantages, by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("accelerate")

from cpt.methods.advantages import GROUP_MEAN  # noqa: E402
from cpt.methods.remax import ReMax  # noqa: E402
from cpt.train.advantages import Estimator, estimated, rewarded, weighed_advantages  # noqa: E402
from cpt.train.batch import Rewards, Rollouts  # noqa: E402
from cpt.types import Completion  # noqa: E402

GRPO = Estimator(GROUP_MEAN, "group")


def completion(text: str, finish_reason: Any = "stop") -> Completion:
    return Completion([7] * len(text), [-1.0] * len(text), text, finish_reason)


def rollouts(texts: list[str], greedy: tuple[str, ...] = ()) -> Rollouts:
    """Two prompts with half of the completions each."""
    samples: Any = [SimpleNamespace(id=name, task=name) for name in ("old", "new")]
    prompts: Any = [SimpleNamespace(ids=[1, 2, 3]), SimpleNamespace(ids=[4])]
    return Rollouts(samples, prompts, list(map(completion, texts)), list(map(completion, greedy)))


def by_length(texts: Any, *, sample: Any, log_metric: Any = None, noted: Any = None, **columns: Any) -> Any:
    """A third of a completion's length; nothing for "?"."""
    assert [len(ids) for ids in columns["completion_ids"]] == list(map(len, texts))
    assert columns["finish_reason"] == ["stop"] * len(texts)
    if log_metric is not None:
        log_metric("reward/length", 1 / 3)
    parts: list[Mapping[str, float]] = [{} if text == "?" else {"length": len(text) / 3} for text in texts]
    if noted is not None:
        noted += [(one.task, part) for one, part in zip(sample, parts, strict=True)]
    return [part.get("length") for part in parts]


class Doubled:
    """Weighs every component 2, on rewards or on advantages."""

    def __init__(self, on_rewards: bool) -> None:
        self.on_rewards, self.observed = on_rewards, {}

    def weight(self, name: str) -> float:
        return 2.0

    def observe(self, values: Any, step: int, *, supervised: bool) -> None:
        self.observed = {"values": values, "step": step, "supervised": supervised}

    def reward(self, parts: Any) -> float:
        return sum(2 * value for value in parts[1].values()) if parts[1] else math.nan


def test_a_failed_reward_is_no_number_and_metrics_are_float32():
    found = rewarded(by_length, rollouts(["a", "?", "aaa", "aa"]), None, 0, "cpu")
    assert found.rewards_B.tolist() == pytest.approx([1 / 3, math.nan, 1.0, 2 / 3], nan_ok=True)
    assert found.parts == [] and found.greedy_P is None
    assert found.metrics == {"reward/length": torch.tensor(1 / 3).item()}


@pytest.mark.parametrize("on_rewards", [True, False])
def test_objectives_are_told_before_they_weigh(on_rewards: bool):
    objectives: Any = Doubled(on_rewards)
    found = rewarded(by_length, rollouts(["a", "?", "aaa", "aa"]), objectives, 5, "cpu")
    assert objectives.observed == {
        "values": {"old/length": pytest.approx(1 / 3), "new/length": pytest.approx(5 / 6)},
        "step": 5, "supervised": False,
    }  # fmt: skip
    factor = 2 if on_rewards else 1
    assert found.rewards_B.tolist() == pytest.approx([factor / 3, math.nan, factor, factor * 2 / 3], nan_ok=True)
    assert found.parts[1] == ("old", {})


def test_greedy_completions_earn_the_same_reward():
    found = rewarded(by_length, rollouts(["a", "aa", "aaa", "aa"], ("aa", "?")), None, 0, "cpu")
    assert found.greedy_P.tolist() == pytest.approx([2 / 3, math.nan], nan_ok=True)
    assert found.metrics["baseline/greedy"] == pytest.approx(2 / 3)
    advantages, metrics = estimated(Estimator(ReMax.baseline, "none"), found, 2, None)
    assert advantages.tolist() == pytest.approx([-1 / 3, 0.0, 0.0, 0.0])
    assert metrics["frac_reward_zero_std"] == 0.75


def rewards_of(*values: float) -> Rewards:
    return Rewards(torch.tensor(values), [], None, {})


def test_a_groups_advantages_and_the_share_that_teaches_nothing():
    advantages, metrics = estimated(GRPO, rewards_of(0.0, 1.0, 0.5, 0.5, math.nan, 1.0), 2, None)
    scale = math.sqrt(0.5) + 1e-4
    assert advantages.tolist() == pytest.approx([-0.5 / scale, 0.5 / scale, 0, 0, 0, 0])
    assert metrics == {
        "reward": pytest.approx(0.6), "reward_std": pytest.approx(math.sqrt(0.7 / 4)),
        "frac_reward_zero_std": pytest.approx(2 / 3),  # the last group has one reward
    }  # fmt: skip


def test_what_plugins_add_counts_in_advantages_but_not_in_the_reward_that_is_logged():
    added = torch.tensor([0.0, 0.0, 0.25, -0.25])
    told: list[Any] = []
    advantages, metrics = estimated(
        GRPO, rewards_of(1.0, 1.0, 0.5, 0.5), 2, None, added, lambda rewards: told.append(rewards.tolist()) or 0.5
    )
    assert told == [[1.0, 1.0, 0.75, 0.25]]
    assert advantages.tolist() == pytest.approx([0, 0, 0.25 / 0.5001, -0.25 / 0.5001])
    assert metrics["reward"] == 0.75 and metrics["frac_reward_zero_std"] == 0.5


def test_weights_on_advantages_act_component_by_component():
    parts = [("old", {"a": 1.0, "b": 0.0}), ("old", {"a": 0.0, "b": 1.0}), ("new", {"a": 1.0}), ("new", {})]
    weights = {"old/a": 3.0, "old/b": 1.0, "new/a": 1.0}
    found, alike = weighed_advantages(parts, weights.__getitem__, 2, Estimator(GROUP_MEAN, "none"))
    assert found.tolist() == [3 / 2 - 1 / 2, -3 / 2 + 1 / 2, 0.0, 0.0]
    assert alike.tolist() == [False, True]
    objectives: Any = SimpleNamespace(on_rewards=False, weight=weights.__getitem__)
    rewards = Rewards(torch.tensor([0.5, 0.5, 1.0, math.nan]), parts, None, {})
    advantages, metrics = estimated(Estimator(GROUP_MEAN, "none"), rewards, 2, objectives)
    assert advantages.tolist() == found.tolist() and metrics["frac_reward_zero_std"] == 0.5
