"""The rollout pool on real Ray actors: pushes, versions, refusals, an engine's death, the end of the pool."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gap import logprob_gap
from PIL import Image
from stages import random_model

pytest.importorskip("ray")
pytestmark = pytest.mark.smoke

from cpt.rollout.encode import encode_prompts  # noqa: E402
from cpt.rollout.engine import StaleWeights, request_seed  # noqa: E402
from cpt.rollout.pool import RolloutPool  # noqa: E402
from cpt.types import Completion, GenerationRequest, Sample, SamplingParams, ScoringRequest  # noqa: E402

SAMPLED = SamplingParams(max_tokens=8, temperature=0.7, n=4)


@pytest.fixture(scope="module", params=["hf", "vllm"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in architecture with random weights.

    For vLLM with the output layer tied to the embedding: on a CPU it keeps a repacked copy of that layer, which a push
    that knows no `lm_head.weight` would leave as it was.
    """
    folder = tmp_path_factory.mktemp("model")
    return tied_model(folder) if engine == "vllm" else random_model(folder)


def tied_model(folder: Path) -> Path:
    from cpt.tasks.world.tiny import make_model, make_processor, save

    processor = make_processor()
    model = make_model(processor.tokenizer)
    for config in (model.config, model.config.text_config):
        config.tie_word_embeddings = True
    save(type(model)._from_config(model.config), processor, folder)
    return folder


@pytest.fixture(scope="module")
def pool(engine: str, model: Path, ray_cluster: None) -> Iterator[RolloutPool]:
    if engine == "vllm":
        pytest.importorskip("vllm")
    started = RolloutPool.start(model, engine=engine, max_model_len=256)
    yield started
    pids = [info["pid"] for info in started.info()]
    started.close()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))  # no engine outlives its pool


def wait_until(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def policy(model: Path):
    from cpt.models.load import load_policy

    return load_policy(model)


@pytest.fixture(scope="module")
def requests(model: Path) -> list[GenerationRequest]:
    """Three prompts with a picture each and two without.

    vLLM would turn the first picture by its tag and put the second on white, what plays the trainer here would not:
    the gap of log-probabilities shows whether their samples have prepared them (`cpt.common.pictures`).
    """
    from cpt.models.load import load_processor

    noise = np.random.default_rng(0)
    raw = [Image.fromarray(noise.integers(0, 255, (48, 48, n), dtype=np.uint8)) for n in (3, 4, 3)]
    raw[0].info["exif"] = upside_down()
    images = [Sample(f"noise/{n}", "noise", "", (picture,), ("",)).images for n, picture in enumerate(raw)]
    question = [{"type": "text", "text": "what color is the circle ?"}]
    chats = [[{"role": "user", "content": [{"type": "image"}, *question]}] for _ in images]
    chats += [[{"role": "user", "content": question * k}] for k in (1, 2)]
    pictures = [*images, (), ()]
    ids = encode_prompts(load_processor(model), chats, pictures)
    return [
        GenerationRequest(i, p, request_seed("test", k)) for k, (i, p) in enumerate(zip(ids, pictures, strict=True))
    ]


def upside_down() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3
    return exif.tobytes()


def trainer_logprobs(policy, requests: list[GenerationRequest], answers: list[list[Completion]]) -> list[list[float]]:
    """Log-probabilities by a plain forward pass, vision tokens excluded, one completion at a time."""
    import torch

    from cpt.models.load import load_processor
    from cpt.rollout.engine import banned_tokens

    processor = load_processor(policy.config._name_or_path)
    rows = []
    for request, answer in zip(requests, answers, strict=True):
        pixels = processor.image_processor(images=list(request.images), return_tensors="pt") if request.images else {}
        for completion in answer:
            ids = torch.tensor([[*request.prompt_ids, *completion.token_ids]])
            kinds = {"mm_token_type_ids": ids.eq(policy.config.image_token_id).long()} if request.images else {}
            with torch.no_grad():
                logits = policy(input_ids=ids, attention_mask=torch.ones_like(ids), **kinds, **pixels).logits[0]
            logits = logits[len(request.prompt_ids) - 1 : -1] / SAMPLED.temperature
            logits[:, list(banned_tokens(policy.config))] = -1e4
            chosen = torch.tensor(completion.token_ids)[:, None]
            rows.append(logits.log_softmax(-1).gather(1, chosen)[:, 0].tolist())
    return rows


@pytest.fixture(scope="module")
def texts(policy, requests: list[GenerationRequest]) -> list[ScoringRequest]:
    """Eight texts of one to 40 tokens: after each prompt, with and without a picture, and twice after some."""
    import random

    from cpt.rollout.engine import banned_tokens

    words = sorted(set(range(policy.config.text_config.vocab_size)) - set(banned_tokens(policy.config)))
    draw = random.Random(0)
    return [
        ScoringRequest(one.prompt_ids, one.images, draw.choices(words, k=length))
        for one, length in zip([*requests, *requests[2:]], (3, 40, 1, 7, 12, 2, 5, 1), strict=True)
    ]


def plain_logprobs(policy, texts: list[ScoringRequest]) -> list[list[float]]:
    """By a plain forward pass of transformers, one text at a time: softmax over the whole vocabulary."""
    import torch

    from cpt.models.load import load_processor

    processor, rows = load_processor(policy.config._name_or_path), []
    for text in texts:
        pixels = processor.image_processor(images=list(text.images), return_tensors="pt") if text.images else {}
        ids = torch.tensor([[*text.prompt_ids, *text.completion_ids]])
        kinds = {"mm_token_type_ids": ids.eq(policy.config.image_token_id).long()} if text.images else {}
        with torch.no_grad():
            logits = policy(input_ids=ids, attention_mask=torch.ones_like(ids), **kinds, **pixels).logits[0]
        chosen = torch.tensor(text.completion_ids)[:, None]
        rows.append(logits[len(text.prompt_ids) - 1 : -1].log_softmax(-1).gather(1, chosen)[:, 0].tolist())
    return rows


def flat(answers: list[list[Completion]]) -> list[list[float]]:
    return [completion.logprobs for answer in answers for completion in answer]


def test_nothing_before_the_first_push(pool, requests):
    with pytest.raises(StaleWeights, match="none"):
        pool.generate(requests, SAMPLED, version="v0")


def test_folder_push_gives_the_folders_policy(pool, model, policy, requests):
    assert pool.push_folder(model, "base") == "base"
    answers = pool.generate(requests, SAMPLED, version="base")
    assert [len(answer) for answer in answers] == [4] * 5
    assert all(1 <= len(c.token_ids) <= 8 for answer in answers for c in answer)
    assert logprob_gap(flat(answers), trainer_logprobs(policy, requests, answers)) <= 1e-4


def test_push_replaces_every_weight_and_old_versions_are_refused(pool, model, policy, requests):
    import torch

    from cpt.models.load import load_policy

    changed = load_policy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for (_, parameter), (_, old) in zip(changed.named_parameters(), policy.named_parameters(), strict=True):
            parameter.copy_(old + 0.05 * torch.randn_like(old))
    pool.push_folder(model, "base")
    before = pool.generate(requests, SAMPLED, version="base")
    pool.push(changed.named_parameters(), "changed")
    after = pool.generate(requests, SAMPLED, version="changed")
    assert logprob_gap(flat(after), trainer_logprobs(changed, requests, after)) <= 1e-4
    assert [c.logprobs for a in before for c in a] != [c.logprobs for a in after for c in a]
    with pytest.raises(StaleWeights, match="'base'"):
        pool.generate(requests, SAMPLED, version="base")


def test_given_texts_have_the_probabilities_of_a_plain_forward_pass(pool, model, policy, texts):
    pool.push_folder(model, "base")
    expected = plain_logprobs(policy, texts)
    for chosen in (slice(None), slice(3), slice(3, 5)):  # mixed, with pictures, without
        found = pool.loglikelihood(texts[chosen], version="base")
        assert [len(own) for own in found] == [len(text.completion_ids) for text in texts[chosen]]
        assert logprob_gap(found, expected[chosen]) <= 1e-4
    with pytest.raises(StaleWeights, match="'base'"):
        pool.loglikelihood(texts, version="another")
    with pytest.raises(ValueError, match="a text of 256 tokens, its prompt included, is too long"):
        pool.loglikelihood([ScoringRequest([7] * 200, (), [7] * 56)], version="base")
    (longest,) = pool.loglikelihood([ScoringRequest([7] * 200, (), [7] * 55)], version="base")
    assert len(longest) == 55


def test_results_do_not_depend_on_the_batch_or_on_what_came_before(pool, model, requests):
    pool.push_folder(model, "base")
    first = pool.generate(requests, SAMPLED, version="base")
    backwards = pool.generate(requests[::-1], SAMPLED, version="base")
    assert pool.generate(requests, SAMPLED, version="base") == first
    assert [[c.token_ids for c in a] for a in backwards[::-1]] == [[c.token_ids for c in a] for a in first]
    assert len({tuple(c.token_ids) for c in first[0]}) > 1  # four completions of one prompt have streams of their own


def test_more_prompts_than_fit_one_forward_pass(pool, model, requests):
    """A prompt whose prefill vLLM cuts in two would crash a seeded request on a CPU."""
    pool.push_folder(model, "base")
    alone = pool.generate(requests, SAMPLED, version="base")
    many = pool.generate(requests * 30, SAMPLED, version="base")  # 12,000 tokens
    assert [c.token_ids for answer in many[-5:] for c in answer] == [c.token_ids for answer in alone for c in answer]


def test_vision_tokens_are_never_sampled(pool, model, requests):
    from transformers import AutoConfig

    from cpt.rollout.engine import banned_tokens

    banned = banned_tokens(AutoConfig.from_pretrained(model))
    assert len(banned) == 4
    pool.push_folder(model, "base")
    hot = SamplingParams(max_tokens=16, temperature=2.0, n=16)
    answers = pool.generate(requests, hot, version="base")
    assert not {token for answer in answers for c in answer for token in c.token_ids} & set(banned)


def test_a_prompt_that_the_engine_would_read_otherwise_is_refused(pool, model, requests):
    pool.push_folder(model, "base")
    image = max(set(requests[0].prompt_ids), key=list(requests[0].prompt_ids).count)
    ids = list(requests[0].prompt_ids)
    ids.remove(image)
    with pytest.raises(ValueError, match="pixel limits"):
        pool.generate([GenerationRequest(ids, requests[0].images, 0)], SAMPLED, version="base")
    with pytest.raises(ValueError, match="limit of 256 tokens"):
        pool.generate([GenerationRequest(ids * 30, requests[0].images, 0)], SAMPLED, version="base")
    assert pool.generate(requests, SAMPLED, version="base")  # and the engine is none the worse for it


def test_an_engine_killed_while_it_generates_is_refilled_and_asked_again(pool, model, requests, engine):
    if engine == "vllm":
        pytest.skip("the same code for both kinds of engine; test_interruptions kills vLLM's in a run")
    pool.push_folder(model, "base")
    params = SamplingParams(max_tokens=64, temperature=1.0, n=8)
    many = requests * 4
    expected = pool.generate(many, params, version="base")
    (info,) = pool.info()
    restarts = pool.stats.restarts
    killer = _kill_after(info["pid"], 0.3)
    assert pool.generate(many, params, version="base") == expected
    killer.join()
    (again,) = pool.info()
    assert again["pid"] != info["pid"]
    assert pool.stats.restarts == restarts + 1


def test_an_engine_killed_between_two_calls_is_refilled(pool, model, requests, texts, engine):
    """Also with weights that another process pushed and took along when it ended: they lie in their folder, too."""
    if engine == "vllm":
        pytest.skip("the same code for both kinds of engine; test_interruptions kills vLLM's in a run")
    expected = elsewhere(pool, requests, model, "of another")
    pushes = pool.stats.pushes
    pool.push_folder(model, "of another")
    assert pool.generate(requests, SAMPLED, version="of another") == expected
    assert pool.stats.pushes == pushes  # the engines held them
    scores = pool.loglikelihood(texts, version="of another")
    (info,) = pool.info()
    os.kill(info["pid"], signal.SIGKILL)
    assert pool.loglikelihood(texts, version="of another") == scores
    assert pool.generate(requests, SAMPLED, version="of another") == expected


def elsewhere(pool: RolloutPool, requests: list[GenerationRequest], model: Path, version: str):
    """What another process generates with the weights that it pushes."""
    import ray

    @ray.remote(num_cpus=0)
    def run(handle: RolloutPool, requests: list[GenerationRequest], model: Path) -> list[list[Completion]]:
        handle.push_folder(model, version)
        return handle.generate(requests, SAMPLED, version=version)

    return ray.get(run.remote(pool, requests, model))


def test_another_process_pushes_and_generates(pool, model, requests):
    pool.push_folder(model, "base")
    expected = pool.generate(requests, SAMPLED, version="base")
    assert elsewhere(pool, requests, model, "elsewhere") == expected
    with pytest.raises(StaleWeights, match="elsewhere"):  # the engines hold what the other process pushed
        pool.generate(requests, SAMPLED, version="base")
    pool.push_folder(model, "base")
    assert pool.generate(requests, SAMPLED, version="base") == expected


def _kill_after(pid: int, seconds: float):
    import threading

    def kill() -> None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread
