"""Token-level divergence, against values worked out by hand."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from cpt.methods.divergence import completion_kl, interpolated_kl, token_kl  # noqa: E402

HALF, QUARTER = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()


def test_two_words_by_hand_and_the_other_way_round():
    """½ ln(½ / ¼) + ½ ln(½ / ¾) = ½ ln(4/3); ¼ ln(¼ / ½) + ¾ ln(¾ / ½) = ¾ ln 3 − ln 2."""
    assert token_kl(HALF, QUARTER).item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-6)
    assert token_kl(QUARTER, HALF).item() == pytest.approx(0.75 * math.log(3) - math.log(2), rel=1e-6)


def test_logits_need_no_normalisation():
    assert token_kl(HALF + 7.0, QUARTER - 3.0).item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_policy_is_at_exactly_zero_from_itself(dtype: torch.dtype):
    logits = (20 * torch.randn(50, 300, generator=torch.Generator().manual_seed(0))).to(dtype)
    assert token_kl(logits, logits.clone(), banned=(3, 7)).abs().max() == 0


def test_banned_words_are_in_neither_distribution():
    """Without the third word [2, 2, 4] is [½, ½], and [1, 3, 0.1] is [¼, ¾]."""
    p, q = torch.tensor([2.0, 2.0, 4.0]).log(), torch.tensor([1.0, 3.0, 0.1]).log()
    assert token_kl(p, q, banned=(2,)).item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-6)
    assert token_kl(p, q).item() != pytest.approx(0.5 * math.log(4 / 3), rel=1e-2)


def test_words_of_no_probability_cost_nothing_in_p_and_everything_in_q():
    sure, unsure = torch.tensor([0.0, -math.inf]), HALF
    assert token_kl(torch.tensor([0.0, -1e4]), unsure).item() == pytest.approx(math.log(2))
    assert token_kl(unsure, sure).item() == math.inf


def test_gradients_pass_the_ban():
    p = torch.tensor([0.3, 1.0, 5.0], requires_grad=True)
    q = torch.tensor([1.0, 0.2, -2.0], requires_grad=True)
    token_kl(p, q, banned=(2,)).backward()
    # d KL / d logits of q is q − p, over the words that are left.
    expected = torch.softmax(q[:2], 0) - torch.softmax(p[:2], 0)
    torch.testing.assert_close(q.grad, torch.cat([expected, torch.zeros(1)]))
    assert p.grad is not None and torch.isfinite(p.grad).all() and p.grad[2] == 0


def test_between_the_two_directions_by_hand():
    """m = ¼ [¼, ¾] + ¾ [½, ½] = [7/16, 9/16]; ¼ KL([¼, ¾] ‖ m) + ¾ KL([½, ½] ‖ m)."""
    there = 0.25 * math.log(4 / 7) + 0.75 * math.log(4 / 3)
    back = 0.5 * math.log(8 / 7) + 0.5 * math.log(8 / 9)
    expected = 0.25 * there + 0.75 * back
    assert interpolated_kl(HALF, QUARTER, 0.25).item() == pytest.approx(expected, rel=1e-5)
    assert interpolated_kl(HALF + 7.0, QUARTER - 3.0, 0.25).item() == pytest.approx(expected, rel=1e-4)
    assert interpolated_kl(QUARTER, HALF, 0.75).item() == pytest.approx(expected, rel=1e-5)  # the same mixture
    assert interpolated_kl(HALF, HALF, 0.25).item() == pytest.approx(0, abs=1e-7)


def test_at_its_ends_it_is_either_direction_and_near_them_its_share():
    forward, reverse = 0.75 * math.log(3) - math.log(2), 0.5 * math.log(4 / 3)
    assert interpolated_kl(HALF, QUARTER, 0.0).item() == pytest.approx(forward, rel=1e-6)
    assert interpolated_kl(HALF, QUARTER, 1.0).item() == pytest.approx(reverse, rel=1e-6)
    assert interpolated_kl(HALF, QUARTER, 0.01).item() / 0.01 == pytest.approx(forward, rel=0.02)
    assert interpolated_kl(HALF, QUARTER, 0.99).item() / 0.01 == pytest.approx(reverse, rel=0.02)


def test_a_completion_is_the_sum_of_its_tokens_and_padding_counts_nothing():
    one, other = 0.5 * math.log(4 / 3), 0.75 * math.log(3) - math.log(2)
    p = torch.stack([torch.stack([HALF, QUARTER, HALF]), torch.stack([QUARTER, HALF, HALF])])
    q = torch.stack([torch.stack([QUARTER, HALF, QUARTER]), torch.stack([HALF, QUARTER, HALF])])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    p[~mask], q[~mask] = math.nan, math.inf
    assert completion_kl(p, q, mask).tolist() == pytest.approx([one + other, other], rel=1e-6)
