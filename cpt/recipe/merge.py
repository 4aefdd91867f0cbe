"""What becomes of a stage's policy before the next stage starts from it: the types that `merge:` can name.

θ⁰ is where the stage started, θ¹ where its training ended, θ^base the base model. The arithmetic is in
`cpt.methods.merge`, on the plain weights, adapters added to them; `ema` alone goes along with the training
(`cpt.methods.ema`). Regularisers see the merged policy as the stage's end, but under LoRA the adapters as trained.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cpt.methods import plugin
from cpt.methods.plugin import Strict

Weight = Annotated[float, Field(ge=0, le=1)]
Reference = Literal["stage_start", "base"]


class LinearMerge(Strict):
    """θ = (1 − weight) · θ^ref + weight · θ¹ (WiSE-FT, arXiv 2109.01903).

    Weight 1 leaves the policy as it was trained, 0 undoes the stage (with the base model as reference, all stages).
    """

    type: Literal["linear"]
    weight: Weight = 0.5
    reference: Reference = "stage_start"


class SlerpMerge(Strict):
    """SLERP of the task vectors θ⁰ − θ^base and θ¹ − θ^base, tensor by tensor: `cpt.methods.merge.slerp`.

    Task vectors, as in WARP (arXiv 2406.16768), not whole weights, whose angle is next to nothing after a stage. They
    need a common origin, which is the base model; so the first stage, which starts from it, interpolates linearly.
    """

    type: Literal["slerp"]
    weight: Weight = 0.5


class LinesMerge(Strict):
    """θ = θ^ref + (alpha + beta · depth) · (θ¹ − θ^ref): deep blocks keep more of the stage (LiNeS, arXiv 2410.17146).

    depth is 0 in a stack's first block and 1 in its last, vision and text each by itself; what is in no block has 0:
    `cpt.methods.blocks.relative_depths`.
    """

    type: Literal["lines"]
    alpha: plugin.Weight = 0.5
    beta: plugin.Weight = 0.5
    reference: Reference = "stage_start"


class WarpMerge(Strict):
    """WARP (arXiv 2406.16768), second and third step: `runs` trainings from one start, merged, drawn back to it.

    θ = (1 − interpolation) · θ⁰ + interpolation · SLERP of the trainings' task vectors from θ⁰, tensor by tensor, all
    with equal weight: `cpt.methods.merge.warp`. The trainings differ in the order of the samples and in what is random
    (sampling, adapters); the first is the one that the stage would be without merging. The stage takes `runs` times the
    steps. The paper's first step, a moving anchor of the KL term, belongs to the loss and is no part of this.
    """

    type: Literal["warp"]
    runs: Annotated[int, Field(ge=2, le=100)] = 2
    interpolation: Weight = 0.3


class EMA(Strict):
    """The moving average of the policy over the stage's optimizer steps takes its place: `cpt.methods.ema.Average`."""

    type: Literal["ema"]
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99


AnyMerge = LinearMerge | SlerpMerge | LinesMerge | WarpMerge | EMA
Merge = Annotated[AnyMerge, Field(discriminator="type")]
