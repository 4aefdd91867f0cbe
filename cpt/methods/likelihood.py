"""Log-probabilities of a batch's completions."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cpt.methods.plugin import Batch


def completion_logits(model: Callable[..., Any], batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits [N, V] that predict the N completion tokens, their ids [N], and their rows in the batch [N].

    Costs a forward pass, unless the batch has this model's logits already (`Batch.shared`).
    """
    predicting = batch.predicting

    def logits() -> torch.Tensor:
        found: torch.Tensor = model(**batch.inputs).logits[:, :-1][predicting]
        return found

    known = logits if batch.shared is None else batch.shared.setdefault(model, cache(logits))
    return known(), batch.labels[:, 1:][predicting], predicting.nonzero()[:, 0]


def token_logps(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities [N] of `ids` [N] under `logits` [N, V], in float32."""
    import torch

    return torch.log_softmax(logits.float(), dim=-1).gather(1, ids[:, None])[:, 0]


def row_sums(values: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Sum of `values` [N] over each of `count` rows [count]; 0 for a row without tokens."""
    import torch

    return torch.zeros(count, dtype=values.dtype, device=values.device).index_add(0, rows, values)


def row_means(values: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Mean of `values` [N] over each of `count` rows [count]; 0 for a row without tokens."""
    import torch

    tokens = torch.bincount(rows, minlength=count).clamp(min=1)
    return row_sums(values, rows, count) / tokens


def row_nlls(logits: torch.Tensor, ids: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Negative log-likelihood of each of `count` rows [count]: nats per token, of what `completion_logits` returns."""
    from torch.nn.functional import cross_entropy

    return row_means(cross_entropy(logits.float(), ids, reduction="none"), rows, count)


def nll(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Negative log-likelihood in nats per token: a mean over the tokens of each row, and of that over the rows."""
    return row_nlls(*completion_logits(model, batch), len(batch.labels)).mean()
