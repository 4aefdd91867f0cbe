"""Evaluation by free generation: the same test samples and prompts for every arm and stage, scored by their tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cpt.rollout.engine import request_seed
from cpt.types import Completion, GenerationRequest, PromptStyle, Record, Sample, SamplingParams, Task

if TYPE_CHECKING:
    from PIL.Image import Image


class Generator(Protocol):
    """What evaluation needs of the rollout pool."""

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, *, version: str
    ) -> list[list[Completion]]:
        """Completions per request, `params.n` each, made with the weights of `version`."""
        ...


@dataclass(frozen=True)
class Questions:
    """Test samples ready to be asked: tokenised once, asked after every stage.

    Attributes:
        items: task and sample of each of N prompts, task by task.
        texts: N prompts as the model is shown them, one placeholder per image.
        prompt_ids: N lists of token ids, images expanded.
        ids: N digests of text and pictures (`Record.question_id`).
    """

    prompt: PromptStyle
    items: list[tuple[Task, Sample]]
    texts: list[str]
    prompt_ids: list[list[int]]
    ids: list[str]


def prepare_questions(
    processor: Any, tasks: Sequence[Task], *, samples: int | Mapping[str, int], prompt: PromptStyle
) -> Questions:
    """The first test samples of every task, as prompts.

    Args:
        processor: the policy's Hugging Face processor.
        samples: number per task; a mapping gives each task its own.

    Raises:
        ValueError: fewer than one sample, or more than a task has.
    """
    from cpt.rollout.encode import encode_prompts, render_prompts

    items: list[tuple[Task, Sample]] = []
    for task in tasks:
        n = samples if isinstance(samples, int) else samples[task.name]
        if n < 1:
            raise ValueError(f"evaluation of {task.name}: {n} samples; at least 1 is needed")
        items += [(task, sample) for sample in task.samples("test", n)]
    chats = [task.messages(sample, prompt) for task, sample in items]
    pictures = [sample.images for _, sample in items]
    texts = render_prompts(processor, chats)
    ids = [_digest(text, images) for text, images in zip(texts, pictures, strict=True)]
    return Questions(prompt, items, texts, encode_prompts(processor, chats, pictures), ids)


def _digest(text: str, images: Sequence[Image]) -> str:
    """Of all that the model is shown."""
    found = hashlib.blake2b(text.encode(), digest_size=12)
    for image in images:
        found.update(f"/{image.mode}/{image.size}/".encode() + image.tobytes())
    return found.hexdigest()


def ask(
    pool: Generator,
    version: str,
    questions: Questions,
    *,
    max_tokens: int,
    arm: str,
    seed: int,
    stage: int,
    temperature: float = 0.0,
) -> list[Record]:
    """Generate one completion per question in a single call and score it.

    Args:
        version: of the weights the pool must hold.
        max_tokens: limit of a completion; longer ones end with finish_reason `length`.
        arm, seed, stage: what the records are labelled with; stage 0 is the base model.
        temperature: 0 is greedy; above, each request samples from its own stream of (seed, stage, sample).

    Raises:
        ValueError: a task gave a score that is not a number from 0 to 1; task and sample are named.
    """
    requests = [
        GenerationRequest(ids, sample.images, request_seed("evaluation", seed, stage, sample.id))
        for ids, (_, sample) in zip(questions.prompt_ids, questions.items, strict=True)
    ]
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    answers = pool.generate(requests, params, version=version)
    records = []
    shown = zip(questions.items, questions.texts, questions.ids, answers, strict=True)
    for (task, sample), text, question_id, answer in shown:
        completion = answer[0]
        score = task.score(sample, completion.text, questions.prompt)
        records.append(
            Record(
                arm=arm,
                seed=seed,
                stage=stage,
                task=task.name,
                sample_id=sample.id,
                prompt=text,
                completion=completion.text,
                finish_reason=completion.finish_reason,
                extracted=score.extracted,
                gold=list(sample.gold),
                strict=float(score.parts["strict"]),
                tolerant=float(score.parts["tolerant"]),
                n_tokens=len(completion.token_ids),
                question_id=question_id,
            )
        )
    return records


def evaluate_policy(
    pool: Generator,
    version: str,
    processor: Any,
    tasks: Sequence[Task],
    *,
    samples: int | Mapping[str, int],
    prompt: PromptStyle,
    max_tokens: int,
    arm: str,
    seed: int,
    stage: int,
    temperature: float = 0.0,
) -> list[Record]:
    """`prepare_questions`, then `ask`: one record per test sample of every task. See there for arguments and errors."""
    questions = prepare_questions(processor, tasks, samples=samples, prompt=prompt)
    return ask(
        pool, version, questions, max_tokens=max_tokens, arm=arm, seed=seed, stage=stage, temperature=temperature
    )
