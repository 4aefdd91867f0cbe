"""The samples of a stage, in the order every arm sees them, as rows that TRL's trainers read.

Order: one epoch as long as the stage, of seeded permutations one after another. Samplers then run through it from
front to back, which is what makes a resumed stage see the very rows an undisturbed one sees (TRL's RepeatSampler
reshuffles by an internal state that no checkpoint holds). The seed knows the run's seed and the stage's position,
not the arm: SFT and GRPO walk through the same samples in the same order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from cpt.methods.replay import mixture, replayed
from cpt.tasks import get_task
from cpt.tasks.chat import checked_prompt
from cpt.tasks.registry import data_fingerprint
from cpt.types import PromptStyle, Sample, TargetStyle

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan


def presentation_order(unique: int, length: int, seed: str) -> list[int]:
    """`length` positions out of `unique` samples: permutations one after another, the last one cut off.

    Raises:
        ValueError: if there are no samples.
    """
    if unique < 1:
        raise ValueError("a stage needs at least one training sample")
    order: list[int] = []
    for epoch in range(math.ceil(length / unique)):
        positions = list(range(unique))
        random.Random(f"{seed}/{epoch}").shuffle(positions)
        order += positions
    return order[:length]


@dataclass(frozen=True)
class StageData:
    """What a stage trains on.

    Attributes:
        samples: every sample that it may read, its own ones first.
        order: positions in `samples`, row by row: for GRPO one per prompt.
    """

    samples: list[Sample]
    order: list[int]


def own_samples(stage: StagePlan) -> list[Sample]:
    """The stage's own training samples; of a joint stage those of all tasks."""
    if stage.schedule == "joint":
        return [sample for source in stage.sources for sample in training_samples(source.task, source.samples, stage)]
    return training_samples(stage.task, stage.data_samples, stage)


def training_samples(task: str, samples: int, stage: StagePlan) -> list[Sample]:
    """The first training samples of a task, as any stage with the seed of this one has them."""
    return get_task(task).samples("train", samples, stage.seed)


def check_data(stage: StagePlan) -> None:
    """ValueError if a task's training samples are no longer those that the stage was planned on."""
    for task, samples in stage.reads.items():
        planned = stage.data.get(task)
        if planned is not None and data_fingerprint(task, "train", samples, stage.seed) != planned:
            raise ValueError(
                f"{stage.label}: the training samples of {task} changed while the run was under way; put back what "
                "there was, and run the same command again"
            )


def replayed_samples(stage: StagePlan) -> list[list[Sample]]:
    """The samples of each source of a stage with replay."""
    assert stage.replay is not None
    found = []
    for source, numbers in zip(stage.sources, replayed(stage.replay, stage.sources, stage.seed), strict=True):
        samples = training_samples(source.task, source.samples, stage)
        found.append([samples[number] for number in numbers])
    return found


def stage_data(stage: StagePlan, own: Sequence[Sample], processes: int = 1) -> StageData:
    """The samples of a stage and the order in which it reads them, as many as it needs.

    Args:
        own: its own samples that it trains on.
        processes: that train; a batch is as many times as large.
    """
    batches = math.ceil(stage.steps / stage.method.batch().steps)
    batch = stage.batch_samples * processes
    seed = stage.stream
    sources = [] if stage.replay is None or stage.replay.loss == "supervised" else replayed_samples(stage)
    if stage.replay is None or not any(sources):
        return StageData(list(own), presentation_order(len(own), batches * batch, seed))
    samples, numbers = list(own), []
    for source in sources:
        numbers.append(range(len(samples), len(samples) + len(source)))
        samples += source

    def shuffled(among: Sequence[int], length: int, name: str) -> list[int]:
        order = presentation_order(len(among), length, f"{seed}/{name}" if name else seed)
        return [among[position] for position in order]

    return StageData(
        samples, mixture(stage.replay, range(len(own)), numbers, batches * batch, batch=batch, shuffled=shuffled)
    )


def sft_rows(samples: Sequence[Sample], prompt: PromptStyle, style: TargetStyle) -> list[dict[str, Any]]:
    """Prompt, completion and images of every sample, and its task; the loss covers the completion alone."""
    rows = []
    for sample in samples:
        task = get_task(sample.task)
        completion = [{"role": "assistant", "content": task.target(sample, style, prompt)}]
        row = {"prompt": checked_prompt(task, sample, prompt), "completion": completion, "images": sample.images}
        rows.append(row | {"task": sample.task})
    return rows


def policy_rows(samples: Sequence[Sample], prompt: PromptStyle) -> list[dict[str, Any]]:
    """Prompt and images of every sample, and the sample itself for the reward; nothing else reaches the policy."""
    return [
        {
            "prompt": checked_prompt(get_task(sample.task), sample, prompt),
            "images": sample.images,
            "sample": sample,
        }
        for sample in samples
    ]


class RowLookup:
    """Turns positions into rows when a batch is read: then stored pictures are, and never encoded to disk again."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = rows

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """Columns of the rows at `batch["row"]`."""
        chosen = [{**self.rows[position]} for position in batch["row"]]
        for row in chosen:
            if "images" in row:
                row["images"] = list(row["images"])
        return {column: [row[column] for row in chosen] for column in chosen[0]}

    def __reduce__(self) -> tuple[Any, ...]:
        # datasets pickles a transform only to hash it; the rows (every picture of the stage) need not be in there.
        return (RowLookup, ((),))


def as_dataset(rows: Sequence[dict[str, Any]], order: Sequence[int]) -> Dataset:
    """A map-style dataset of `len(order)` rows for a trainer that reads it in this process."""
    return Dataset.from_dict({"row": list(order)}).with_transform(RowLookup(rows))


def check_groups(ids: Sequence[str], size: int) -> None:
    """Asserts that each `size` rows, an advantage group, are one sample's: pooled prompts would bias the baseline."""
    assert len(ids) % size == 0, f"{len(ids)} completions are no whole groups of {size}"
    for start in range(0, len(ids), size):
        group = set(ids[start : start + size])
        assert len(group) == 1, f"an advantage group mixes the prompts {sorted(group)}"
