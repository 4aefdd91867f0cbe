"""Divergence between two policies at every token, exact over the vocabulary."""

from __future__ import annotations

import math
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


def interpolated_kl(logits_p: torch.Tensor, logits_q: torch.Tensor, alpha: float) -> torch.Tensor:
    """From KL(q ‖ p) at `alpha` 0 to KL(p ‖ q) at 1, between next-token distributions, in nats.

    Between them the generalised Jensen-Shannon divergence (GKD, arXiv 2306.13649): alpha · KL(q ‖ m) + (1 − alpha) ·
    KL(p ‖ m), with m = alpha · q + (1 − alpha) · p. Towards the ends this goes to 0, and its gradient divided by alpha,
    or by 1 − alpha, to that of the end; at the ends themselves it is the divergence, undivided. With p a student and q
    its teacher, 0 is the forward divergence and 1 the reverse one.

    Args:
        logits_p, logits_q: [..., V], of any floating-point type; computed in float32.

    Returns:
        float32 [...].
    """
    import torch

    if alpha == 0:
        return token_kl(logits_q, logits_p)
    if alpha == 1:
        return token_kl(logits_p, logits_q)
    p, q = (logits.float().log_softmax(-1) for logits in (logits_p, logits_q))
    mixture = torch.logaddexp(q + math.log(alpha), p + math.log1p(-alpha))
    return alpha * token_kl(q, mixture) + (1 - alpha) * token_kl(p, mixture)


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
