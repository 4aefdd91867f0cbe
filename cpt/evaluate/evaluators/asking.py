"""Prompts go to the engines: those with one limit of tokens together, and a bounded amount of pictures at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from cpt.evaluate.evaluators.base import Engines
from cpt.rollout.chunks import in_chunks
from cpt.types import Completion, FinishReason, GenerationRequest, SamplingParams, ScoringRequest

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Answer:
    """What a record says of one answer (see `cpt.types.Record`)."""

    text: str
    finish_reason: FinishReason
    extracted: str
    score: float
    tolerant: float
    n_tokens: int


@dataclass(frozen=True)
class Prompt:
    """One prompt, whose pictures are not read yet.

    Attributes:
        limit: most tokens of a completion.
        seed: of its own random stream.
    """

    ids: list[int]
    images: Sequence[Image]
    limit: int
    seed: int


def complete(pool: Engines, version: str, prompts: Sequence[Prompt], temperature: float) -> list[Completion]:
    """A completion of each prompt, in one call for each limit of tokens and each chunk of pictures.

    Args:
        version: of the weights the pool must hold.
    """
    found: dict[int, Completion] = {}
    for limit in dict.fromkeys(prompt.limit for prompt in prompts):
        numbers = [number for number, prompt in enumerate(prompts) if prompt.limit == limit]
        params, left = SamplingParams(limit, temperature), iter(numbers)
        for chunk in in_chunks(prompts[number].images for number in numbers):
            asked = list(islice(left, len(chunk)))
            answers = pool.generate(_requests([prompts[n] for n in asked], chunk), params, version=version)
            found |= {number: answer for number, (answer,) in zip(asked, answers, strict=True)}
    return [found[number] for number in range(len(prompts))]


def _requests(prompts: Sequence[Prompt], chunk: Sequence[tuple[Image, ...]]) -> list[GenerationRequest]:
    return [
        GenerationRequest(prompt.ids, pictures, prompt.seed) for prompt, pictures in zip(prompts, chunk, strict=True)
    ]


@dataclass(frozen=True)
class Texts:
    """Texts to be scored that share their pictures, which are not read yet.

    Attributes:
        pairs: token ids of what stands before each and of what is scored.
    """

    pairs: Sequence[tuple[list[int], list[int]]]
    images: Sequence[Image]


def score_texts(pool: Engines, version: str, texts: Sequence[Texts]) -> list[list[list[float]]]:
    """Log-probabilities of the tokens of each pair's second half, in one call for each chunk of pictures."""
    found: list[list[list[float]]] = []
    for chunk in in_chunks(one.images for one in texts):
        asked = texts[len(found) : len(found) + len(chunk)]
        scores = iter(pool.loglikelihood(_scoring_requests(asked, chunk), version=version))
        found += [list(islice(scores, len(one.pairs))) for one in asked]
    return found


def _scoring_requests(texts: Sequence[Texts], chunk: Sequence[tuple[Image, ...]]) -> list[ScoringRequest]:
    return [
        ScoringRequest(before, pictures, scored)
        for one, pictures in zip(texts, chunk, strict=True)
        for before, scored in one.pairs
    ]
