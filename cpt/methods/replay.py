"""Replay: samples of finished tasks, and of tasks that the recipe names, beside those of the stage's own.

What is replayed follows from the plan alone: the buffer is drawn by seed from the samples that the finished stages were
given, so every arm of a recipe replays the same samples, and a resumed stage needs no state to find them again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Annotated, Literal, Protocol

from pydantic import Field

from cpt.methods.plugin import Count, Factor, Strict, Weight
from cpt.methods.recap import Recap

Sampler = Literal["ratio", "uniform", "proportional"]
Selection = Literal["balanced", "reservoir"]


class Mixed(Strict):
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
    its prompt, paid by its own task's reward. `loss: supervised` is for reinforcement learning alone: the rollouts are
    the stage's own, and the loss has a supervised side term, `coefficient` times the mean negative log-likelihood of
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


class Buffer(Mixed):
    """Experience replay (arXiv 1902.10486, 1811.11682): every objective weighs what its samples make of it."""

    type: Literal["buffer"]


class RecapReplay(Mixed, Recap):
    """RECAP (arXiv 2510.21978): the objectives of all sources are reweighted while they are trained.

    An objective is a source and a component of its reward, for SFT a source alone. See `cpt.methods.recap`.
    """

    type: Literal["recap"]
    sampler: Sampler = "uniform"


class Static(Mixed):
    """Weights that stay: a factor for every source, or `source/component` of a reward; 1 where none is given.

    The mixture is chosen in advance, as in MoDoMoDo (arXiv 2505.24871).
    """

    type: Literal["static"]
    sampler: Sampler = "uniform"
    weights: Annotated[dict[str, Weight], Field(min_length=1)]

    def weight(self, objective: str) -> float:
        """Of a `source`, or of a `source/component`, which may have that of its whole source."""
        return self.weights.get(objective, self.weights.get(objective.partition("/")[0], 1.0))


AnyReplay = Buffer | RecapReplay | Static
Replay = Annotated[AnyReplay, Field(discriminator="type")]


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


class Source(Protocol):
    """What replay needs to know of a task."""

    @property
    def samples(self) -> int:
        """Its unique training samples."""
        ...

    @property
    def finished(self) -> bool:
        """Whether an earlier stage was about it."""
        ...


def replayed(replay: Mixed, sources: Sequence[Source], seed: int) -> list[Sequence[int]]:
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
