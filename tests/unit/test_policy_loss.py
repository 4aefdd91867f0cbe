"""The policy-gradient losses against values worked out by hand; TRL is the other witness, in test_trl_oracle.py."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from cpt.methods.engine_weights import engine_gap, engine_weights  # noqa: E402
from cpt.methods.policy_loss import Loss, LossSettings, k3, policy_loss  # noqa: E402

# Two completions, of two tokens and of one. Every token has log-probability −1, which makes the ratios these:
RATIOS = torch.tensor([[1.5, 0.5], [0.9, 7.0]])
MASK = torch.tensor([[1, 1], [1, 0]])
ADVANTAGES = torch.tensor([1.0, -1.0])
ENTROPIES = torch.tensor([[1.0, 2.0], [3.0, 9.0]])
# With ε 0.2 and ε_high 0.28 the tokens' losses are −min(1.5, 1.28) and −min(0.5, 0.8), and +0.9.
TOKEN_LOSSES = (-1.28, -0.5, 0.9)


def found(loss_type: str, *, logps: torch.Tensor | None = None, **changes) -> Loss:
    """The loss of the two completions; `changes` go to the settings, or to `policy_loss` if that knows them."""
    given = {"mask_BT", "advantages_B", "old_logps_BT", "reference_logps_BT", "engine_logps_BT", "weights"}
    given |= {"batch_tokens", "micro_batches"}
    own = {key: changes.pop(key) for key in given & changes.keys()}
    settings = {"epsilon": 0.2, "epsilon_high": 0.28, "max_completion_length": 4} | changes
    logps = -torch.ones(2, 2) if logps is None else logps
    own = {"mask_BT": MASK, "advantages_B": ADVANTAGES, "old_logps_BT": -1 - RATIOS.log()} | own
    return policy_loss(LossSettings(loss_type=loss_type, **settings), logps, ENTROPIES, **own)


def close(value: torch.Tensor, expected: float | list[list[float]]) -> None:
    torch.testing.assert_close(value.detach(), torch.tensor(expected), rtol=1e-6, atol=1e-7)


def test_grpo_is_a_mean_over_completions_of_means_over_tokens():
    close(found("grpo").loss, ((-1.28 - 0.5) / 2 + 0.9) / 2)
    close(found("grpo", micro_batches=4).loss, ((-1.28 - 0.5) / 2 + 0.9) / 8)


def test_bnpo_is_a_mean_over_tokens():
    close(found("bnpo").loss, sum(TOKEN_LOSSES) / 3)
    close(found("bnpo", micro_batches=2).loss, sum(TOKEN_LOSSES) / 6)


def test_dr_grpo_divides_by_the_room_for_tokens():
    close(found("dr_grpo").loss, sum(TOKEN_LOSSES) / (2 * 4))
    close(found("dr_grpo", micro_batches=2).loss, sum(TOKEN_LOSSES) / 16)


def test_dapo_divides_by_the_tokens_of_an_average_step():
    # 12 tokens in 4 micro-batches, of which a step takes 2
    batch = dict(batch_tokens=torch.tensor(12), steps_per_generation=4, micro_batches=2)
    close(found("dapo", **batch).loss, sum(TOKEN_LOSSES) / 6)
    with pytest.raises(AssertionError, match="tokens in the batch"):
        found("dapo")


def test_gspo_has_one_ratio_per_completion():
    loss = found("grpo", importance_sampling_level="sequence")
    close(loss.loss, (-math.sqrt(1.5 * 0.5) + 0.9) / 2)
    loss = found("grpo", importance_sampling_level="sequence", epsilon=0.05)  # 0.9 is below 0.95, and A < 0
    close(loss.loss, (-math.sqrt(1.5 * 0.5) + 0.95) / 2)
    close(loss.metrics["clip_ratio/low_mean"], 0.5)


def test_cispo_bounds_the_weight_and_keeps_every_gradient():
    logps = torch.full((2, 2), -1.0, requires_grad=True)
    loss = found("cispo", logps=logps, epsilon_high=1.2, batch_tokens=torch.tensor(3))
    close(loss.loss, (1.2 + 0.5 - 0.9) / 3)  # −min(ρ, 1.2) · A · (−1)
    loss.loss.backward()
    close(logps.grad, [[-1.2 / 3, -0.5 / 3], [0.9 / 3, 0.0]])
    close(loss.metrics["cispo_clip_ratio"], 1 / 3)


def test_a_clipped_token_has_no_gradient():
    logps = torch.full((2, 2), -1.0, requires_grad=True)
    found("grpo", logps=logps).loss.backward()
    close(logps.grad, [[0.0, -0.5 / 4], [0.9 / 2, 0.0]])  # −ρ A over the tokens of its completion over 2


def test_fresh_completions_have_ratios_of_one_and_the_gradient_of_reinforce():
    logps = torch.full((2, 2), -1.0, requires_grad=True)
    loss = found("bnpo", logps=logps, old_logps_BT=None)
    close(loss.loss, (-1 - 1 + 1) / 3)
    loss.loss.backward()
    close(logps.grad, [[-1 / 3, -1 / 3], [1 / 3, 0.0]])


def test_delta_bounds_the_ratio_where_the_clip_range_does_not():
    far = dict(old_logps_BT=-1 - torch.tensor([[5.0, 5.0], [5.0, 5.0]]).log(), advantages_B=-torch.ones(2))
    close(found("grpo", **far).loss, 5.0)
    close(found("grpo", **far, delta=3.0).loss, 3.0)


def test_the_kl_term():
    reference = dict(beta=0.1, reference_logps_BT=torch.full((2, 2), -1 - math.log(2)))
    kl = 0.5 + math.log(2) - 1  # r = log 2 at every token
    loss = found("grpo", **reference)
    close(loss.loss, 0.005 + 0.1 * kl)
    close(loss.metrics["kl"], kl)
    corrected = found("grpo", **reference, use_bias_correction_kl=True)
    close(corrected.loss, 0.005 + 0.1 * kl * ((1.5 + 0.5) / 2 + 0.9) / 2)
    close(corrected.metrics["kl"], kl * (1.5 + 0.5 + 0.9) / 3)
    close(k3(torch.tensor(-1.0), torch.tensor(-1.0)), 0.0)


def test_engine_weights_multiply_the_policy_gradient_and_not_the_kl():
    reference = dict(beta=0.1, reference_logps_BT=torch.full((2, 2), -1 - math.log(2)))
    weights = torch.tensor([[2.0, 0.0], [3.0, 1.0]])
    loss = found("grpo", weights=weights, **reference)
    close(loss.loss, (2 * -1.28 / 2 + 3 * 0.9) / 2 + 0.1 * (math.log(2) - 0.5))


def test_completions_far_from_their_sampler_are_left_out_if_their_advantage_is_negative():
    # The second has lost −log 0.9 = 0.105 nats; the first has a positive advantage.
    close(found("grpo", off_policy_mask_threshold=0.2).loss, 0.005)
    close(found("grpo", off_policy_mask_threshold=0.1).loss, -0.89 / 2)
    close(found("grpo", off_policy_mask_threshold=0.2, engine_logps_BT=torch.zeros(2, 2)).loss, -0.89 / 2)


def test_tokens_of_high_entropy():
    # The median of 1, 2, 3 is 2: the first token is left out.
    close(found("grpo", top_entropy_quantile=0.5).loss, (-0.5 / 2 + 0.9) / 2)
    loss = found("grpo", top_entropy_quantile=0.5, entropy_coef=0.1, micro_batches=2)
    close(loss.loss, ((-0.5 / 2 + 0.9) / 2 - 0.1 * 2.5) / 2)
    close(loss.metrics["policy_loss"], (-0.5 / 2 + 0.9) / 2)


def test_the_entropy_bonus_is_a_mean_over_tokens():
    close(found("dr_grpo", entropy_coef=0.1).loss, sum(TOKEN_LOSSES) / 8 - 0.1 * 2)


def test_what_is_logged():
    metrics = found("grpo").metrics
    assert {name: pytest.approx(float(value)) for name, value in metrics.items()} == {
        "entropy": 2.0,
        "clip_ratio/low_mean": 0.0,  # 0.5 is outside, but its advantage is positive
        "clip_ratio/high_mean": 1 / 3,
        "clip_ratio/region_mean": 1 / 3,
        "clip_ratio/low_min": 0.0,
        "clip_ratio/high_max": 0.5,
    }


def test_a_completion_without_tokens_counts_as_zero_and_in_no_extreme():
    loss = found("grpo", mask_BT=torch.tensor([[1, 1], [0, 0]]))
    close(loss.loss, -0.89 / 2)
    close(loss.metrics["clip_ratio/low_min"], 0.0)
    nothing = found("grpo", mask_BT=torch.zeros(2, 2, dtype=torch.long), top_entropy_quantile=0.5)
    close(nothing.loss, 0.0)
    assert nothing.metrics["clip_ratio/high_max"].isnan()


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("token_truncate", [[3.0, 0.5], [2.0, 1.0]]),
        ("token_mask", [[0.0, 0.5], [2.0, 1.0]]),
        ("sequence_truncate", [[2.0], [2.0]]),
        ("sequence_mask", [[2.0], [2.0]]),
    ],
)
def test_engine_weights(mode: str, expected: list[list[float]]):
    old, engine = torch.zeros(2, 2), -torch.tensor([[4.0, 0.5], [2.0, 8.0]]).log()
    weights, metrics = engine_weights(old, engine, MASK, mode, None, 3.0)
    close(weights, expected)
    seen = [value for row, mask in zip(expected, MASK.tolist(), strict=True) for value in row[: sum(mask)]]
    assert [float(metrics[f"sampling/importance_sampling_ratio/{name}"]) for name in ("min", "mean", "max")] == (
        pytest.approx([min(seen), sum(seen) / len(seen), max(seen)])
    )


def test_engine_weights_have_a_lower_bound_and_take_what_is_unknown_as_equal():
    old, engine = torch.zeros(1, 3), torch.tensor([[math.log(4), math.nan, -math.log(2)]])
    mask = torch.ones(1, 3, dtype=torch.long)
    close(engine_weights(old, engine, mask, "token_truncate", 0.5, 3.0)[0], [[0.5, 1.0, 2.0]])
    close(engine_weights(old, engine, mask, "token_mask", 0.5, None)[0], [[0.0, 1.0, 2.0]])
    close(engine_weights(old, engine, mask, "sequence_mask", 0.6, 3.0)[0], [[0.0]])  # 1/4 · 1 · 2 = 0.5


def test_the_gap_between_engine_and_trainer():
    gap = engine_gap(torch.zeros(2, 2), torch.tensor([[0.1, -0.3], [math.nan, 9.0]]), MASK)
    name = "sampling/sampling_logp_difference"
    assert {key: float(value) for key, value in gap.items()} == pytest.approx({f"{name}/mean": 0.2, f"{name}/max": 0.3})
    none = engine_gap(torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1, 1))
    assert [float(value) for value in none.values()] == [0.0, 0.0]


def test_settings_from_a_trainers_arguments():
    arguments = SimpleNamespace(**vars(LossSettings(loss_type="dapo", max_completion_length=8)), other=1)
    arguments.epsilon, arguments.epsilon_high = 0.1, None
    settings = LossSettings.of(arguments)
    assert (settings.loss_type, settings.epsilon, settings.epsilon_high) == ("dapo", 0.1, 0.1)
    arguments.loss_type = "sapo"
    with pytest.raises(AssertionError, match="sapo"):
        LossSettings.of(arguments)
