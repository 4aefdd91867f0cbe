"""Sampling of the Hugging Face engine: the right distribution, a stream per completion, a cache that grows in place."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from cpt.rollout.engine_hf import HFEngine, Noise, roomy  # noqa: E402


def choose(logits: torch.Tensor, temperature: float, noise: torch.Tensor | None, banned: tuple[int, ...] = ()):
    engine = HFEngine.__new__(HFEngine)
    engine.vocabulary = SimpleNamespace(banned=banned)
    return engine._choose(logits, temperature, noise)


def test_tokens_are_drawn_from_the_softmax_without_the_banned():
    """4,000 streams, temperature 2: p = softmax(log [1, 4, 16, 1000] / 2) without the last = [1, 2, 4] / 7."""
    rows = 4_000
    logits = torch.tensor([1.0, 4.0, 16.0, 1000.0]).log().expand(rows, 4)
    noise = Noise(range(rows), 4).at(0, torch.arange(rows))
    chosen, logprobs = choose(logits, 2.0, noise, banned=(3,))
    expected = torch.tensor([1, 2, 4, 0]) / 7
    share = torch.bincount(chosen, minlength=4) / rows
    assert (share - expected).abs().max() < 4 * (0.25 / rows) ** 0.5  # four standard errors
    torch.testing.assert_close(logprobs, expected[chosen].log())


def test_greedy_takes_the_likeliest_that_is_allowed():
    chosen, logprobs = choose(torch.tensor([[0.0, 1.0, 5.0]]), 0.0, None, banned=(2,))
    assert chosen.tolist() == [1]
    torch.testing.assert_close(logprobs, torch.tensor([1.0]) - torch.tensor([0.0, 1.0]).logsumexp(0))


def test_noise_depends_on_seed_and_step_alone():
    three = Noise([7, 8, 9], 300)
    steps = [three.at(step, torch.arange(3)) for step in range(8)]
    alone = Noise([9], 300)
    assert all(torch.equal(alone.at(step, torch.tensor([0]))[0], steps[step][2]) for step in range(8))
    left = Noise([7, 8, 9], 300)  # the first completion ends after two tokens, the second after four
    rows = [[0, 1, 2], [0, 1, 2], [1, 2], [1, 2], [2], [2], [2], [2]]
    for step, kept in enumerate(rows):
        assert torch.equal(left.at(step, torch.tensor(kept)), steps[step][kept])
    assert not torch.equal(steps[0], steps[1])


def test_roomy_cache_equals_transformers_own():
    from transformers import DynamicCache

    torch.manual_seed(0)
    plain = DynamicCache()
    plain.update(torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5), 0)
    roomier = roomy(plain, repeats=2, room=3)
    plain.batch_repeat_interleave(2)
    for step in range(3):
        key, value = torch.randn(4, 3, 1, 5), torch.randn(4, 3, 1, 5)
        if step == 2:
            kept = torch.tensor([1, 3])
            for cache in (plain, roomier):
                cache.batch_select_indices(kept)
            key, value = key[kept], value[kept]
        expected = plain.update(key, value, 0)
        found = roomier.update(key, value, 0)
        assert roomier.get_seq_length() == plain.get_seq_length() == 5 + step
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
