"""Samples as they are shown to somebody who checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cpt.common.stored_pictures import sizes_of
from cpt.rollout.encode import render_prompts
from cpt.run.reads import Row
from cpt.run.rows_fit import Fit
from cpt.tasks.data_task import DataTask
from cpt.types import Sample

SAMPLES = 3


@dataclass(frozen=True)
class Shown:
    """One sample.

    Attributes:
        prompt: as the model's chat template renders it; without a model, the turns as they are.
        tokens: of the prompt, its pictures' included; None without a model.
        unknown: tokens of prompt and target that the model's vocabulary does not have.
        target: what supervised fine-tuning imitates.
        gold: the accepted answers.
    """

    where: str
    sample: Sample
    sizes: tuple[tuple[int, int], ...]
    prompt: str
    tokens: int | None
    target: str
    gold: tuple[str, ...]
    unknown: int = 0


def shown_samples(task: DataTask, fit: Fit | None) -> list[Shown]:
    """Samples from all over the rows that are trained on, or else evaluated, whose pictures can be read."""
    split: Literal["train", "test"] = "train" if task.index.places("train") else "test"
    places = task.index.places(split)
    apart = max(1, len(places) // SAMPLES)
    found: list[Shown] = []
    for place in [places[i] for start in range(apart) for i in range(start, len(places), apart)]:
        if len(found) == SAMPLES:
            break
        try:
            sample = task.sample(split, place)
            sizes = sizes_of(sample.images)
        except ValueError:
            continue  # the audit names it
        chat = task.messages(sample, "direct")
        prompt = _turns(chat) if fit is None else render_prompts(fit.processor, [chat])[0]
        tokens = None if fit is None else fit.prompt_tokens(Row(sample.id, sizes, (), ()), chat)
        target = task.target(sample, "policy", "direct")
        unknown = 0 if fit is None else fit.unknown(prompt) + fit.unknown(target)
        found.append(Shown(sample.meta["where"], sample, sizes, prompt, tokens, target, sample.gold, unknown))
    return found


def _turns(chat: Sequence[dict[str, Any]]) -> str:
    lines = []
    for turn in chat:
        said = [block.get("text", "<picture>") for block in turn["content"]]
        lines.append(f"{turn['role']}: {' '.join(said)}")
    return "\n".join(lines)
