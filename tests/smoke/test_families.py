"""Evaluation, SFT and GRPO on tiny models of ten families, with one, several and no pictures to a prompt.

Those of vLLM take a quarter of a minute each and run only when asked for: pytest -m families.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import families
import pytest
from gap import logprob_gap
from stages import EasilyRewarded, planned, replace_tasks, rows, tensors, trained

from cpt.rollout.engine import EngineSettings, banned_tokens
from cpt.rollout.local import LocalPool, build_engine
from cpt.tasks import get_task
from cpt.types import Completion, GenerationRequest, Sample, SamplingParams, ScoringRequest

pytestmark = pytest.mark.smoke

GREEDY, SAMPLED = SamplingParams(6), SamplingParams(6, 1.0, 3)
SFT = {"type": "sft", "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3}
GRPO = {
    "type": "grpo", "max_steps": 2, "per_device_train_batch_size": 8, "num_generations": 2, "learning_rate": 1e-3,
    "max_completion_length": 6,
}  # fmt: skip
COUNTS = (1, 2, 0, 1)  # pictures of four prompts


def pictures() -> list[Any]:
    import numpy as np
    from PIL import Image

    noise = np.random.default_rng(0)
    sizes = [(48, 48), (40, 90), (100, 30), (64, 64)]
    return [Image.fromarray(noise.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


class Album(EasilyRewarded):
    """Questions about one picture, two, none and one again; about two where none is not allowed."""

    least = 0

    def samples(self, split: Any, n: int, seed: int = 0) -> list[Sample]:
        shown, found = pictures(), []
        for number, sample in enumerate(self.task.samples(split, n, seed)):
            count = COUNTS[number % 4] or self.least
            own = tuple(shown[(number + k) % 4] for k in range(count))
            found.append(replace(sample, task=self.name, images=own))
        return found

    def messages(self, sample: Sample, prompt: Any) -> list[dict[str, Any]]:
        (turn,) = self.task.messages(sample, prompt)
        words = [block for block in turn["content"] if block["type"] == "text"]
        return [{"role": "user", "content": [{"type": "image"}] * len(sample.images) + words}]


@pytest.fixture(scope="module", params=families.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(trainers: None, family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if family == "smolvlm":
        pytest.importorskip("num2words", reason="SmolVLM's processor needs num2words")
    return families.save_family(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def album(family: str) -> Iterator[list[Sample]]:
    """Four prompts, and every task asks such."""
    with pytest.MonkeyPatch.context() as patch:
        replace_tasks(patch, Album)
        patch.setattr(Album, "least", 2 if family == "paligemma" else 0)
        yield get_task("count-colour").samples("test", 4)


@pytest.fixture(scope="module")
def engine(folder: Path) -> LocalPool:
    return LocalPool(build_engine("hf", EngineSettings(str(folder))))


@pytest.fixture(scope="module")
def model(folder: Path) -> tuple[Any, Any]:
    from cpt.models.load import load_policy, load_processor

    return load_policy(folder).eval(), load_processor(folder)


def requests(processor: Any, samples: Sequence[Sample]) -> list[GenerationRequest]:
    from cpt.rollout.encode import encode_prompts

    task = get_task("count-colour")
    ids = encode_prompts(processor, [task.messages(one, "direct") for one in samples], [one.images for one in samples])
    return [GenerationRequest(own, one.images, n) for n, (own, one) in enumerate(zip(ids, samples, strict=True))]


def as_the_processor_has_it(model: Any, processor: Any, sample: Sample) -> dict[str, Any]:
    """All arguments of a prompt by transformers alone."""
    from cpt.models.inputs import ModelInputs
    from cpt.rollout.encode import fill_images

    chat = fill_images(get_task("count-colour").messages(sample, "direct"), sample.images)
    options = {"tokenize": True, "return_dict": True, "add_generation_prompt": True, "return_tensors": "pt"}
    found = processor.apply_chat_template([chat], **options)
    accepted = ModelInputs(processor, model).accepted
    assert accepted is not None
    return {name: value for name, value in found.items() if name in accepted and name != "labels"}


def scored(
    model: Any, processor: Any, asked: Sequence[Any], answers: Sequence[Sequence[Completion]], *, sampled: bool = True
) -> list[Any]:
    """Log-probabilities of all completions, one at a time: in what is sampled from, or in the plain softmax."""
    import torch

    from cpt.models.inputs import ModelInputs

    inputs, found = ModelInputs(processor, model), []
    for request, answer in zip(asked, answers, strict=True):
        vision = inputs.vision(inputs.pictures([request.images]))
        for one in answer:
            ids = torch.tensor([[*request.prompt_ids, *one.token_ids]])
            said = torch.arange(ids.shape[1])[None] >= len(request.prompt_ids)
            with torch.no_grad():
                logits = model(**inputs.batch(ids, torch.ones_like(ids), vision, said)).logits[0]
            logits = logits[len(request.prompt_ids) - 1 : -1].float()
            if sampled:
                logits[:, list(banned_tokens(model.config))] = -torch.inf
            found.append(logits.log_softmax(-1).gather(1, torch.tensor(one.token_ids)[:, None])[:, 0].tolist())
    return found


def gap(model: Any, processor: Any, asked: Sequence[Any], answers: Sequence[Sequence[Completion]]) -> float:
    engine = [one.logprobs for answer in answers for one in answer]
    return logprob_gap(engine, scored(model, processor, asked, answers))


def gap_of_given(
    model: Any, processor: Any, pool: Any, asked: Sequence[Any], answers: Sequence[Sequence[Completion]], version: str
) -> float:
    """Of the engine's scores of completions that it is given."""
    given = [
        ScoringRequest(request.prompt_ids, request.images, one.token_ids)
        for request, answer in zip(asked, answers, strict=True)
        for one in answer
    ]
    plain = scored(model, processor, asked, answers, sampled=False)
    return logprob_gap(pool.loglikelihood(given, version=version), plain)


def test_engine_trainer_and_processor_have_the_same_inputs(model: Any, album: list[Sample]):
    import torch

    from cpt.models.inputs import ModelInputs

    policy, processor = model
    inputs = ModelInputs(processor, policy)
    asked = requests(processor, album)
    read = inputs.pictures([one.images for one in album])
    for request, own, sample in zip(asked, read, album, strict=True):
        inputs.check(request.prompt_ids, own)
        theirs = as_the_processor_has_it(policy, processor, sample)
        ids = torch.tensor([request.prompt_ids])
        ours = inputs.batch(ids, torch.ones_like(ids), inputs.vision([own]))
        assert set(ours) == set(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    # A batch of prompts with pictures is the processor's batch of them.
    task, some = get_task("count-colour"), [one for one in album if one.images]
    text = processor.apply_chat_template([task.messages(one, "direct") for one in some], add_generation_prompt=True)
    pictures = [list(one.images) for one in some]
    batch = processor(text=text, images=pictures, padding=True, padding_side="left", return_tensors="pt")
    chosen = [n for n, one in enumerate(album) if one.images]
    ours = inputs.prompts([asked[n].prompt_ids for n in chosen], [read[n] for n in chosen])
    assert all(torch.equal(ours[name], batch[name]) for name in ours if name != "position_ids")


def test_a_prompt_that_does_not_fit_its_pictures_is_refused(engine: LocalPool, model: Any, album: list[Sample]):
    (one, two, *_), image = requests(model[1], album), engine.local.inputs.image
    version = engine.push_folder(engine.settings.model_path, "v")
    less = list(one.prompt_ids)
    less.remove(image)
    with pytest.raises(ValueError, match="pixel limits"):
        engine.generate([replace(one, prompt_ids=less)], GREEDY, version=version)
    with pytest.raises(ValueError, match="image tokens"):
        engine.generate([replace(two, images=two.images[:1])], GREEDY, version=version)


def test_the_hf_engine_says_what_generate_says(engine: LocalPool, model: Any, album: list[Sample]):
    """transformers' own loop with the processor's own inputs, prompt by prompt; the engine has them in one batch."""
    policy, processor = model
    asked, version = requests(processor, album), engine.push_folder(engine.settings.model_path, "v")
    answers = engine.generate(asked, GREEDY, version=version)
    assert len({tuple(one.token_ids) for (one,) in answers}) > 1
    for request, (answer,), sample in zip(asked, answers, album, strict=True):
        theirs = as_the_processor_has_it(policy, processor, sample)
        banned = list(banned_tokens(policy.config)) or None
        ids = policy.generate(**theirs, max_new_tokens=6, do_sample=False, suppress_tokens=banned)
        assert ids[0, len(request.prompt_ids) :].tolist() == answer.token_ids
    assert gap(policy, processor, asked, answers) <= 1e-4
    several = engine.generate(asked, SAMPLED, version=version)
    assert gap(policy, processor, asked, several) <= 1e-4
    assert gap_of_given(policy, processor, engine, asked, several, version) <= 1e-4


def test_two_steps_of_sft_and_of_grpo_and_an_evaluation(
    engine: LocalPool, folder: Path, album: list[Sample], tmp_path: Path, capsys: Any
):
    from cpt.evaluate.evaluators.generation import ask, prepare_questions
    from cpt.models.load import load_processor

    (stage,) = planned(folder, SFT, samples=8)
    sft = trained(stage, folder, tmp_path / "sft", engine)
    first, second = rows(sft)
    assert second["loss"] < first["loss"]
    (stage,) = planned(folder, GRPO, samples=8)
    grpo = trained(stage, sft.policy, tmp_path / "grpo", engine)
    assert [row["logprob_gap"] <= 1e-4 and math.isfinite(row["grad_norm"]) for row in rows(grpo)] == [True, True]
    before, after = tensors(sft.policy), tensors(grpo.policy)
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before)
    version = engine.push_folder(grpo.policy, "trained")
    questions = prepare_questions(load_processor(folder), [get_task("count-colour")], samples=4, prompt="direct")
    records = ask(engine, version, questions, max_tokens=6, arm="a", seed=0, stage=1)
    assert len({record.question_id for record in records}) == 4


def test_a_saved_policy_has_the_hubs_names(folder: Path, model: Any, tmp_path: Path):
    """Whatever the names of the folder that it came from: here those of a model that transformers has made anew."""
    from cpt.models.export import save_policy
    from cpt.models.load import load_policy
    from cpt.models.names import HubNames

    policy, _ = model
    save_policy(policy, folder, tmp_path / "policy")
    names, own = HubNames(str(folder)), dict(policy.named_parameters())
    saved, again = tensors(tmp_path / "policy"), dict(load_policy(tmp_path / "policy").named_parameters())
    assert set(saved) == set(names(own)) == set(names(tensors(folder)))
    assert all(again[name].equal(own[name]) for name in own)
    if any("vision_tower.encoder.layers" in name for name in own):  # CLIP and SigLIP
        assert "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight" in saved


VLLM_SERVES = {"gemma3": {0}, "paligemma": set(), "llava_onevision": {0, 1}}  # pictures, on a CPU


@pytest.mark.families
def test_vllm_agrees_or_is_refused(family: str, folder: Path, model: Any, album: list[Sample], ray_cluster: None):
    """One, several and no pictures; weights of a folder, and by the names that they have in memory."""
    pytest.importorskip("vllm")
    from cpt.rollout.limits import check_family
    from cpt.rollout.pool import RolloutPool

    policy, processor = model
    allowed = VLLM_SERVES.get(family, {0, 1, 2})
    served = [sample for sample in album if len(sample.images) in allowed]
    check_family(str(folder), "vllm", gpu=False, pictures=[(one.id, len(one.images)) for one in served])
    for one in album:
        if len(one.images) not in allowed:
            with pytest.raises(ValueError, match=rf"sample {one.id} has .* rollout\.engine: hf"):
                check_family(str(folder), "vllm", gpu=False, pictures=[(one.id, len(one.images))])
    if not served:
        return
    asked = requests(processor, served)
    pool = RolloutPool.start(folder, engine="vllm", max_model_len=256, max_num_seqs=32)
    try:
        for version in ("folder", "memory"):
            if version == "folder":
                pool.push_folder(folder, version)
            else:
                pool.push(policy.named_parameters(), version)
            answers = [pool.generate(asked, params, version=version) for params in (GREEDY, SAMPLED)]
            found = [gap(policy, processor, asked, one) for one in answers]
            found += [gap_of_given(policy, processor, pool, asked, one, version) for one in answers]
            print(f"{family}, {version}: {max(found):.2g}")
            assert max(found) <= 1e-4
    finally:
        pool.close()
