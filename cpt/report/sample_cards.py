"""Test samples with every arm's completions before and after; those that flipped from right to wrong first."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cpt.evaluate.transitions import flipped
from cpt.report.figure_style import arm_colours
from cpt.report.load import ArmRun, RunData
from cpt.report.summary import Summary
from cpt.tasks import get_task, read_samples
from cpt.tasks.sources.hub import without_network
from cpt.types import Record, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

SHOW_ALL_ARMS = 6  # with more, the page shows one setting per family and folds the others
PIXELS = 176  # side of a picture on the page


@dataclass(frozen=True)
class Cell:
    """One completion."""

    text: str
    strict: bool
    tolerant: bool
    extracted: str


@dataclass(frozen=True)
class ArmRow:
    """One arm's completions in the card's columns. `flipped`: right before, wrong at the end (strict)."""

    label: str
    colour: str
    chosen: bool
    cells: tuple[Cell | None, ...]
    flipped: bool


@dataclass(frozen=True)
class Card:
    """One test sample.

    Attributes:
        question: that of the task, or the whole prompt if this installation lacks the run's task.
        images: PNG data URIs.
        columns: titles of the cells of a row.
        flips: in how many of the chosen arms the answer flipped from right to wrong.
    """

    task: str
    sample_id: str
    question: str
    gold: str
    images: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[ArmRow, ...]
    flips: int


def sample_cards(summary: Summary, *, per_task: int = 3) -> list[Card]:
    """Cards of the first seed, most flips first; `per_task` of every task, even if nothing flipped."""
    run = summary.run
    chosen = _chosen_arms(summary)
    ranked: list[tuple[int, Card]] = []
    for task in (*run.tasks, *run.general):
        ids = next((arm.scores.sample_ids[task] for arm in run.arms if arm.scores.sample_ids[task]), ())
        if not ids:
            continue
        lost = {arm.name: _lost(run, arm, task) for arm in run.arms}
        flips = {name: sum(name in lost[arm.name] for arm in chosen) for name in ids}
        picked = sorted(ids, key=lambda name: (-flips[name], _natural(name)))[:per_task]
        samples = held_out_samples(task, len(ids))
        ranked += [(rank, _card(run, chosen, lost, task, name, samples.get(name))) for rank, name in enumerate(picked)]
    # With equal flips, the first card of every task comes before the second of any.
    return [card for _, card in sorted(ranked, key=lambda item: (-item[1].flips, item[0]))]


def _chosen_arms(summary: Summary) -> list[ArmRun]:
    """All arms if they are few; else those of the matched comparison, or the most accurate of each family."""
    arms = list(summary.run.arms)
    if len(arms) <= SHOW_ALL_ARMS:
        return arms
    names = {side.arm.name for pair in summary.pairs if pair.scoring == "strict" for side in (pair.first, pair.second)}
    for family in summary.run.families:
        own = [a for a in summary.arms if a.arm.family == family]
        if not any(a.arm.name in names for a in own):
            names.add(max(own, key=lambda a: a.numbers["strict"].metrics["MFT"].value or 0.0).arm.name)
    return [arm for arm in arms if arm.name in names]


def _stages(run: RunData, arm: ArmRun, task: str) -> tuple[int, int]:
    """Stages before and after: the task's own (0 for general tasks) and the arm's latest."""
    last = max(
        (index for (seed, index), stage in arm.stages.items() if stage.evaluated and seed == arm.seeds[0]), default=0
    )
    return (run.tasks.index(task) + 1 if task in run.tasks else 0), last


def _lost(run: RunData, arm: ArmRun, task: str) -> set[str]:
    """Samples of the first seed that were right before and are wrong after."""
    before, after = _stages(run, arm, task)
    return set(flipped(arm.scores, task, before, after, arm.seeds[0]))


def _card(
    run: RunData, chosen: Sequence[ArmRun], lost: Mapping[str, set[str]], task: str, name: str, sample: Sample | None
) -> Card:
    own_stage = run.tasks.index(task) + 1 if task in run.tasks else 0
    middle = 0 < own_stage < len(run.tasks)
    columns = ("base", f"after own stage {own_stage}", "at the end") if middle else ("base", "at the end")
    colours = arm_colours(run)
    rows, shown = [], None
    for arm in run.arms:
        seed = arm.seeds[0]
        last = _stages(run, arm, task)[1]
        # An arm that is not that far shows nothing, instead of an earlier stage twice.
        end = last if last > own_stage or last == own_stage == len(run.tasks) else None
        stages = (0, own_stage, end) if middle else (0, end)
        found = [None if stage is None else arm.records.get((seed, stage, name)) for stage in stages]
        shown = shown or next((record for record in found if record), None)
        cells = tuple(_cell(record) for record in found)
        rows.append(ArmRow(arm.label, colours[arm.name], arm in chosen, cells, name in lost[arm.name]))
    rows.sort(key=lambda row: not row.chosen)
    if sample and shown and not same_question(sample, shown):
        sample = None  # this installation's task has another sample under this id
    return Card(
        task=task,
        sample_id=name,
        question=sample.question if sample else shown.prompt if shown else "",
        gold=" / ".join(sample.gold if sample else shown.gold if shown else ()),
        images=_pictures(sample) if sample else (),
        columns=columns,
        rows=tuple(rows),
        flips=sum(row.flipped and row.chosen for row in rows),
    )


def _pictures(sample: Sample) -> tuple[str, ...]:
    try:
        return tuple(data_uri(image) for image in sample.images)
    except ValueError:
        return ()  # files that have changed since the run: the card is made without


def _cell(record: Record | None) -> Cell | None:
    if record is None:
        return None
    return Cell(record.completion, record.right, record.right_in_any_style, record.extracted)


def held_out_samples(task: str, n: int) -> Mapping[str, Sample]:
    """The task's test samples by id, made again; {} if the task, its files or some samples are missing."""
    try:
        made: Any = get_task(task)
        with without_network():  # a page is made of what is there
            return _held_out(made, n)
    except ValueError:
        return {}  # the page is made without pictures


@lru_cache(maxsize=32)
def _held_out(task: Any, n: int) -> Mapping[str, Sample]:
    return {sample.id: sample for sample in read_samples(task, "test", n)}


def same_question(sample: Sample, record: Record) -> bool:
    """Whether a record is of this sample: another version of a task may use its id for another question."""
    return sample.question in record.prompt and sample.gold == tuple(record.gold)


def data_uri(image: Image) -> str:
    """The picture as a PNG data URI; small ones enlarged by a whole factor without smoothing, large ones reduced."""
    side = max(image.size)
    if side <= PIXELS:
        factor = max(1, PIXELS // side)
        image = image.resize((image.width * factor, image.height * factor), resample=0)
    else:
        image = image.copy()
        image.thumbnail((2 * PIXELS, 2 * PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _natural(name: str) -> tuple[object, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in name.split("/")), name
