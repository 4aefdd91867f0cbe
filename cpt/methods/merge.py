"""What becomes of a stage's policy before the next stage starts from it: settings, and pure functions on weights.

θ⁰ is where the stage started, θ¹ where its training ended, θ^base the base model. Weights are plain, adapters added to
them. Regularisers see the merged policy as the stage's end, but under LoRA the adapters as trained.

The functions take state dicts, name → tensor, and give one merged tensor at a time. Arithmetic is float32 whatever the
tensors are stored in; a result has the dtype and device of what it came from. A tensor that is the same in all of them,
such as a frozen one, comes out bit by bit the same, and so do the ends of an interpolation. What holds no
floating-point numbers is taken from the last argument as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from cpt.common.keys import Problem
from cpt.methods.blocks import relative_depths
from cpt.methods.ema import Average
from cpt.methods.plugin import Plugin
from cpt.methods.setting import ArmView, Part, Proportion, Weight

if TYPE_CHECKING:
    import torch

    Weights = Mapping[str, torch.Tensor]
    Merged = Iterator[tuple[str, torch.Tensor]]

Reference = Literal["stage_start", "base"]
_STRAIGHT = 1e-4  # sine of an angle below which two directions are one line


@dataclass(frozen=True)
class StageWeights:
    """What can be merged at the end of a stage.

    Attributes:
        start, end: θ⁰ and θ¹.
        base: reads θ^base; None in a stage that starts from it.
        others: reads the ends of the stage's earlier trainings, where it makes several.
    """

    start: Weights
    end: Weights
    base: Callable[[], Weights] | None
    others: Callable[[], Sequence[Weights]]

    def reference(self, name: Reference) -> Weights:
        """The weights of that name."""
        return self.start if name == "stage_start" or self.base is None else self.base()


class MergeRule(Part):
    """What a recipe says of merging. `type` names it."""

    type: str

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """See `Part.clashes`."""
        if not arm.tuning.merged_between_stages:
            told = "the next stage goes on with the adapter, which is not merged"
            yield (), f"{told}; {arm.tuning.to_merge}, or use type: ema"

    def merged(self, stage: StageWeights) -> Merged:
        """The merged weights, by name; none for what a plug-in has already put in the policy's place."""
        return iter(())

    def plugin(self) -> Plugin | None:
        """What goes along with the stage's training, fresh for one stage."""
        return None


class LinearMerge(MergeRule):
    """θ = (1 − weight) · θ^ref + weight · θ¹ (WiSE-FT, arXiv 2109.01903).

    Weight 1 leaves the policy as it was trained, 0 undoes the stage (with the base model as reference, all stages).
    """

    type: Literal["linear"]
    weight: Proportion = 0.5
    reference: Reference = "stage_start"

    def merged(self, stage: StageWeights) -> Merged:
        """See the class."""
        return linear(stage.reference(self.reference), stage.end, self.weight)


class SlerpMerge(MergeRule):
    """SLERP of the task vectors θ⁰ − θ^base and θ¹ − θ^base, tensor by tensor: `slerp`.

    Task vectors, as in WARP (arXiv 2406.16768), not whole weights, whose angle is next to nothing after a stage. They
    need a common origin, which is the base model; so the first stage, which starts from it, interpolates linearly.
    """

    type: Literal["slerp"]
    weight: Proportion = 0.5

    def merged(self, stage: StageWeights) -> Merged:
        """See the class."""
        return slerp(stage.reference("base"), stage.start, stage.end, self.weight)


class LinesMerge(MergeRule):
    """θ = θ^ref + (alpha + beta · depth) · (θ¹ − θ^ref): deep blocks keep more of the stage (LiNeS, arXiv 2410.17146).

    depth is 0 in a stack's first block and 1 in its last, vision and text each by itself; what is in no block has 0:
    `cpt.methods.blocks.relative_depths`.
    """

    type: Literal["lines"]
    alpha: Weight = 0.5
    beta: Weight = 0.5
    reference: Reference = "stage_start"

    def merged(self, stage: StageWeights) -> Merged:
        """See the class."""
        return lines(stage.reference(self.reference), stage.end, self.alpha, self.beta)


class WarpMerge(MergeRule):
    """WARP (arXiv 2406.16768), second and third step: `runs` trainings from one start, merged, drawn back to it.

    θ = (1 − interpolation) · θ⁰ + interpolation · SLERP of the trainings' task vectors from θ⁰, tensor by tensor, all
    with equal weight: `warp`. The trainings differ in the order of the samples and in what is random
    (sampling, adapters); the first is the one that the stage would be without merging. The stage takes `runs` times the
    steps. The paper's first step, a moving anchor of the KL term, belongs to the loss and is no part of this.
    """

    type: Literal["warp"]
    runs: Annotated[int, Field(ge=2, le=100)] = 2
    interpolation: Proportion = 0.3

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """Also: all trainings imitate one set of targets."""
        yield from super().clashes(arm)
        data = getattr(arm.method, "data", None)
        if data is not None and data.type != "gold":
            yield (), "warp trains a stage several times, on one set of targets; set method.data: {type: gold}"

    def merged(self, stage: StageWeights) -> Merged:
        """See the class."""
        return warp(stage.start, [*stage.others(), stage.end], self.interpolation)


class EMA(MergeRule):
    """The moving average of the policy over the stage's optimizer steps takes its place: `cpt.methods.ema.Average`."""

    type: Literal["ema"]
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """It averages an adapter that goes on as it does any other."""
        yield from ()

    def plugin(self) -> Plugin:
        """The average takes the policy's place when it is finished."""
        return Average(self.decay)


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
