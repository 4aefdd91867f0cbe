"""What a trainer asks engines for, and the tokens that both leave out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from cpt.rollout.engine import request_seed  # noqa: E402
from cpt.rollout.sampler import PolicySampler  # noqa: E402
from cpt.rollout.sampling import ban_tokens  # noqa: E402
from cpt.types import Completion, GenerationRequest, SamplingParams  # noqa: E402

RED = Image.new("RGB", (4, 4), "red")


class Pool:
    """Says the number of a completion's request and its own; keeps what it was asked."""

    def __init__(self) -> None:
        self.versions: list[str] = []
        self.asked: list[tuple[list[GenerationRequest], SamplingParams]] = []

    def push(self, tensors: Any, version: str) -> None:
        self.versions.append(version)

    def generate(self, requests: Any, params: SamplingParams, *, version: str) -> list[list[Completion]]:
        assert version == self.versions[-1]
        self.asked.append((list(requests), params))
        return [[Completion([i, k], [], "", "stop") for k in range(params.n)] for i, _ in enumerate(requests)]


def test_a_prompt_is_one_request_with_a_seed_of_its_step_and_row():
    pool: Any = Pool()
    sampler = PolicySampler(pool, "run/1", max_tokens=5, temperature=0.7, group=3)
    sampler.push([], 4)
    completions, greedy = sampler.sample([[1, 2], [1, 2]], [(RED,), ()])  # two groups with one prompt stay two
    assert [one.token_ids for one in completions] == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert greedy == []
    ((requests, params),) = pool.asked
    assert params == SamplingParams(5, 0.7, 3)
    assert requests == [
        GenerationRequest([1, 2], (RED,), request_seed("run/1", 4, 0, 0)),
        GenerationRequest([1, 2], (), request_seed("run/1", 4, 0, 3)),
    ]


def test_every_push_has_a_version_that_no_other_trainer_has():
    pool: Any = Pool()
    for _ in range(2):
        sampler = PolicySampler(pool, "run/1", max_tokens=5, temperature=1.0, group=1)
        for step in (0, 1):
            sampler.push([], step)
    assert len(set(pool.versions)) == 4


def test_the_weights_of_a_step_are_pushed_once():
    """Whoever evaluates the policy between two steps leaves them to the rollouts of the next one."""
    pool: Any = Pool()
    sampler = PolicySampler(pool, "run/1", max_tokens=5, temperature=1.0, group=1)
    versions = [sampler.push([], step) for step in (0, 3, 3, 4)]
    assert pool.versions == [*dict.fromkeys(versions)]
    assert versions[1] == versions[2]
    sampler.sample([[1]], [()])


def test_a_greedy_completion_of_every_prompt_comes_beside():
    pool: Any = Pool()
    sampler = PolicySampler(pool, "run/1", max_tokens=5, temperature=1.0, group=2, greedy=True)
    sampler.push([], 0)
    completions, greedy = sampler.sample([[1], [2]], [(), ()])
    assert len(completions) == 4 and [one.token_ids for one in greedy] == [[0, 0], [1, 0]]
    (sampled, _), (asked, params) = pool.asked
    assert params == SamplingParams(5, temperature=0.0) and asked == sampled


def test_banned_tokens_have_no_probability_and_leave_no_trace():
    head = torch.nn.Linear(4, 6, bias=False)
    model = SimpleNamespace(
        config=SimpleNamespace(image_token_id=1, video_token_id=4), get_output_embeddings=lambda: head
    )
    x = torch.randn(3, 4)
    before = head(x)
    ban_tokens(model)
    ban_tokens(model)  # twice is once
    after = head(x)
    allowed = [0, 2, 3, 5]
    torch.testing.assert_close(after.log_softmax(-1)[:, allowed], before[:, allowed].log_softmax(-1))
    assert after.softmax(-1)[:, [1, 4]].max() < 1e-40
    assert list(head.state_dict()) == ["weight"]
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    after.log_softmax(-1)[0, 0].backward()
    assert head.weight.grad[[1, 4]].abs().max() < 1e-30


def test_a_head_with_a_bias_of_its_own_is_left_alone():
    head = torch.nn.Linear(4, 6)
    old = head.bias.clone()
    ban_tokens(SimpleNamespace(config=SimpleNamespace(image_token_id=1), get_output_embeddings=lambda: head))
    assert torch.equal(head.bias, old)
