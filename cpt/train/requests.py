"""Training samples as requests to the rollout pool, outside of the training's own rollouts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpt.rollout.encode import encode_prompts
from cpt.tasks import get_task
from cpt.tasks.chat import checked_prompt
from cpt.types import GenerationRequest, PromptStyle, Sample


def training_requests(
    samples: Sequence[Sample],
    seeds: Sequence[int],
    prompt: PromptStyle,
    processor: Any,
    known: dict[str, list[int]] | None = None,
) -> list[GenerationRequest]:
    """One request per sample; its k-th completion draws from the k-th stream of its seed (`cpt.rollout.engine`).

    Args:
        processor: the policy's Hugging Face processor.
        known: token ids of prompts that were encoded before, by sample; takes in those that are new.

    Raises:
        ValueError: a prompt gives its answer away (`checked_prompt`).
    """
    known = {} if known is None else known
    unseen = [sample for sample in samples if sample.id not in known]
    chats = [checked_prompt(get_task(sample.task), sample, prompt) for sample in unseen]
    encoded = encode_prompts(processor, chats, [sample.images for sample in unseen])
    known |= {sample.id: ids for sample, ids in zip(unseen, encoded, strict=True)}
    return [
        GenerationRequest(known[sample.id], tuple(sample.images), seed)
        for sample, seed in zip(samples, seeds, strict=True)
    ]
