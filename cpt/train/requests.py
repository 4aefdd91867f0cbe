"""Training samples as requests to the rollout pool, outside of the training's own rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cpt.rollout.chunks import in_chunks
from cpt.rollout.encode import encode_prompts
from cpt.tasks import get_task
from cpt.tasks.chat import checked_prompt
from cpt.types import Completion, GenerationRequest, PromptStyle, Sample, SamplingParams

if TYPE_CHECKING:
    from PIL.Image import Image

    from cpt.rollout.pool import RolloutPool


def sampled(
    pool: RolloutPool,
    params: SamplingParams,
    version: str,
    samples: Sequence[Sample],
    seeds: Sequence[int],
    prompt: PromptStyle,
    processor: Any,
    known: dict[str, list[int]] | None = None,
) -> list[list[Completion]]:
    """Completions of every sample; the k-th one draws from the k-th stream of its seed (`cpt.rollout.engine`).

    All in one call, as long as their pictures fit a chunk (`cpt.rollout.chunks`): those of a stage need not.

    Args:
        version: of the weights that the pool holds.
        processor: the policy's Hugging Face processor.
        known: token ids of prompts that were encoded before, by sample; takes in those that are new.

    Raises:
        ValueError: a prompt gives its answer away (`checked_prompt`).
    """
    known = {} if known is None else known
    found: list[list[Completion]] = []
    for pictures in in_chunks(sample.images for sample in samples):
        some = slice(len(found), len(found) + len(pictures))
        _encode(samples[some], pictures, prompt, processor, known)
        requests = [
            GenerationRequest(known[sample.id], shown, seed)
            for sample, shown, seed in zip(samples[some], pictures, seeds[some], strict=True)
        ]
        found += pool.generate(requests, params, version=version)
    return found


def _encode(
    samples: Sequence[Sample],
    pictures: Sequence[tuple[Image, ...]],
    prompt: PromptStyle,
    processor: Any,
    known: dict[str, list[int]],
) -> None:
    """Take in the token ids of those samples that are not known."""
    unseen = [(sample, shown) for sample, shown in zip(samples, pictures, strict=True) if sample.id not in known]
    if not unseen:
        return
    chats = [checked_prompt(get_task(sample.task), sample, prompt) for sample, _ in unseen]
    encoded = encode_prompts(processor, chats, [shown for _, shown in unseen])
    known |= {sample.id: ids for (sample, _), ids in zip(unseen, encoded, strict=True)}
