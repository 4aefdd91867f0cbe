"""A model's forward pass over rollouts: log-probabilities and entropies of the completions' tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from cpt.methods.plugin import Batch
from cpt.train.batch import PolicyBatch, Rollouts, Scores
from cpt.train.output_layer import label_scores
from cpt.train.supervised import IGNORED

if TYPE_CHECKING:
    from cpt.models.inputs import ModelInputs

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
    inputs: ModelInputs,
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
        ids = torch.cat([rows.prompt_ids, rows.completion_ids], dim=1)
        mask = torch.cat([rows.prompt_mask, rows.completion_mask], dim=1)
        said = torch.zeros_like(ids, dtype=torch.bool)
        said[:, -width:] = True
        labels = ids.masked_fill(mask == 0, IGNORED)
        labels[:, :-width] = IGNORED
        given = inputs.batch(ids, mask, inputs.vision(rows.pictures, ids.device), said)
        with autocast():
            found = label_scores(model, labels, temperature, **given)
        parts.append((found.log_probs, found.entropy))
    logps, entropies = (
        None if some[0] is None else torch.cat([one[:, -width:] for one in some]) for some in zip(*parts, strict=True)
    )
    assert logps is not None
    return Scores(logps, entropies)


def as_model_inputs(batch: PolicyBatch) -> Batch:
    """Prompts and completions as plug-ins are given them; with a teacher, its prompts beside."""
    own = batch.pictures[0].made_by
    vision = own.vision(batch.pictures, batch.prompt_ids.device)

    def after(prompt_ids: torch.Tensor, prompt_mask: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        ids = torch.cat([prompt_ids, batch.completion_ids], dim=1)
        mask = torch.cat([prompt_mask, batch.completion_mask], dim=1)
        said = torch.where(batch.completion_mask.bool(), batch.completion_ids, IGNORED)
        behind = torch.arange(ids.shape[1], device=ids.device).ge(prompt_ids.shape[1]).expand(ids.shape)
        return own.batch(ids, mask, vision, behind), torch.cat([torch.full_like(prompt_ids, IGNORED), said], dim=1)

    teacher = None
    if batch.teacher_ids is not None:
        assert batch.teacher_mask is not None
        teacher = Batch(*after(batch.teacher_ids, batch.teacher_mask))
    return Batch(*after(batch.prompt_ids, batch.prompt_mask), teacher=teacher)
