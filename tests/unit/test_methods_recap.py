"""RECAP's weights on short streams, worked out by hand, in all modes."""

from __future__ import annotations

import math

import pytest

from cpt.methods.recap import (
    MOST,
    Recap,
    Reweighting,
    Signals,
    first_paper_signals,
    first_paper_weights,
    paper_signals,
    paper_weights,
    released_signals,
    released_weights,
)


def test_too_few_values_say_nothing():
    assert first_paper_signals([0.4], 10) == released_signals([0.4], 10, False) == Signals(1.0, 0.0)
    assert first_paper_signals([], 10) == Signals(1.0, 0.0)
    assert paper_signals([0.8, 0.6, 0.4], 2) is None  # three of 2W = 4


def test_paper_by_hand():
    # Older losses 0.8, 0.6 (mean 0.7), newer 0.4, 0.2 (mean 0.3): c = 7/3, above 1 because the loss falls. All four
    # have the mean 0.5 and squares 0.09 + 0.01 + 0.01 + 0.09 = 0.2, divided by 3: i = sqrt(0.2/3) / 1.0.
    found = paper_signals([0.8, 0.6, 0.4, 0.2], 2)
    assert found is not None
    assert found.convergence == pytest.approx(7 / 3)
    assert found.instability == pytest.approx(math.sqrt(0.2 / 3))
    assert paper_signals([9.0, 9.0, 0.8, 0.6, 0.4, 0.2], 2) == found  # two windows, and no more


def test_paper_weights_by_hand():
    # s = 1 and 7/3 + 0.2582; λ = 2·softmax(s/5).
    weights = paper_weights([Signals(1.0, 0.0), Signals(7 / 3, math.sqrt(0.2 / 3))], temperature=5.0)
    first, second = math.exp(1 / 5), math.exp((7 / 3 + math.sqrt(0.2 / 3)) / 5)
    assert weights == pytest.approx([2 * first / (first + second), 2 * second / (first + second)])
    assert weights[1] > weights[0]  # the improving objective gets more than the saturated one
    assert paper_weights([Signals(3.0, 1.0), None], temperature=5.0) == [1.0, 1.0]


def test_paper_weighs_once_every_objective_has_two_windows():
    both = Reweighting(Recap(window=1, temperature=1.0), ["a", "b"], ["a", "b"], steps=10)
    both.observe({"a": 0.8}, 0)
    both.observe({"a": 0.4}, 1)
    both.observe({"b": 0.5}, 2)
    assert both.weights == {"a": 1.0, "b": 1.0}
    both.observe({"b": 0.5}, 3)
    # a: c = 2, i = (0.4/√2)/1.2; b: c = 1, i = 0
    gap = 2 + 0.4 / math.sqrt(2) / 1.2 - 1
    assert both.weights["a"] == pytest.approx(2 / (1 + math.exp(-gap)))
    assert sum(both.weights.values()) == pytest.approx(2)


def test_the_first_version_by_hand():
    # Older losses 0.8, 0.6 (mean 0.7), newer 0.4, 0.2 (mean 0.3, deviation 0.1): c = 3/7, i = 0.1/1.0.
    found = first_paper_signals([0.8, 0.6, 0.4, 0.2], 10)
    assert found.convergence == pytest.approx(3 / 7)
    assert found.instability == pytest.approx(0.1)
    # An odd number of values: the oldest is left out of both halves.
    assert first_paper_signals([9.0, 0.5, 0.5], 10) == Signals(pytest.approx(1.0), pytest.approx(0.0))
    # s = 0.5·1 + 0.5·0 = 0.5 and 0.5·3/7 + 0.5·0.1 = 0.2643; λ = 2·softmax(s/0.5).
    weights = first_paper_weights([Signals(1.0, 0.0), Signals(3 / 7, 0.1)], alpha=0.5, temperature=0.5)
    first = math.exp(0.5 / 0.5)
    second = math.exp((0.5 * 3 / 7 + 0.05) / 0.5)
    assert weights == pytest.approx([2 * first / (first + second), 2 * second / (first + second)])
    assert weights[0] > weights[1]  # the saturated objective gets more than the improving one


def test_released_by_hand():
    # Rewards 0.2, 0.4 then 0.6, 0.8: on a step of RL c = 0.6/1.4, on a supervised one 1.4/0.6.
    # Deviation of all four: sqrt(0.05); mean 0.5.
    rl, sft = (released_signals([0.2, 0.4, 0.6, 0.8], 10, supervised) for supervised in (False, True))
    assert rl.convergence == pytest.approx(0.6 / 1.4)
    assert sft.convergence == pytest.approx(1.4 / 0.6)
    assert rl.instability == sft.instability == pytest.approx(math.sqrt(0.05) / 0.5)


def test_released_weights_are_two_softmaxes():
    weights = released_weights([Signals(1.0, 0.0), Signals(2.0, 1.0)], alpha=0.25, temperature=1.0)
    share = 1 / (1 + math.e)
    assert weights == pytest.approx([2 * share, 2 * (1 - share)])  # both softmaxes are that of a difference of 1
    assert sum(released_weights([Signals(0.3, 2.0)] * 5, 0.5, 5.0)) == pytest.approx(5.0)


def test_a_reward_that_falls_to_zero_gets_more_weight_but_not_all():
    fallen = released_signals([0.5, 0.5, 0.0, 0.0], 10, False)
    assert fallen == Signals(MOST, pytest.approx(1.0))
    weights = released_weights([fallen, Signals(1.0, 0.0)], 0.5, 5.0)
    assert weights[1] > 0.2
    assert all(map(math.isfinite, weights))


def test_a_loss_that_falls_to_zero_gets_more_weight_but_not_all():
    fallen = paper_signals([0.5, 0.5, 0.0, 0.0], 2)
    assert fallen == Signals(MOST, pytest.approx(math.sqrt(0.25 / 3) / 0.5))
    assert paper_weights([fallen, Signals(1.0, 0.0)], 5.0)[1] > 0.2


def test_zeros_throughout_are_saturated():
    zeros = [0.0] * 4
    assert paper_signals(zeros, 2) == first_paper_signals(zeros, 10) == released_signals(zeros, 10, False) == Signals()


@pytest.mark.parametrize("mode", ["paper", "paper-v1", "released"])
def test_one_objective_keeps_weight_one(mode: str):
    one = Reweighting(Recap.model_validate({"mode": mode, "window": 1}), ["a"], (), steps=10)
    for step, value in enumerate([0.1, 0.9, 0.3]):
        one.observe({"a": value}, step)
        assert one.weights == {"a": pytest.approx(1.0)}


def test_rewards_enter_the_paper_as_losses_and_losses_as_they_are():
    both = Reweighting(Recap(window=1), ["rl/accuracy", "sft"], ["sft"], steps=10)
    both.observe({"rl/accuracy": 0.25, "sft": 2.0}, 0)
    both.observe({"rl/accuracy": 0.5, "sft": 2.0}, 1)
    assert both.histories == {"rl/accuracy": [0.75, 0.5], "sft": [2.0, 2.0]}
    assert both.signals["rl/accuracy"].convergence == pytest.approx(0.75 / 0.5)
    assert both.signals["sft"] == Signals(pytest.approx(1.0), 0.0)
    assert both.weights["sft"] < both.weights["rl/accuracy"]


def test_alpha_can_be_annealed():
    # With α = 1 only convergence counts, with α = 0 only instability.
    def weights(step: int) -> float:
        setting = Recap(mode="paper-v1", alpha=-1.0, temperature=1.0)
        found = Reweighting(setting, ["a", "b"], ["a", "b"], steps=10)
        found.histories = {"a": [1.0, 1.0, 1.0], "b": [1.0, 1.0, 0.1]}
        found.observe({"a": 1.0, "b": 0.3}, step)
        return found.weights["a"]

    assert weights(0) > 1.0  # b converges: a gets more
    assert weights(10) < 1.0  # b is unstable: b gets more


def test_alpha_between_minus_one_and_zero_is_refused():
    with pytest.raises(ValueError, match="alpha"):
        Recap(alpha=-0.5)
