"""The samples of a stage, in the order every arm sees them, as rows that TRL's trainers read.

Order: one epoch as long as the stage, of seeded permutations one after another. Samplers then run through it from
front to back, which is what makes a resumed stage see the very rows an undisturbed one sees (TRL's RepeatSampler
reshuffles by an internal state that no checkpoint holds). The seed knows the run's seed and the stage's position,
not the arm: SFT and GRPO walk through the same samples in the same order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cpt.types import PromptStyle, Sample, TargetStyle, Task

if TYPE_CHECKING:
    from datasets import Dataset

    from cpt.plan import StagePlan

_UNSEEN = "\u241f no answer \u241f"


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


def stage_order(stage: StagePlan, unique: int, processes: int = 1) -> list[int]:
    """Positions of the samples a stage reads, as many as it needs: one per row of data, for GRPO one per prompt."""
    batches = math.ceil(stage.steps / stage.method.batch().steps)
    return presentation_order(unique, batches * stage.batch_samples * processes, stage.stream)


def sft_rows(task: Task, samples: Sequence[Sample], prompt: PromptStyle, style: TargetStyle) -> list[dict[str, Any]]:
    """Prompt, completion and images of every sample; the loss covers the completion alone."""
    return [
        {
            "prompt": checked_prompt(task, sample, prompt),
            "completion": [{"role": "assistant", "content": task.target(sample, style, prompt)}],
            "images": list(sample.images),
        }
        for sample in samples
    ]


def policy_rows(task: Task, samples: Sequence[Sample], prompt: PromptStyle) -> list[dict[str, Any]]:
    """Prompt and images of every sample, and the sample itself for the reward; nothing else reaches the policy."""
    return [
        {"prompt": checked_prompt(task, sample, prompt), "images": list(sample.images), "sample": sample}
        for sample in samples
    ]


def checked_prompt(task: Task, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
    """The sample's chat, after a check that it does not give the answer away.

    Two leaks are possible: the prompt is built with the gold answer (then it changes when the answer does), or the
    question's text holds a worked solution or a finished target (the released code of arXiv 2508.08275 does that for
    text-only tasks). That a question names the right option among others is no leak.

    Raises:
        ValueError: on a leak, or if image placeholders and pictures differ in number; the sample is named.
    """
    chat = task.messages(sample, prompt)
    blocks = [block for turn in chat for block in _blocks(turn)]
    text = " ".join(block.get("text", "") for block in blocks)
    blind = replace(sample, gold=(_UNSEEN,), reasoning=_UNSEEN)
    solutions = [sample.reasoning] + [task.target(sample, style, prompt) for style in ("policy", "think")]
    solutions = [solution for solution in solutions if len(solution.split()) > 1]
    if any(turn["role"] == "assistant" for turn in chat) or task.messages(blind, prompt) != chat:
        raise ValueError(f"the prompt of sample {sample.id} is made from its gold answer")
    if any(solution in text for solution in solutions):
        raise ValueError(f"the prompt of sample {sample.id} holds its solution")
    placeholders = sum(block["type"] == "image" for block in blocks)
    if placeholders != len(sample.images):
        raise ValueError(f"sample {sample.id} has {len(sample.images)} pictures and {placeholders} image placeholders")
    return chat


def _blocks(turn: dict[str, Any]) -> Iterable[dict[str, Any]]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


class RowLookup:
    """Turns positions into rows when a batch is read: pictures stay the same objects and are never encoded to disk."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = rows

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """Columns of the rows at `batch["row"]`."""
        chosen = [self.rows[position] for position in batch["row"]]
        return {column: [row[column] for row in chosen] for column in chosen[0]}

    def __reduce__(self) -> tuple[Any, ...]:
        # datasets pickles a transform only to hash it; the rows (every picture of the stage) need not be in there.
        return (RowLookup, ((),))


def as_dataset(rows: Sequence[dict[str, Any]], order: Sequence[int]) -> Dataset:
    """A map-style dataset of `len(order)` rows for a trainer that reads it in this process."""
    from datasets import Dataset

    return Dataset.from_dict({"row": list(order)}).with_transform(RowLookup(rows))


def check_groups(ids: Sequence[str], size: int) -> None:
    """Asserts that each `size` rows, an advantage group, are one sample's: pooled prompts would bias the baseline."""
    assert len(ids) % size == 0, f"{len(ids)} completions are no whole groups of {size}"
    for start in range(0, len(ids), size):
        group = set(ids[start : start + size])
        assert len(group) == 1, f"an advantage group mixes the prompts {sorted(group)}"
