"""The policy's own forward pass, kept for plug-ins: what its output layer is given, and logits from that.

TRL's trainers never form the logits of a batch: they project the hidden states in tiles and keep log-probabilities.
Plug-ins that need whole distributions would each run the policy once more. The hidden states are there already, with
their graph, so all that a plug-in still needs is the output layer, at the completions' tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from cpt.models.policy import inner

# Settings of text models whose forward pass does more to the logits than the output layer.
_AFTER_THE_HEAD = (
    "final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling",
)  # fmt: skip


@contextmanager
def caught_hidden(policy: Any) -> Iterator[list[torch.Tensor]]:
    """Hidden states [rows, L, H] of the policy's forward passes with gradients inside the block, in their order.

    Args:
        policy: a transformers model without wrappers, but perhaps with adapters. None are caught of one whose logits
            are not simply its output layer's.
    """
    found: list[torch.Tensor] = []
    plain = inner(policy)
    text = plain.config.get_text_config()
    if any(getattr(text, name, None) not in (None, 1.0) for name in _AFTER_THE_HEAD):
        yield found
        return

    def keep(_module: Any, _args: Any, output: Any) -> None:
        if output.last_hidden_state.requires_grad:
            found.append(output.last_hidden_state)

    handle = plain.base_model.register_forward_hook(keep)
    try:
        yield found
    finally:
        handle.remove()


@contextmanager
def caught_outputs(model: Any) -> Iterator[list[Any]]:
    """What the model returns inside the block, call by call."""
    found: list[Any] = []
    handle = model.register_forward_hook(lambda _module, _args, output: found.append(output))
    try:
        yield found
    finally:
        handle.remove()


def logits_of(
    policy: Any, hidden: Sequence[torch.Tensor], predicting: torch.Tensor, autocast: Callable[[], Any]
) -> torch.Tensor:
    """Logits [N, V] at the N true positions of `predicting` [B, L - 1], differentiable also inside `no_grad`."""
    assert all(one.requires_grad for one in hidden), "the graph of the policy's forward pass is gone"
    with torch.enable_grad(), autocast():
        chosen = torch.cat(list(hidden))[:, :-1][predicting]
        logits: torch.Tensor = inner(policy).get_output_embeddings()(chosen)
    return logits.float()
