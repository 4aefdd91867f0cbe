"""What a trainer and an engine have to agree on: which rows are one request, and the distribution sampled from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpt.rollout.engine import BAN, banned_tokens, logprob_gap
from cpt.types import Completion


def group_rows(prompts: Sequence[Sequence[int]], images: Sequence[Any] | None, most: int) -> list[tuple[int, int]]:
    """Runs of neighbouring rows with one prompt and the same images: (first row, length), lengths at most `most`.

    Args:
        prompts: token ids per row.
        images: pictures per row, equal when they are the same objects or have the same pixels.
    """
    groups: list[tuple[int, int]] = []
    for row in range(len(prompts)):
        if groups:
            first, size = groups[-1]
            alike = prompts[row] == prompts[first] and (images is None or images[row] == images[first])
            if alike and size < most:
                groups[-1] = (first, size + 1)
                continue
        groups.append((row, 1))
    return groups


def ban_tokens(model: Any) -> None:
    """Exclude vision tokens from a policy's distribution, for good, by a constant bias of its output layer.

    The bias is no parameter: it is neither trained, nor saved, nor pushed. A model whose output layer has a bias of its
    own is left as it is.
    """
    import torch

    banned = banned_tokens(model.config)
    head = model.get_output_embeddings()
    head = getattr(head, "base_layer", head)  # inside of an adapter
    if not banned or getattr(head, "bias", None) is not None:
        return
    bias = head.weight.new_zeros(head.weight.shape[0], requires_grad=False)
    bias[list(banned)] = BAN
    del head._parameters["bias"]
    head.register_buffer("bias", bias, persistent=False)
    assert isinstance(head.bias, torch.Tensor)


def refuse_truncation(trainer: Any) -> None:
    """Whether the trainer samples from the policy's whole distribution. ValueError if not."""
    wanted = {"top_p": 1.0, "repetition_penalty": 1.0}
    for name, neutral in wanted.items():
        if getattr(trainer, name, neutral) != neutral:
            raise ValueError(
                f"{name} must be {neutral} in training rollouts: the trainer's log-probabilities ignore it"
            )
    for name in ("top_k", "min_p"):
        if getattr(trainer, name, None):
            raise ValueError(f"{name} must be off for training rollouts: the trainer's log-probabilities ignore it")


def gap_of(completions: Sequence[Completion], logps: Sequence[Sequence[float]]) -> float:
    """`logprob_gap` of completions and the trainer's log-probabilities, which may be padded on the right."""
    cut = [row[: len(one.token_ids)] for one, row in zip(completions, logps, strict=True)]
    return logprob_gap([one.logprobs for one in completions], cut)
