"""The distribution that trainer and engines have to agree on."""

from __future__ import annotations

from typing import Any

import torch

from cpt.rollout.engine import BAN, banned_tokens


def ban_tokens(model: Any) -> None:
    """Exclude vision tokens from a policy's distribution, for good, by a constant bias of its output layer.

    The policy that is sampled, trained and evaluated is the model without these tokens: with an image placeholder in a
    completion the forward pass would look for an image. Engines exclude them before the softmax. If trainers did not,
    their log-probabilities would differ by log(1 - m), with m what the model puts on those tokens: a millionth for a
    healthy policy, but an unstable one would look as if engine and trainer held different weights.

    The bias is no parameter: it is neither trained, nor saved, nor pushed. A model whose output layer has a bias of its
    own is left as it is.
    """
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
