"""What is wrong with an SFT arm's `data:` that its type allows: other arms and settings that it does not go with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cpt.common.nearest import nearest
from cpt.methods.targets import SavedRollouts
from cpt.recipe.arm_spec import ArmSpec, Problem


def check_targets(arms: Sequence[ArmSpec]) -> Iterator[Problem]:
    """Problems of all arms, which are in the order they run."""
    for number, spec in enumerate(arms):
        data = getattr(spec.method, "data", None)
        if data is None or data.type == "gold":
            continue
        if spec.replay is not None:
            yield (
                ("arms", spec.family, "replay"),
                f"replayed samples have gold answers alone; leave it out, or method.data, which is {data.type}",
            )
        if isinstance(data, SavedRollouts) and (reason := _refused(spec, data.arm, arms[:number], arms[number:])):
            yield ("arms", spec.family, "method", "data", "arm"), reason


def _refused(spec: ArmSpec, name: str, before: Sequence[ArmSpec], after: Sequence[ArmSpec]) -> str | None:
    """Why the arm can't imitate the rollouts of the arm `name`; None if it can."""
    there = {arm.name: arm for arm in (*before, *after)}
    source = there.get(name)
    if source is None:
        points = [arm.name for arm in there.values() if arm.family == name]
        if points:
            return f"{name!r} is a sweep; name one of its points, such as {points[0]!r}"
        return f"there is no arm {name!r}{nearest(name, [arm.name for arm in before if arm.method.needs_rollouts])}"
    if not source.method.needs_rollouts:
        return f"{name!r} trains by {source.method.type}, which samples nothing to imitate; name a policy-gradient arm"
    if source not in before:
        return f"{name!r} runs after this arm; move it above"
    if source.merge is not None and source.merge.type == "warp":
        return f"{name!r} trains a stage several times (merge: warp) and keeps the rollouts of the last; name another"
    if source.prompt != spec.prompt:
        return f"{name!r} was asked with prompt: {source.prompt}, this arm with {spec.prompt}; give both the same"
    if source.schedule != spec.schedule:
        return f"{name!r} has schedule: {source.schedule}, this arm {spec.schedule}; give both the same"
    return None
