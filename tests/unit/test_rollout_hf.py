"""The Hugging Face engine: the right distribution, a stream per completion, one result by either way of generating."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from gap import logprob_gap
from PIL import Image
from test_evaluate import LABELS
from test_evaluate_likelihood import Options, Prose

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from cpt.evaluate.evaluators.generation import ask, prepare_questions  # noqa: E402
from cpt.rollout.choose import Chooser, Noise  # noqa: E402
from cpt.rollout.encode import encode_prompts  # noqa: E402
from cpt.rollout.engine import EngineSettings, StaleWeights  # noqa: E402
from cpt.rollout.engine_hf import HFEngine  # noqa: E402
from cpt.rollout.local import LocalPool  # noqa: E402
from cpt.tasks import get_task  # noqa: E402
from cpt.tasks.world import builtin  # noqa: E402
from cpt.tasks.world.generate import roomy  # noqa: E402
from cpt.types import Completion, GenerationRequest, Sample, SamplingParams, ScoringRequest  # noqa: E402

(FOLDER,) = builtin.MODELS.values()


def test_tokens_are_drawn_from_the_softmax_without_the_banned():
    """4,000 streams, temperature 2: p = softmax(log [1, 4, 16, 1000] / 2) without the last = [1, 2, 4] / 7."""
    rows = 4_000
    logits = torch.tensor([1.0, 4.0, 16.0, 1000.0]).log().expand(rows, 4)
    chosen, logprobs = Chooser(range(rows), 2.0, banned=[3])(logits, 0, torch.arange(rows))
    expected = torch.tensor([1, 2, 4, 0]) / 7
    share = torch.bincount(chosen, minlength=4) / rows
    assert (share - expected).abs().max() < 4 * (0.25 / rows) ** 0.5  # four standard errors
    torch.testing.assert_close(logprobs, expected[chosen].log())


def test_greedy_takes_the_likeliest_that_is_allowed():
    chosen, logprobs = Chooser([0], 0.0, banned=[2])(torch.tensor([[0.0, 1.0, 5.0]]), 0, torch.tensor([0]))
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


@pytest.fixture(scope="module")
def engines() -> dict[str, LocalPool]:
    """The built-in model by its own loop, and by transformers' generate, which a named attention asks for."""
    found = {name: LocalPool(HFEngine(EngineSettings(str(FOLDER), attention=name))) for name in ("auto", "sdpa")}
    for pool in found.values():
        pool.push_folder(FOLDER, "base")
    return found


@pytest.fixture(scope="module")
def asked(engines: dict[str, LocalPool]) -> list[GenerationRequest]:
    """Prompts of several lengths, one without a picture."""
    tasks = [get_task(name) for name in ("count-colour", "choice", "arithmetic", "which-row")]
    samples = [(task, sample) for task in tasks for sample in task.samples("test", 2)]
    engine: Any = engines["auto"].local
    chats = [task.messages(sample, "think") for task, sample in samples]
    ids = encode_prompts(engine.processor, chats, [sample.images for _, sample in samples])
    return [GenerationRequest(own, s.images, n) for n, (own, (_, s)) in enumerate(zip(ids, samples, strict=True))]


def said(answers: list[list[Completion]]) -> list[list[int]]:
    return [one.token_ids for answer in answers for one in answer]


@pytest.mark.parametrize("params", [SamplingParams(12), SamplingParams(12, 1.0, 3), SamplingParams(12, 0.7, 2)])
def test_generate_and_the_built_in_models_own_loop_agree(engines, asked, params: SamplingParams):
    assert builtin.is_accelerated(engines["auto"].local.model)
    assert not builtin.is_accelerated(engines["sdpa"].local.model)
    own, theirs = (pool.generate(asked, params, version="base") for pool in engines.values())
    assert said(own) == said(theirs)
    assert len({len(ids) for ids in said(own)}) > 1  # rows end at different steps
    pairs = [[one.logprobs for answer in answers for one in answer] for answers in (own, theirs)]
    assert logprob_gap(*pairs) <= 1e-4
    assert [[(one.text, one.finish_reason) for one in answer] for answer in own] == [
        [(one.text, one.finish_reason) for one in answer] for answer in theirs
    ]


@pytest.mark.parametrize("name", ["auto", "sdpa"])
def test_a_request_says_the_same_whatever_else_is_asked(engines, asked, name: str):
    pool, params = engines[name], SamplingParams(12, 1.0, 3)
    together = said(pool.generate(asked, params, version="base"))
    assert together == said(pool.generate(asked, params, version="base"))
    alone = [ids for request in asked for ids in said(pool.generate([request], params, version="base"))]
    assert together == alone


def plain(engine: Any, request: ScoringRequest) -> list[float]:
    """By transformers alone: one text in one forward pass, softmax over the whole vocabulary."""
    processor, model = engine.processor, engine.model
    ids = torch.tensor([[*request.prompt_ids, *request.completion_ids]])
    shown = processor.image_processor(images=list(request.images), return_tensors="pt") if request.images else {}
    kinds = {"mm_token_type_ids": ids.eq(model.config.image_token_id).long()} if request.images else {}
    with torch.no_grad():
        logits = model(input_ids=ids, **shown, **kinds).logits[0, len(request.prompt_ids) - 1 : -1]
    chosen = torch.tensor(request.completion_ids)[:, None]
    return logits.log_softmax(-1).gather(1, chosen)[:, 0].tolist()


@pytest.mark.parametrize("name", ["auto", "sdpa"])
@pytest.mark.parametrize("small", [False, True], ids=["whole", "parts of three tokens"])
def test_given_texts_have_the_probabilities_of_a_plain_forward_pass(
    engines, asked, name: str, small: bool, monkeypatch: pytest.MonkeyPatch
):
    pool, engine = engines[name], engines["sdpa"].local
    answers = pool.generate(asked, SamplingParams(12, 1.0, 1), version="base")
    texts = [
        ScoringRequest(request.prompt_ids, request.images, one.token_ids[: number + 1])
        for number, (request, answer) in enumerate(zip(asked, answers, strict=True))
        for one in answer
    ]
    assert {bool(one.images) for one in texts} == {True, False}
    if small:
        monkeypatch.setattr("cpt.rollout.engine_hf._LOGITS", 4 * engine.model.config.text_config.vocab_size)
        monkeypatch.setattr("cpt.rollout.engine_hf._TOKENS", 100)
    found = pool.loglikelihood(texts, version="base")
    assert logprob_gap(found, [plain(engine, one) for one in texts]) <= 1e-4
    # What is sampled from leaves banned tokens out, and so gives every other one a little more.
    sampled = [one.logprobs[: len(own)] for own, one in zip(found, (c for a in answers for c in a), strict=True)]
    assert all(
        a <= b + 1e-5 for own, theirs in zip(found, sampled, strict=True) for a, b in zip(own, theirs, strict=True)
    )


def test_texts_are_scored_with_the_weights_that_are_asked_for(engines):
    with pytest.raises(StaleWeights, match=r"'base'.*'other'"):
        engines["auto"].loglikelihood([], version="other")
    with pytest.raises(ValueError, match=r"a text of 512 tokens.*less than 512"):
        engines["auto"].loglikelihood([ScoringRequest([7] * 500, (), [7] * 12)], version="base")


class Colours(Options):
    """An option's probability after a prompt with a picture."""

    def messages(self, sample: Sample, prompt: str) -> list[dict[str, Any]]:
        words = "what color is the circle ?"
        return [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": words}]}]

    def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
        meta = {"choices": ["red", "blue circle", "green"]}
        return [Sample("c/test/0", "c", "", (Image.new("RGB", (48, 48), "blue"),), ("A",), "", meta)]


def test_options_and_texts_are_tokenised_and_scored_as_by_hand(engines):
    """Prompt and option are one text to the processor; the prompt's white space at its end belongs to the option."""
    task, prose, pool = Colours("c"), Prose("p"), engines["sdpa"]
    prose.text = "the circle is red and the square is blue ."
    engine = pool.local
    (sample,) = task.samples("test", 1)
    (chat,) = engine.processor.apply_chat_template(
        [task.messages(sample, "")], tokenize=False, add_generation_prompt=True
    )
    assert chat != chat.rstrip()

    def ids(text: str, *images: Any) -> list[int]:
        return engine.processor(text=[text], images=list(images) or None)["input_ids"][0]

    before, shown = ids(chat.rstrip(), *sample.images), tuple(sample.images)
    options = [ids(chat + option, *sample.images)[len(before) :] for option in ("red", "blue circle", "green")]
    sums = [sum(plain(engine, ScoringRequest(before, shown, option))) for option in options]
    every = plain(engine, ScoringRequest([engine.tokenizer.eos_token_id], (), ids(prose.text)))
    questions = prepare_questions(engine.processor, [task, prose], samples=1, prompt="direct")
    assert questions.items[0].pairs == [(before, option) for option in options]
    choice, text = ask(pool, "base", questions, max_tokens=4, **LABELS)
    assert choice.extracted == "ABC"[max(range(3), key=sums.__getitem__)]
    assert text.score == pytest.approx(math.exp(sum(every) / len(every)), rel=1e-4)
    assert text.n_tokens == len(every) == 10


def test_the_folders_penalties_play_no_part(engines, asked, tmp_path: Path):
    """Qwen's folders come with repetition_penalty 1.05, which a trainer's log-probabilities know nothing of."""
    import shutil

    from transformers import GenerationConfig

    folder = Path(shutil.copytree(FOLDER, tmp_path / "model"))
    GenerationConfig(eos_token_id=2, pad_token_id=0, repetition_penalty=5.0, min_new_tokens=9).save_pretrained(folder)
    pool = LocalPool(HFEngine(EngineSettings(str(folder), attention="sdpa")))
    pool.push_folder(folder, "base")
    plain = engines["sdpa"].generate(asked, SamplingParams(12), version="base")
    assert said(pool.generate(asked, SamplingParams(12), version="base")) == said(plain)


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
