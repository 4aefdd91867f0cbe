"""Replay: samples of finished tasks, and of tasks that the recipe names, beside those of the stage's own.

What is replayed follows from the plan alone: the buffer is drawn by seed from the samples that the finished stages were
given, so every arm of a recipe replays the same samples, and a resumed stage needs no state to find them again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Annotated, Literal, Protocol

from pydantic import Field

from cpt.common.keys import Problem, nearest
from cpt.methods.setting import ArmView, Count, Factor, Part, Weight
from cpt.methods.sft import SFT

Sampler = Literal["ratio", "uniform", "proportional"]
Selection = Literal["balanced", "reservoir"]


class Mixed(Part):
    """Where replayed samples come from, and how they meet the stage's own.

    `finished`: from the tasks of the stages before, `budget` samples of all of them together (null: all), chosen by
    `selection`: `balanced`, as many of each task; `reservoir`, every sample that was ever trained on with the same
    probability (Vitter's algorithm R, also in arXiv 1902.10486), which keeps more of the tasks that had more samples.
    `tasks`: from these in every stage, `samples` of each. General tasks named here are trained on: what is said of
    their retention is then no longer about skills that were left alone.

    `sampler: ratio` makes the share `ratio` of every batch replayed samples. `uniform` is round-robin over the sources,
    each batch from one of them; `proportional` shuffles everything together, so that a source's share is its size (both
    arXiv 2510.21978). A batch stays as large as without replay. `max_steps` counts all steps; an epoch counts the
    stage's own samples, so that replay makes it longer.

    `loss: own` trains on a replayed sample as on any other: SFT on its target, reinforcement learning on rollouts from
    its prompt, by its own task's reward. `loss: supervised` is for reinforcement learning alone: the rollouts are the
    stage's own, and the loss has a supervised side term, `coefficient` times the mean negative log-likelihood of
    replayed targets, as many in an optimizer step as `ratio` says of its prompts.
    """

    finished: bool = True
    budget: Count | None = 256
    selection: Selection = "balanced"
    tasks: Annotated[list[str], Field(max_length=1000)] = Field(default_factory=list)
    samples: Count = 256
    sampler: Sampler = "ratio"
    ratio: Annotated[float, Field(gt=0, lt=1)] | None = None
    loss: Literal["own", "supervised"] = "own"
    coefficient: Factor = 1.0

    @property
    def share(self) -> float:
        """Share of replayed samples in a batch under `sampler: ratio`."""
        return 0.25 if self.ratio is None else self.ratio

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """See `Part.clashes`."""
        if arm.schedule != "sequential":
            yield (), f"a {arm.schedule} arm has no finished tasks; remove it, or set schedule: sequential"
            return
        stages = [name for name, _ in arm.tasks]
        for i, name in enumerate(self.tasks):
            if name not in arm.known_tasks():
                yield ("tasks", i), f"unknown task {name!r}{nearest(name, arm.known_tasks())}"
            elif name in self.tasks[:i]:
                yield ("tasks", i), f"{name!r} stands here twice"
            elif name in stages:
                yield ("tasks", i), f"{name!r} is a stage; `finished: true` replays it once its stage is over"
        if not self.tasks and not (self.finished and len(stages) > 1):
            yield from self.without_samples(arm)
        yield from self._loss_problems(arm)

    def without_samples(self, arm: ArmView) -> Iterator[Problem]:
        """What is wrong with an arm in which no stage replays anything."""
        yield (), "replays nothing; name `tasks:`, or set finished: true with two stages or more"

    def _loss_problems(self, arm: ArmView) -> Iterator[Problem]:
        supervised = self.loss == "supervised"
        if supervised and not arm.method.needs_rollouts:
            yield ("loss",), "SFT supervises replayed samples anyway; leave it out"
        if not supervised and self.coefficient != 1.0:
            yield ("coefficient",), "is the factor of the supervised side loss; set loss: supervised"
        if self.ratio is not None and self.sampler != "ratio" and not supervised:
            yield ("ratio",), f"sampler: {self.sampler} mixes by its own rule; remove it, or set sampler: ratio"
        samples = arm.method.batch().samples
        if samples and (self.sampler == "ratio" or supervised) and samples * self.share < 1:
            yield (
                ("ratio",),
                f"{self.share:g} of a batch of {samples} samples is less than one; set {1 / samples:.3g} or more",
            )


class Buffer(Mixed):
    """Experience replay (arXiv 1902.10486, 1811.11682): every objective weighs what its samples make of it."""

    type: Literal["buffer"]


class Weighed(Mixed):
    """Replay under which the objectives of all sources have weights, which stand in place of the reward's own.

    An objective is a source and a component of its reward, for SFT a source alone.
    """

    type: str
    sampler: Sampler = "uniform"

    def clashes(self, arm: ArmView) -> Iterator[Problem]:
        """See `Part.clashes`."""
        if arm.schedule == "sequential" and arm.method.type == "sdft":
            yield ("type",), f"{self.type} weighs rewards, and SDFT's loss has none; set type: buffer"
            return
        yield from super().clashes(arm)
        if arm.schedule == "sequential":
            yield from self.weight_clashes(arm)

    def weight_clashes(self, arm: ArmView) -> Iterator[Problem]:
        """Of the weights, in an arm that replays: what would be rewarded although the reward has it cost something."""
        if isinstance(arm.method, SFT) and arm.method.loss_type != "nll":
            yield (), "weights act on the negative log-likelihood; set method.loss_type: nll"
        if not arm.method.needs_rollouts:
            return
        found = [one for name, _ in arm.tasks for one in arm.components(name).items()]
        against = {label: weight for label, weight in found if weight is not None and weight <= 0}
        for label, weight in against.items():
            yield (
                (),
                f"its weights stand in place of the reward's own, so {label} would be rewarded instead of having "
                f"weight {weight:g}; leave that component out, or use type: buffer",
            )


class Static(Weighed):
    """Weights that stay: a factor for every source, or `source/component` of a reward; 1 where none is given.

    The mixture is chosen in advance, as in MoDoMoDo (arXiv 2505.24871).
    """

    type: Literal["static"]
    weights: Annotated[dict[str, Weight], Field(min_length=1)]

    def weight(self, objective: str) -> float:
        """Of a `source`, or of a `source/component`, which may have that of its whole source."""
        return self.weights.get(objective, self.weights.get(objective.partition("/")[0], 1.0))

    def without_samples(self, arm: ArmView) -> Iterator[Problem]:
        """It weighs the components of the stages' own rewards."""
        yield from ()

    def weight_clashes(self, arm: ArmView) -> Iterator[Problem]:
        """Also: weights that belong to nothing, and would be left unused in silence."""
        yield from super().weight_clashes(arm)
        sources = [*(name for name, _ in arm.tasks), *self.tasks]
        for name in self.weights:
            source, _, part = name.partition("/")
            if source not in sources:
                yield ("weights", name), f"is no source of this arm{nearest(name, sources)}"
            elif part and not arm.method.needs_rollouts:
                yield ("weights", name), f"SFT has no components of a reward; write {source}"
            elif part and part not in (parts := list(arm.components(source))):
                yield ("weights", name), f"is no component of {source}'s reward{nearest(part, parts)}"
        objectives = sources
        if arm.method.needs_rollouts:
            objectives = [f"{source}/{part}" for source in sources for part in arm.components(source)]
        if objectives and not any(self.weight(name) for name in objectives):
            yield ("weights",), "are 0 for everything, so that nothing would be learned; raise one"


def buffer(sizes: Sequence[int], budget: int | None, selection: Selection, seed: str) -> list[list[int]]:
    """Which samples of the finished tasks are kept: positions for each task, ascending.

    The buffer after more tasks is what a real one would be: it only ever loses samples of a task that is finished.

    Args:
        sizes: training samples of every finished task, oldest first.
        budget: of all tasks together; None keeps everything.
        seed: of the draw.
    """
    if budget is None or budget >= sum(sizes):
        return [list(range(size)) for size in sizes]
    if selection == "reservoir":
        return _reservoir(sizes, budget, seed)
    shares = _balanced_shares(sizes, budget)
    return [
        sorted(random.Random(f"{seed}/{number}").sample(range(size), size)[:share])
        for number, (size, share) in enumerate(zip(sizes, shares, strict=True))
    ]


class Replayable(Protocol):
    """A source of samples, as far as replay has to know it."""

    @property
    def samples(self) -> int:
        """Its unique training samples."""
        ...

    @property
    def finished(self) -> bool:
        """Whether an earlier stage was about it."""
        ...


def replayed(replay: Mixed, sources: Sequence[Replayable], seed: int) -> list[Sequence[int]]:
    """Numbers of the samples that are replayed of each source: of finished tasks those that the buffer keeps.

    Args:
        seed: the run's.
    """
    finished = [source.samples for source in sources if source.finished]
    kept = iter(buffer(finished, replay.budget, replay.selection, f"{seed}/buffer"))
    return [next(kept) if source.finished else range(source.samples) for source in sources]


def _balanced_shares(sizes: Sequence[int], budget: int) -> list[int]:
    """`budget` in parts as equal as sizes allow; what doesn't divide goes to the older tasks."""
    shares = [0] * len(sizes)
    left = budget
    for rank, number in enumerate(sorted(range(len(sizes)), key=lambda i: (sizes[i], -i))):
        waiting = len(sizes) - rank
        shares[number] = min(sizes[number], left // waiting)
        left -= shares[number]
    return shares


def _reservoir(sizes: Sequence[int], budget: int, seed: str) -> list[list[int]]:
    rng = random.Random(seed)
    kept: list[tuple[int, int]] = []
    for count, sample in enumerate((task, position) for task, size in enumerate(sizes) for position in range(size)):
        place = count if count < budget else rng.randrange(count + 1)
        if place < budget:
            kept[place : place + 1] = [sample]
    return [sorted(position for task, position in kept if task == number) for number in range(len(sizes))]


def own_share(replay: Mixed, own: int, others: Sequence[int]) -> Fraction:
    """Share of the stage's own samples among all rows that it trains on.

    Args:
        own: the stage's samples.
        others: samples of every replayed source.
    """
    if not others or replay.loss == "supervised":
        return Fraction(1)
    if replay.sampler == "ratio":
        return 1 - Fraction(str(replay.share))
    if replay.sampler == "uniform":
        return Fraction(1, 1 + len(others))
    return Fraction(own, own + sum(others))


def mixture(
    replay: Mixed,
    own: Sequence[int],
    sources: Sequence[Sequence[int]],
    length: int,
    *,
    batch: int,
    shuffled: Callable[[Sequence[int], int, str], list[int]],
) -> list[int]:
    """What a stage reads, row by row: `length` samples, by number.

    The stage's own samples come in the order in which every arm reads them, whatever is mixed in.

    Under `ratio` row i is a replayed one if ⌊(i + 1) · share⌋ > ⌊i · share⌋: any run of rows has that share of them.

    Args:
        own: numbers of the stage's own samples.
        sources: numbers of the samples of every other source.
        batch: rows of one batch, for `uniform`.
        shuffled: `shuffled(numbers, length, name)` repeats seeded permutations of `numbers` up to `length`; the stage's
            own stream has no name.
    """
    old = [number for source in sources for number in source]
    if not old:
        return shuffled(own, length, "")
    if replay.sampler == "proportional":
        return shuffled([*own, *old], length, "proportional")
    if replay.sampler == "uniform":
        streams = [iter(shuffled(own, length, ""))]
        streams += [iter(shuffled(source, length, f"source {i}")) for i, source in enumerate(sources)]
        return [next(streams[row // batch % len(streams)]) for row in range(length)]
    share = Fraction(str(replay.share))
    new, again = iter(shuffled(own, length, "")), iter(shuffled(old, length, "replay"))
    return [next(again if int((row + 1) * share) > int(row * share) else new) for row in range(length)]
