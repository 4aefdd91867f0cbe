"""What bfloat16 explains: rounding passes, other pixels or weights don't; and how a model computes in float32."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from cpt.models.precision import EXACT, MOST, excess, in_float32, logit_noise  # noqa: E402
from cpt.recipe import Rollout  # noqa: E402
from cpt.rollout.agreement import judged_by_rounding  # noqa: E402

TOKENS, VOCABULARY = 4_000, 50


def test_rounding_judges_unless_the_recipe_sets_a_bound():
    """Whatever the bound is, the default's own number included."""
    assert judged_by_rounding("bfloat16", Rollout())
    assert not judged_by_rounding("bfloat16", Rollout(max_logprob_gap=0.5))
    assert not judged_by_rounding("bfloat16", Rollout(max_logprob_gap=0.01))
    assert not judged_by_rounding("float32", Rollout())


def test_noise_by_hand():
    """Differences without their means are [1, -1, 0] and [2, -1, -1]: their mean square is 8 / 6."""
    exact = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    rounded = exact + torch.tensor([[6.0, 4.0, 5.0], [12.0, 9.0, 9.0]])
    assert logit_noise(rounded, exact) == pytest.approx((8 / 6) ** 0.5)


def test_large_logits_of_likely_tokens_are_rounded_more():
    exact = torch.zeros(1, 100)
    exact[0, :8] = 20.0
    rounded = exact.clone()
    rounded[0, :8:2] += 0.1  # of the likely tokens half are off; of all of them 4 in 100
    rounded[0, 1:8:2] -= 0.1
    assert logit_noise(rounded, exact) == pytest.approx(0.1, rel=1e-4)


def test_excess_by_hand():
    """s = 0.01: the unit of a token with p = 1/2 is 0.01, of one with p = 3/4 it is 0.005; both with 1e-4 beside."""
    logps = torch.tensor([0.5, 0.75]).log()
    difference = torch.tensor([0.0101 * 3, -0.0051 * 4])
    assert excess(difference, logps, 0.01) == pytest.approx((25 / 2) ** 0.5, rel=1e-4)
    assert excess(torch.tensor([EXACT]), torch.tensor([0.0]), 0.01) == pytest.approx(1.0)  # a certain token
    assert excess(torch.tensor([float("nan")]), torch.tensor([-1.0]), 0.01) == float("inf")
    assert excess(torch.tensor([]), torch.tensor([]), 0.01) == 0.0


@pytest.fixture(scope="module")
def logits() -> torch.Tensor:
    return 4 * torch.randn(TOKENS, VOCABULARY, generator=torch.Generator().manual_seed(0))


def rounded(exact: torch.Tensor, seed: int) -> torch.Tensor:
    """Logits as another kernel has them: an error of its own, and eight bits."""
    noise = 0.02 * torch.randn(exact.shape, generator=torch.Generator().manual_seed(seed))
    return (exact + noise).bfloat16().float()


def chosen(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1).gather(1, tokens[:, None])[:, 0]


@pytest.mark.parametrize("count", [4, 8, 64, TOKENS])
def test_two_roundings_of_the_same_logits_pass_however_many_tokens(logits, count):
    exact = logits[:count]
    trainer, engine = rounded(exact, 1), rounded(exact, 2)
    tokens = torch.multinomial(exact.softmax(-1), 1, generator=torch.Generator().manual_seed(3))[:, 0]
    ours = chosen(trainer, tokens)
    found = excess(chosen(engine, tokens) - ours, ours, logit_noise(trainer, exact))
    assert 0.2 < found < 1.2 < MOST


@pytest.mark.parametrize("count", [8, TOKENS])
def test_a_mismatch_far_below_half_a_nat_is_found(logits, count):
    """Other pixels move the logits by 0.15 on average: no token's log-probability changes by half a nat."""
    exact = logits[:count]
    other = exact + 0.15 * torch.randn(exact.shape, generator=torch.Generator().manual_seed(4))
    trainer, engine = rounded(exact, 1), rounded(other, 2)
    tokens = exact.argmax(-1)
    ours = chosen(trainer, tokens)
    difference = chosen(engine, tokens) - ours
    assert difference.abs().max() < 0.5
    assert excess(difference, ours, logit_noise(trainer, exact)) > MOST


def test_a_model_in_bfloat16_computes_in_float32_for_once():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.LayerNorm(16), torch.nn.Linear(16, 4))
    half = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.LayerNorm(16), torch.nn.Linear(16, 4)).bfloat16()
    half.load_state_dict(model.state_dict())
    model.load_state_dict(half.state_dict())  # the same rounded weights
    before = dict(half.named_parameters())
    row = torch.randn(3, 16)
    with torch.no_grad():
        with in_float32(half):
            exact = half(row.bfloat16())
        assert exact.dtype == torch.float32
        torch.testing.assert_close(exact, model(row.bfloat16().float()))
        assert half(row.bfloat16()).dtype == torch.bfloat16
    after = dict(half.named_parameters())
    assert all(after[name] is before[name] for name in before) and before.keys() == after.keys()


def test_a_model_that_fails_inside_keeps_its_weights():
    half = torch.nn.Linear(4, 4).bfloat16()
    weight = half.weight
    with pytest.raises(RuntimeError), in_float32(half):
        half(torch.zeros(1, 3))
    assert half.weight is weight


def test_autocast_is_off_inside_also_where_a_wrapper_turns_it_on():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    plain = model.forward
    row = torch.randn(2, 8)

    def wrapped(x: torch.Tensor) -> torch.Tensor:  # as accelerate prepares a model
        with torch.autocast("cpu", torch.bfloat16):
            return plain(x)

    model.forward = wrapped
    with torch.no_grad():
        assert model(row).dtype == torch.bfloat16
        with in_float32(model):
            assert model(row).dtype == torch.float32
        assert model(row).dtype == torch.bfloat16


def test_buffers_are_cast_too():
    """The ban on vision tokens is a buffer of the output layer."""
    half = torch.nn.Linear(4, 4).bfloat16()
    bias = half.bias.detach()
    del half._parameters["bias"]
    half.register_buffer("bias", bias)
    with torch.no_grad(), in_float32(half):
        assert half(torch.zeros(1, 4)).dtype == torch.float32
    assert half.bias is bias
