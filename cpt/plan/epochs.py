"""How far the training of each arm gets through its data: epochs over the samples, and how many different ones it sees.

Every arm reads a stage's samples in one order (`cpt.train.data`), but some read further than others: a batch of SFT
holds as many samples as rows, one of GRPO as many prompts as groups.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cpt.methods.replay import own_share, replayed
from cpt.plan.stages import StagePlan

_ALIKE = Fraction(105, 100)  # what one arm may read more than another before it is worth a note


@dataclass(frozen=True)
class Epochs:
    """What one stage reads of its own samples; replayed ones are not counted.

    Attributes:
        drawn: samples (for GRPO: prompts) that training reads, repeats counted.
        unique: samples that it has.
        before_epochs, before_prompts: `at least `, `at most ` or `about ` where only the run can tell the number.
    """

    drawn: int
    unique: int
    before_epochs: str = ""
    before_prompts: str = ""

    @property
    def epochs(self) -> Fraction:
        """How often it goes over its samples."""
        return Fraction(self.drawn, self.unique)

    @property
    def prompts(self) -> int:
        """Different samples among those drawn."""
        return min(self.drawn, self.unique)


def epochs_of(stage: StagePlan) -> Epochs:
    """Of one planned stage, as if no sample were left out."""
    trainings = stage.trainings
    rows = sum(math.ceil(one.steps / stage.method.batch().steps) for one in trainings) * stage.batch_samples
    shuffled_in = False
    if stage.replay is not None:
        numbers = replayed(stage.replay, stage.sources, stage.seed)
        share = own_share(stage.replay, stage.data_samples, list(map(len, numbers)))
        unit = stage.batch_samples if stage.replay.sampler == "uniform" else 1  # whole batches, the first its own
        rows = math.ceil(rows // unit * share) * unit
        shuffled_in = stage.replay.sampler == "proportional" and any(numbers)
    if stage.may_leave_out:
        return Epochs(rows, stage.data_samples, "at least ", "at most ")
    if shuffled_in:
        return Epochs(rows, stage.data_samples, "about ", "about ")
    # Where there are several trainings, each reads the samples in an order of its own.
    overlap = len(trainings) > 1 and rows // len(trainings) < stage.data_samples
    return Epochs(rows, stage.data_samples, "", "at most " if overlap else "")


def epoch_lines(arms: Mapping[str, Sequence[StagePlan]]) -> list[str]:
    """One line for all arms that see the same, and a note where they do not all."""
    planned, seen = _named(arms)
    found: dict[str, list[str]] = {}
    for name, own in seen.items():
        found.setdefault(_said(own), []).append(name)
    lines = [f"epochs      {text}: {', '.join(names)}" for text, names in found.items()]
    return lines + [f"note        {note}" for note in _notes(planned, seen)]


def data_notes(arms: Mapping[str, Sequence[StagePlan]]) -> list[str]:
    """What a comparison of these arms would mix up with their methods, if they don't see the same amount of data."""
    return _notes(*_named(arms))


def _notes(planned: Mapping[str, Sequence[StagePlan]], seen: Mapping[str, Sequence[Epochs]]) -> list[str]:
    told = unequal({arm: [one.epochs for one in stages] for arm, stages in seen.items()})
    if not told:
        return []
    alone = {arm: [one.epochs for one in seen[arm]] for arm, stages in planned.items() if stages[0].replay is None}
    why = "replayed samples take their share of a batch"
    if not alone or unequal(alone):
        why = "arms with equal steps × samples a batch see the same"
    return [f"{told}; {why}"]


def unequal(epochs_by_arm: Mapping[str, Sequence[Fraction]]) -> str:
    """That arms don't see the same amount of data, by the stage where they differ most; empty if they do.

    Args:
        epochs_by_arm: epochs of each stage on its own samples. The one stage of a joint arm is on the data of all.
    """
    length = max(map(len, epochs_by_arm.values()))
    rows = {arm: list(stages) * (length // len(stages)) for arm, stages in epochs_by_arm.items()}
    found = []
    for stage in range(length):
        least, most = (choose(rows, key=lambda arm: rows[arm][stage]) for choose in (min, max))
        found.append((rows[most][stage] / rows[least][stage], least, most))
    ratio, least, most = max(found, key=lambda one: one[0])
    if ratio <= _ALIKE:
        return ""
    times = f"{float(ratio):.3g} times"
    return f"the arms don't see the same amount of data: {most} goes over a stage's samples {times} as often as {least}"


def _named(
    arms: Mapping[str, Sequence[StagePlan]],
) -> tuple[dict[str, Sequence[StagePlan]], dict[str, list[Epochs]]]:
    """Stages and their epochs by name: the points of a sweep go by that of their family, unless they differ in this."""
    every = {arm: [epochs_of(stage) for stage in stages] for arm, stages in arms.items()}
    planned: dict[str, Sequence[StagePlan]] = {}
    seen: dict[str, list[Epochs]] = {}
    for arm, stages in arms.items():
        points = [every[other] for other in arms if arms[other][0].family == stages[0].family]
        name = stages[0].family if all(point == every[arm] for point in points) else arm
        planned[name], seen[name] = stages, every[arm]
    return planned, seen


def _said(stages: Sequence[Epochs]) -> str:
    often = [f"{one.before_epochs}{float(one.epochs):.3g}" for one in stages]
    many = [f"{one.before_prompts}{one.prompts}" for one in stages]
    where = "in the one stage" if len(stages) == 1 else "in each stage"
    if len({*zip(often, many, strict=True)}) == 1:
        often, many = often[:1], many[:1]
    else:
        where = "by stage"
    return f"{' + '.join(often)} {where}, over {' + '.join(many)} different prompts"
