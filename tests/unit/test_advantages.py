"""Advantages against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from cpt.methods.advantages import EPSILON, advantages, against_group_mean, one_reward  # noqa: E402
from cpt.methods.registry import AnyMethod  # noqa: E402
from cpt.methods.remax import against_greedy  # noqa: E402
from cpt.methods.rloo import against_others  # noqa: E402

NAN = math.nan


def close(found: torch.Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-6, atol=1e-7)


def test_the_group_mean_without_a_scale():
    # means 0.25 and 0.5
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    close(against_group_mean(rewards, "none"), [[0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5]])


@pytest.mark.parametrize("epsilon", [1e-4, 1e-6])
def test_the_groups_own_deviation_is_the_unbiased_one(epsilon: float):
    # squares 0.5625 + 3 × 0.0625 = 0.75, over G − 1 = 3: variance 0.25, deviation 0.5
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    found = against_group_mean(rewards, "group", epsilon)
    close(found, [[0.75 / (0.5 + epsilon), *[-0.25 / (0.5 + epsilon)] * 3]])
    close(against_group_mean(rewards), against_group_mean(rewards, "group", EPSILON).tolist())
    assert EPSILON == 1e-4


def test_the_batchs_deviation_is_one_for_all_groups():
    # all four rewards: mean 1.5, squares 2.25 + 0.25 + 0.25 + 2.25 = 5, over 3
    rewards = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    unit = 0.5 / (math.sqrt(5 / 3) + 1e-4)
    close(against_group_mean(rewards, "batch"), [[-unit, unit], [-unit, unit]])


def test_the_mean_of_the_others():
    # others' means: of 1: (0 + 0 + 0.5) / 3; of each 0: (1 + 0 + 0.5) / 3; of 0.5: 1 / 3
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.5]])
    close(against_others(rewards), [[5 / 6, -0.5, -0.5, 1 / 6]])
    close(against_others(torch.tensor([[1.0, 0.25]])), [[0.75, -0.75]])
    close(against_others(rewards), (against_group_mean(rewards, "none") * 4 / 3).tolist())


def test_the_greedy_completion_of_the_same_prompt():
    greedy = torch.tensor([1.0, 0.25])
    close(against_greedy(torch.tensor([[0.0], [1.0]]), greedy), [[-1.0], [0.75]])
    close(against_greedy(torch.tensor([[0.0, 1.0], [0.25, 0.5]]), greedy), [[-1.0, 0.0], [0.0, 0.25]])


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 0.7])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_a_group_of_one_reward_moves_nothing(reward: float, size: int):
    rewards = torch.full((2, size), reward)
    assert torch.equal(against_others(rewards), torch.zeros(2, size))
    assert torch.equal(against_greedy(rewards, rewards[:, 0]), torch.zeros(2, size))
    for scale in ("group", "batch", "none"):
        # The mean of equal numbers may be off by a rounding, 6e-8 of the reward, which ε lets grow to 1e-3 at most.
        assert against_group_mean(rewards, scale).abs().max() < 1e-3


def test_what_has_no_reward_counts_in_nothing():
    rewards = torch.tensor([[1.0, 0.0, NAN], [NAN, 0.5, NAN], [NAN, NAN, NAN]])
    # first group: mean 0.5, variance 2 × 0.25 over 1; the second has one reward and no deviation
    unit = 0.5 / (math.sqrt(0.5) + 1e-4)
    none = [0.0, 0.0, 0.0]
    close(against_group_mean(rewards, "none"), [[0.5, -0.5, 0.0], none, none])
    close(against_group_mean(rewards, "group"), [[unit, -unit, 0.0], none, none])
    close(against_others(rewards), [[1.0, -1.0, 0.0], none, none])
    close(against_greedy(rewards, torch.tensor([1.0, NAN, 0.0])), [[0.0, -1.0, 0.0], none, none])


def test_groups_of_one_reward():
    rewards = torch.tensor([[0.3, 0.3, 0.3], [0.3, 0.3, 0.4], [NAN, 0.3, NAN], [NAN, NAN, NAN], [NAN, 0.1, 0.2]])
    assert one_reward(rewards).tolist() == [True, False, True, True, False]


def test_each_method_has_its_own():
    kinds = {cls.model_fields["type"].annotation.__args__[0]: cls for cls in AnyMethod.__args__}
    rewards, greedy = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([1.0])
    for kind in ("grpo", "dr_grpo", "dapo", "gspo", "reinforce"):
        found = advantages(kinds[kind].baseline, rewards, scale="group")
        assert torch.equal(found, against_group_mean(rewards))
        assert torch.equal(advantages(kinds[kind].baseline, rewards), against_group_mean(rewards, "none"))
    assert torch.equal(advantages(kinds["rloo"].baseline, rewards), against_others(rewards))
    assert torch.equal(advantages(kinds["remax"].baseline, rewards, greedy_P=greedy), against_greedy(rewards, greedy))


def test_a_given_deviation_stands_in_the_scales_place():
    # mean 1/3, over 0.5 + 1e-4
    found = advantages(AnyMethod.__args__[1].baseline, torch.tensor([[1.0, 0.0, 0.0]]), scale="group", deviation=0.5)
    close(found, [[2 / 3 / 0.5001, -1 / 3 / 0.5001, -1 / 3 / 0.5001]])
