"""Merging of weights: pure functions on state dicts, name → tensor, that give one merged tensor at a time.

Arithmetic is float32 whatever the tensors are stored in; a result has the dtype and device of what it came from. A
tensor that is the same in all of them, such as a frozen one, comes out bit by bit the same, and so do the ends of an
interpolation. What holds no floating-point numbers is taken from the last argument as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from cpt.methods.blocks import relative_depths

if TYPE_CHECKING:
    import torch

    Weights = Mapping[str, torch.Tensor]
    Merged = Iterator[tuple[str, torch.Tensor]]

_STRAIGHT = 1e-4  # sine of an angle below which two directions are one line


def linear(reference: Weights, end: Weights, weight: float) -> Merged:
    """(1 − weight) · θ_reference + weight · θ_end; weight in [0, 1]."""
    import torch

    yield from _each(lambda _, ours, theirs: torch.lerp(ours, theirs, weight), reference, end)


def slerp(origin: Weights, first: Weights, second: Weights, weight: float) -> Merged:
    """θ_0 + sin((1 − w)Ω)/sin Ω · δ_1 + sin(wΩ)/sin Ω · δ_2 (WARP's second stage, arXiv 2406.16768), w = weight.

    weight is in [0, 1]; δ_1 and δ_2 are the task vectors of `first` and `second` from the `origin` θ_0, and Ω the angle
    between them, each tensor by itself, flattened. Without a plane to turn in (one of them is zero, or they are
    parallel or opposite) it is the linear interpolation.
    """
    yield from _each(lambda _, zero, one, two: _on_the_arc(zero, one, two, weight), origin, first, second)


def warp(start: Weights, policies: Sequence[Weights], interpolation: float) -> Merged:
    """(1 − η) · θ_0 + η · θ_slerp, η = interpolation in [0, 1] (WARP's third step, arXiv 2406.16768).

    θ_slerp is the `slerp` of the policies around their common start θ_0, all with equal weight: the m-th is merged with
    the result of those before by the weight 1/m. Two policies make up the same in either order.
    """
    import torch

    def rule(_: str, origin: torch.Tensor, *ends: torch.Tensor) -> torch.Tensor:
        merged = ends[0]
        for count, end in enumerate(ends[1:], start=2):
            merged = _on_the_arc(origin, merged, end, 1 / count)
        return torch.lerp(origin, merged, interpolation)

    yield from _each(rule, start, *policies)


def lines(reference: Weights, end: Weights, alpha: float, beta: float) -> Merged:
    """θ_reference + (α + β · d) · (θ_end − θ_reference) (LiNeS, arXiv 2410.17146).

    d is a tensor's relative depth in [0, 1]: l/(L − 1) in block l of L, each stack of blocks numbered by itself. What
    is in no block: see `cpt.methods.blocks.relative_depths`.
    """
    import torch

    depth = relative_depths(end)
    yield from _each(lambda name, a, b: torch.lerp(a, b, alpha + beta * depth[name]), reference, end)


def distance(weights: Iterable[tuple[str, torch.Tensor]], reference: Weights) -> float:
    """‖θ − θ_reference‖, the Euclidean norm over all tensors of floating-point numbers."""
    squares = 0.0
    for name, tensor in weights:
        if tensor.is_floating_point():
            there = reference[name].detach().to(tensor.device).float()
            squares += float((tensor.detach().float() - there).norm()) ** 2
    return math.sqrt(squares)


def _each(rule: Callable[..., torch.Tensor], *sources: Weights) -> Merged:
    """`rule(name, *tensors)` for every tensor, in float32 and on the device of the last source's."""
    for name, last in sources[-1].items():
        last = last.detach()
        if not last.is_floating_point():
            yield name, last
            continue
        tensors = [source[name].detach().to(last.device).float() for source in sources]
        yield name, rule(name, *tensors).to(last.dtype)


def _on_the_arc(origin: torch.Tensor, first: torch.Tensor, second: torch.Tensor, weight: float) -> torch.Tensor:
    import torch

    ours, theirs = first - origin, second - origin
    sizes = float(ours.norm()), float(theirs.norm())
    if weight in (0.0, 1.0) or 0.0 in sizes:
        return torch.lerp(first, second, weight)
    a, b = ours / sizes[0], theirs / sizes[1]
    angle = 2 * math.atan2(float((a - b).norm()), float((a + b).norm()))  # an arc cosine is coarse near 0 and π
    if math.sin(angle) < _STRAIGHT:
        return torch.lerp(first, second, weight)
    shares = math.sin((1 - weight) * angle) / math.sin(angle), math.sin(weight * angle) / math.sin(angle)
    return origin + shares[0] * ours + shares[1] * theirs
