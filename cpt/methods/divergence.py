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

    p, q = logits_p.float(), logits_q.float()
    if banned:
        out = torch.zeros(p.shape[-1], dtype=torch.bool, device=p.device)
        out[list(banned)] = True
        # The lowest finite number: its probability is 0, and 0 times a difference of two such numbers is 0, too.
        p, q = (logits.masked_fill(out, torch.finfo(torch.float32).min) for logits in (p, q))
    p, q = p.log_softmax(-1), q.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1)


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
