"""What rounding explains of a difference between two computations of the same log-probabilities.

In float32 engine and trainer agree to a few millionths of a nat, and a flat bound is enough. In bfloat16 they differ by
what eight bits of precision leave, which depends on the model, its depth and the size of its logits. That is measured
here, on the very rows that are compared: the logits of the trainer's own forward pass in bfloat16 against those of the
same weights in float32. Let s be the standard deviation of that difference, without its mean at each position (which no
probability depends on), over all of the vocabulary or over the likeliest tokens, whose logits are larger and so rounded
more coarsely: the larger of both. With independent errors e of deviation s in the logits, the
log-probability of token c has the error (1 - p_c) e_c - sum over j != c of p_j e_j, whose deviation is
s sqrt((1 - p_c)^2 + sum p_j^2) <= s sqrt(2) (1 - p_c). Engine and trainer each make such an error, so their difference
has at most 2 s (1 - p_c).

`excess` is the root mean square of the differences in units of that. Rounding alone keeps it near or below 1, whatever
the number of tokens; `MOST` leaves room for errors that are not independent and for other kernels. Other pixels, tokens
or weights move most tokens by many times their unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from cpt.models.attention import PACKAGES

MOST = 3.0
"""Largest `excess` that is put down to rounding."""

EXACT = 1e-4
"""Differences in nats that float32 explains."""

_LIKELY = 8  # tokens at a position


def logit_noise(rounded: torch.Tensor, exact: torch.Tensor) -> float:
    """Deviation s of logits [N, V] from those of a more exact computation; see the module's text."""
    difference = rounded.float() - exact.float()
    difference = difference - difference.mean(-1, keepdim=True)
    likely = difference.gather(-1, exact.topk(min(_LIKELY, exact.shape[-1]), dim=-1).indices)
    return max(float(some.square().mean().sqrt()) for some in (difference, likely))


def excess(difference: torch.Tensor, logps: torch.Tensor, noise: float) -> float:
    """Root mean square of `difference` in units of what rounding does to two computations; infinite for NaN.

    Args:
        difference: [N], between the log-probabilities of engine and trainer.
        logps: [N], the trainer's.
        noise: see `logit_noise`.
    """
    if not len(difference):
        return 0.0
    unit = 2 * noise * -torch.expm1(logps.float().clamp(max=0.0)) + EXACT
    found = float((difference.float() / unit).square().mean().sqrt())
    return found if found == found else float("inf")


@contextmanager
def in_float32(model: Any) -> Iterator[None]:
    """Let `model` compute in float32 inside, whatever precision its weights have and trains in.

    Weights are cast module by module while these run, so that no second copy of the model is needed. Flash attention,
    which knows no float32, gives way to `sdpa`.
    """
    device = next(model.parameters()).device.type

    def cast(module: Any, args: Any, kwargs: Any) -> Any:
        torch.set_autocast_enabled(device, False)  # a trainer's wrapper has turned it on again since
        module._cpt_kept = (dict(module._parameters), dict(module._buffers))
        for own in (module._parameters, module._buffers):
            for name, value in own.items():
                if value is not None and value.is_floating_point() and value.dtype != torch.float32:
                    wide = value.detach().float()
                    own[name] = torch.nn.Parameter(wide, requires_grad=False) if own is module._parameters else wide
        return tuple(map(_float32, args)), {name: _float32(value) for name, value in kwargs.items()}

    def restore(module: Any, *_: Any) -> None:
        kept = module.__dict__.pop("_cpt_kept", None)
        if kept is not None:
            module._parameters.update(kept[0])
            module._buffers.update(kept[1])

    with ExitStack() as stack:
        named = getattr(getattr(model, "config", None), "_attn_implementation", None)
        if named in PACKAGES:
            stack.callback(model.set_attn_implementation, named)
            model.set_attn_implementation("sdpa")
        for module in model.modules():
            if any(parameter is not None for parameter in module._parameters.values()):
                stack.callback(restore, module)
                stack.callback(module.register_forward_pre_hook(cast, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(restore, always_call=True).remove)
        with torch.autocast(device, enabled=False):
            yield


def _float32(value: Any) -> Any:
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
