"""Log-probabilities of a batch's completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cpt.methods.plugin import Batch


def completion_logits(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [N, V] that predict the N completion tokens, their ids [N], and their rows in the batch [N]."""
    targets = batch.labels[:, 1:]
    chosen = targets != -100
    logits = model(**batch.inputs).logits[:, :-1][chosen]
    return logits, targets[chosen], chosen.nonzero()[:, 0]


def row_means(values: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Mean of `values` [N] over each of `count` rows [count]; 0 for a row without tokens."""
    import torch

    sums = torch.zeros(count, dtype=values.dtype, device=values.device).index_add(0, rows, values)
    tokens = torch.bincount(rows, minlength=count).clamp(min=1)
    return sums / tokens


def row_nlls(logits: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Negative log-likelihood of each of `count` rows [count]: nats per token, of what `completion_logits` returns."""
    from torch.nn.functional import cross_entropy

    return row_means(cross_entropy(logits.float(), ids, reduction="none"), rows, count)


def nll(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood in nats per token: a mean over the tokens of each row, and of that over the rows."""
    return row_nlls(*completion_logits(model, batch), len(batch.labels)).mean()
