"""Divergence between two policies at every token, exact over the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def token_kl(logits_p: torch.Tensor, logits_q: torch.Tensor, banned: Sequence[int] = ()) -> torch.Tensor:
    """KL(p ‖ q) = Σ_v p_v (log p_v − log q_v) between next-token distributions, in nats.

    Summed over the tokens of a completion sampled from p, it is an unbiased estimate of the divergence between whole
    completions, and never varies more than the sum of log(p/q) at the sampled tokens does (arXiv 2504.10637). Equal
    logits give exactly 0. It can be differentiated.

    Args:
        logits_p, logits_q: [..., V], of any floating-point type; computed in float32.
        banned: ids that neither policy may sample: both distributions are those over the others.

    Returns:
        float32 [...].
    """
    import torch

    out = torch.zeros(logits_p.shape[-1], dtype=torch.bool, device=logits_p.device)
    out[list(banned)] = True

    def without(values: torch.Tensor, instead: float) -> torch.Tensor:
        return values.masked_fill(out, instead) if banned else values  # in a loss, every copy of [..., V] counts

    p, q = (without(logits.float(), -torch.inf).log_softmax(-1) for logits in (logits_p, logits_q))
    return (p.exp() * without(p - q, 0.0)).sum(-1)


def completion_kl(
    logits_p: torch.Tensor, logits_q: torch.Tensor, mask: torch.Tensor, banned: Sequence[int] = ()
) -> torch.Tensor:
    """Σ_t KL(p_t ‖ q_t) over each row's tokens, in nats. See `token_kl`.

    Args:
        logits_p, logits_q: [R, C, V], what each policy predicts for C tokens.
        mask: bool [R, C], true at the tokens of the completion; the others contribute 0, whatever stands there.

    Returns:
        float32 [R].
    """
    import torch

    # Row by row: in float32 and over a large vocabulary, one completion at a time is what memory should have to hold.
    rows = zip(logits_p, logits_q, mask, strict=True)
    return torch.stack([token_kl(p[real], q[real], banned).sum() for p, q, real in rows])
