"""A model's forward pass over rollouts: log-probabilities and entropies of the completions' tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch

from cpt.methods.plugin import Batch
from cpt.train.batch import PolicyBatch, Rollouts, Scores
from cpt.train.output_layer import label_scores
from cpt.train.supervised import IGNORED

Autocast = Callable[[], AbstractContextManager[Any]]


def padded(rollouts: Rollouts, step: int, *, pad: int, drop_truncated: bool, device: Any) -> PolicyBatch:
    """Rollouts as tensors.

    Args:
        step: optimizer steps done by the policy that sampled.
        pad: token id beside prompts and completions.
        drop_truncated: whether completions that were cut off at the limit are masked out.
    """
    prompts, completions = rollouts.by_row(rollouts.prompts), rollouts.completions
    prompt_ids, prompt_mask = side_by_side([prompt.ids for prompt in prompts], pad, "left", device)
    ids, mask = side_by_side([one.token_ids for one in completions], pad, "right", device)
    engine = [torch.tensor(one.logprobs, dtype=torch.float32) for one in completions]
    if drop_truncated:
        mask = mask * torch.tensor([[int(one.finish_reason == "stop")] for one in completions], device=device)
    return PolicyBatch(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=ids,
        completion_mask=mask,
        pictures=[prompt.pictures for prompt in prompts],
        engine_logps=torch.nn.utils.rnn.pad_sequence(engine, batch_first=True).to(device),
        step=torch.tensor(step),
        tokens=mask.sum(),
    )


def side_by_side(rows: Sequence[Sequence[int]], pad: int, side: str, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, L], padded on that side, and their mask."""
    lists = [torch.tensor(list(row)) for row in rows]
    ids, mask = (
        torch.nn.utils.rnn.pad_sequence(some, batch_first=True, padding_value=value, padding_side=side)
        for some, value in ((lists, pad), ([torch.ones_like(row) for row in lists], 0))
    )
    return ids.to(device), mask.to(device)


def score(
    model: Any,
    batch: PolicyBatch,
    *,
    temperature: float,
    autocast: Autocast,
    most: int | None = None,
) -> Scores:
    """The completions' tokens under `model`, each row with its own pictures.

    Args:
        model: of one of TRL's trainers, without the tokens that are banned.
        temperature: that completions are sampled at.
        most: rows that go through the model together; None for all.
    """
    width, parts = batch.completion_ids.shape[1], []
    for rows in batch.cut(most or len(batch.completion_ids)):
        given = policy_inputs(rows)
        with autocast():
            found = label_scores(model, given.labels, temperature, **given.inputs)
        parts.append((found.log_probs, found.entropy))
    logps, entropies = (
        None if some[0] is None else torch.cat([one[:, -width:] for one in some]) for some in zip(*parts, strict=True)
    )
    assert logps is not None
    return Scores(logps, entropies)


def as_model_inputs(batch: PolicyBatch) -> Batch:
    """Prompts and completions as plug-ins are given them; with a teacher, its prompts beside."""
    vision = _vision(batch)
    own = _after(batch.prompt_ids, batch.prompt_mask, batch, vision)
    if batch.teacher_ids is None:
        return own
    assert batch.teacher_mask is not None
    return replace(own, teacher=_after(batch.teacher_ids, batch.teacher_mask, batch, vision))


def policy_inputs(batch: PolicyBatch) -> Batch:
    """The same without a teacher."""
    return _after(batch.prompt_ids, batch.prompt_mask, batch, _vision(batch))


def _vision(batch: PolicyBatch) -> dict[str, torch.Tensor]:
    return batch.pictures[0].made_by.vision(batch.pictures, batch.prompt_ids.device)


def _after(
    prompt_ids: torch.Tensor, prompt_mask: torch.Tensor, batch: PolicyBatch, vision: Mapping[str, torch.Tensor]
) -> Batch:
    """The batch's completions after these prompts, their tokens as labels."""
    ids = torch.cat([prompt_ids, batch.completion_ids], dim=1)
    mask = torch.cat([prompt_mask, batch.completion_mask], dim=1)
    said = torch.where(batch.completion_mask.bool(), batch.completion_ids, IGNORED)
    labels = torch.cat([torch.full_like(prompt_ids, IGNORED), said], dim=1)
    behind = torch.arange(ids.shape[1], device=ids.device).ge(prompt_ids.shape[1]).expand(ids.shape)
    return Batch(batch.pictures[0].made_by.batch(ids, mask, vision, behind), labels)
