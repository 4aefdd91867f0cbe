"""What all engines share: seeds, versions, checks of prompts and of sampling, the gap of log-probabilities."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import pytest
from gap import logprob_gap
from PIL import Image

from cpt.rollout.engine import (
    EngineSettings,
    StaleWeights,
    banned_tokens,
    check_expansion,
    check_gap,
    check_request,
    check_sampling,
    request_seed,
)
from cpt.types import GenerationRequest, SamplingParams

IMAGE = 9


def test_expansion_errors_say_what_is_wrong():
    check_expansion([1, IMAGE, IMAGE], [1, IMAGE, IMAGE], IMAGE)
    with pytest.raises(ValueError, match=r"makes 1 image tokens.*the trainer 2.*max_pixels"):
        check_expansion([1, IMAGE], [1, IMAGE, IMAGE], IMAGE)
    with pytest.raises(ValueError, match="other token ids"):
        check_expansion([1, IMAGE], [2, IMAGE], IMAGE)


def test_seeds_depend_on_every_part_and_on_nothing_else():
    parts = [("run", 0, step, rank, row) for step in range(4) for rank in range(2) for row in range(64)]
    seeds = {request_seed(*key) for key in parts}
    assert len(seeds) == len(parts)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert request_seed("run", 1) == request_seed("run", 1)
    assert request_seed(1, 23) != request_seed(12, 3)


def test_stale_weights_survive_the_way_through_ray():
    error = pickle.loads(pickle.dumps(StaleWeights("a:1", "a:2")))
    assert (error.held, error.wanted) == ("a:1", "a:2")
    assert "'a:1'" in str(error) and "'a:2'" in str(error)


def test_banned_tokens_are_those_that_stand_for_pictures():
    config = SimpleNamespace(image_token_id=5, video_token_id=6, vision_start_token_id=3, vision_end_token_id=4)
    assert banned_tokens(config) == (3, 4, 5, 6)
    assert banned_tokens(SimpleNamespace(image_token_id=None)) == ()


def test_logprob_gap_by_hand():
    assert logprob_gap([[-1.0, -2.0], []], [[-1.5, -2.0], []]) == 0.5
    assert logprob_gap([], []) == 0.0
    assert not logprob_gap([[-1.0, float("nan")]], [[-1.0, -1.0]]) <= 1e9
    with pytest.raises(ValueError, match="zip"):
        logprob_gap([[-1.0]], [[-1.0, -2.0]])


def test_gap_past_the_bound_names_place_and_numbers():
    check_gap(1e-6, 1e-4, "step 3")
    with pytest.raises(ValueError, match=r"step 3: .* 0\.02 nats.*max_logprob_gap 0\.0001"):
        check_gap(0.02, 1e-4, "step 3")
    with pytest.raises(ValueError, match="nan"):
        check_gap(float("nan"), 1e-4, "step 3")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (SamplingParams(0), "max_tokens"),
        (SamplingParams(8, 1.0, 0), "n must be"),
        (SamplingParams(8, -0.1), "temperature"),
        (SamplingParams(8, 2.5), "temperature"),
        (SamplingParams(8, 0.0, 2), "greedy"),
    ],
)
def test_senseless_sampling_is_refused(params, message):
    with pytest.raises(ValueError, match=message):
        check_sampling(params)


def test_requests_that_do_not_fit_are_refused():
    settings = EngineSettings("model", limit_images=1)
    picture = Image.new("RGB", (8, 8))
    check_request(GenerationRequest([1] * 10, (picture,), 0), settings, 20, 10)
    with pytest.raises(ValueError, match="2 images; the engines allow 1"):
        check_request(GenerationRequest([1], (picture, picture), 0), settings, 20, 10)
    with pytest.raises(ValueError, match="10 tokens and 11 new ones exceed"):
        check_request(GenerationRequest([1] * 10, (), 0), settings, 20, 11)
