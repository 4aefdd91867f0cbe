"""Whose answers SFT imitates: gold ones, the policy's own, or those that reinforcement learning has sampled.

Controls for what makes reinforcement learning forget little. If it is that the data come from the policy itself (arXiv
2510.18874), SFT on answers that the present policy samples anew in every epoch forgets as little, and SFT on answers
that it sampled once forgets more; if it is what the rollouts contain (arXiv 2506.23508), SFT on the rollouts of a
reinforcement-learning run forgets little as well.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Annotated, Literal

from pydantic import Field

from cpt.common.keys import Problem, nearest
from cpt.common.strict import Strict
from cpt.methods.merge import WarpMerge
from cpt.methods.setting import ArmView, Count, Rows

Keep = Literal["right", "all"]


class Gold(Strict):
    """The samples' own answers, written in `target_style`."""

    type: Literal["gold"]


class Sampled(Strict):
    """One sampled completion for each prompt, chosen by seed.

    `keep: right` chooses among those that strict scoring counts right, `all` among all. Either way a completion that
    was cut off at the limit is not imitated: it has no end. `fallback` says what becomes of a prompt without any:
    `drop` leaves it out and repeats the others in their order, so that the steps stay as planned; `gold` imitates the
    gold answer in the format that the prompt asks for.
    """

    keep: Keep = "right"
    fallback: Literal["drop", "gold"] = "drop"


class SelfSampled(Sampled):
    """What the policy itself answers to the stage's training prompts, `rollouts` times each.

    `refresh: stage` samples once, from the policy that the stage starts from (one-shot self-SFT). `epoch` samples
    anew for every epoch, from the policy as it is before the optimizer step that reads the epoch's first sample.
    """

    type: Literal["self"]
    rollouts: Rows = 8
    temperature: Annotated[float, Field(ge=0.01, le=2)] = 1.0
    refresh: Literal["stage", "epoch"] = "stage"
    max_completion_length: Count | None = None  # null: the prompt style's


class SavedRollouts(Sampled):
    """What a policy-gradient arm of the recipe sampled while it trained on the same stage with the same seed.

    `arm` is its name; a point of a sweep is named in full, as `cpt plan` prints it.
    """

    type: Literal["rollouts"]
    arm: str


AnyTargets = Gold | SelfSampled | SavedRollouts
Targets = Annotated[AnyTargets, Field(discriminator="type")]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion that may be imitated.

    Attributes:
        right: by strict scoring.
        whole: it ended by itself.
    """

    text: str
    right: bool
    whole: bool


def choose(candidates: Sequence[Candidate], keep: Keep, seed: str) -> int | None:
    """Which one is imitated; None if none may be."""
    allowed = [i for i, one in enumerate(candidates) if one.whole and (one.right or keep == "all")]
    return random.Random(seed).choice(allowed) if allowed else None


def cycled(order: Sequence[int], kept: Collection[int]) -> list[int]:
    """`order` without what is not `kept`, repeated from its start up to its old length; empty if nothing is left."""
    return list(islice(cycle([position for position in order if position in kept]), len(order)))


def check_targets(arms: Sequence[ArmView]) -> Iterator[Problem]:
    """Problems of all arms, which are in the order they run."""
    for number, arm in enumerate(arms):
        data = getattr(arm.method, "data", None)
        if data is None or data.type == "gold":
            continue
        if arm.replay is not None:
            yield (
                ("arms", arm.family, "replay"),
                f"replayed samples have gold answers alone; leave it out, or method.data, which is {data.type}",
            )
        if isinstance(data, SavedRollouts) and (reason := _refused(arm, data.arm, arms[:number], arms[number:])):
            yield ("arms", arm.family, "method", "data", "arm"), reason


def _refused(arm: ArmView, name: str, before: Sequence[ArmView], after: Sequence[ArmView]) -> str | None:
    """Why the arm can't imitate the rollouts of the arm `name`; None if it can."""
    there = {one.name: one for one in (*before, *after)}
    source = there.get(name)
    if source is None:
        points = [one.name for one in there.values() if one.family == name]
        if points:
            return f"{name!r} is a sweep; name one of its points, such as {points[0]!r}"
        return f"there is no arm {name!r}{nearest(name, [one.name for one in before if one.method.needs_rollouts])}"
    if not source.method.needs_rollouts:
        return f"{name!r} trains by {source.method.type}, which samples nothing to imitate; name a policy-gradient arm"
    if source not in before:
        return f"{name!r} runs after this arm; move it above"
    if isinstance(source.merge, WarpMerge):
        return f"{name!r} trains a stage several times (merge: warp) and keeps the rollouts of the last; name another"
    if source.prompt != arm.prompt:
        return f"{name!r} was asked with prompt: {source.prompt}, this arm with {arm.prompt}; give both the same"
    if source.schedule != arm.schedule:
        return f"{name!r} has schedule: {source.schedule}, this arm {arm.schedule}; give both the same"
    return None
