"""How the built-in model is made: base training from random weights, reproducible, on two CPU cores.

Three courses over the `base` split. First the world, every task answered rightly: short answers about scenes of 1, 2,
3, then up to 5 things (without this order the model never learns shapes), then all tasks with both prompts, stage tasks
under `think` by listing what is seen. More practice with places follows, again from few things to many, and then the
habits: general tasks stay right; on stage tasks easy instances stay right, and hard ones are answered rightly in
`CAREFUL` of the cases and by the task's habit in the others. So the base model can do every stage task, sometimes:
greedy decoding follows the habit, sampling finds the answer, as in a real policy before post-training. A model that
only guesses, or one that is certain of its errors, leaves GRPO nothing to learn from.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cpt.tasks.world import tiny
from cpt.tasks.world.base import BuiltinTask
from cpt.tasks.world.format import FORMAT
from cpt.tasks.world.tasks import TASKS
from cpt.types import PromptStyle, Sample

if TYPE_CHECKING:
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

BATCH = 64
CAREFUL = {"direct": 0.35, "think": 0.3}
EASY_CAREFUL = 0.7  # under `think`, how often an easy instance is reasoned out; otherwise the guess is right

# Shares of the tasks in a batch. First what can be seen, shapes above all: colours are learned on the way.
FIRST = {"shape": 3.0, "exists": 2.0, "colour": 1.0, "which-row": 1.0, "which-column": 1.0, "read-digit": 1.0}
PERCEPTION = {
    "exists": 2.0, "colour": 1.5, "shape": 1.5, "which-row": 1.5, "which-column": 1.5, "count-colour": 0.7,
    "name-one": 0.3, "relation": 1.0, "choice": 1.0, "size": 0.7, "read-digit": 1.0, "read-strip": 1.0,
    "arithmetic": 1.0,
}  # fmt: skip
EVERYTHING = {
    "exists": 2.0, "colour": 1.5, "shape": 1.5, "read-digit": 1.5, "arithmetic": 2.0,
    "count-colour": 1.0, "which-row": 1.2, "which-column": 1.2, "relation": 1.5, "choice": 1.5, "size": 1.0,
    "answerable": 0.8, "name-one": 0.5, "read-strip": 1.2, "larger-digit": 0.8, "sum-digits": 1.2, "parity": 0.5,
}  # fmt: skip
# What takes longest to learn: where things are, and where they are to each other.
PLACES = EVERYTHING | {"relation": 6.0, "which-column": 3.0, "which-row": 2.0, "count-colour": 1.5}
PAIRS = EVERYTHING | {"relation": 14.0, "which-column": 4.0, "which-row": 2.0}

# Habits are a matter of stage tasks; general tasks are kept up meanwhile.
HABITUAL = dict.fromkeys(EVERYTHING, 1.5) | {
    "exists": 1.0, "colour": 1.0, "shape": 1.0, "read-digit": 1.0, "arithmetic": 6.0,
}  # fmt: skip


@dataclass(frozen=True)
class Lesson:
    """Some steps of base training: things in a scene at most, prompts, tasks, right or habitual answers."""

    steps: int
    crowd: int
    prompts: tuple[PromptStyle, ...]
    shares: Mapping[str, float]
    habits: bool = False


WORLD = (
    Lesson(250, 1, ("direct",), FIRST),
    Lesson(150, 2, ("direct",), PERCEPTION),
    Lesson(200, 3, ("direct",), PERCEPTION),
    Lesson(600, 5, ("direct",), PERCEPTION),
    Lesson(1500, 5, ("direct", "think"), EVERYTHING),
)
PRACTICE = (
    Lesson(300, 2, ("direct",), PAIRS),
    Lesson(200, 3, ("direct",), PAIRS),
    Lesson(300, 5, ("direct", "think"), PLACES),
)
HABITS = (Lesson(450, 5, ("direct", "think"), HABITUAL, habits=True),)
POLISH = (Lesson(300, 5, ("direct", "think"), HABITUAL | {"arithmetic": 25.0}, habits=True),)
FINAL = HABITUAL | {"colour": 8.0, "choice": 5.0, "arithmetic": 3.0}
FINISH = (Lesson(250, 5, ("direct", "think"), FINAL, habits=True),)
WORLD_RATE, PRACTICE_RATE, HABIT_RATE, POLISH_RATE, FINISH_RATE = 1.6e-3, 1.0e-3, 6e-4, 5e-4, 4e-4


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the completion that it is trained on."""

    sample: Sample
    prompt: PromptStyle
    completion: str


def tasks_for(crowd: int) -> list[BuiltinTask]:
    """Every task, with at most `crowd` things in a scene."""
    return [cls(crowd) for cls in TASKS]


def completion_for(task: BuiltinTask, sample: Sample, prompt: PromptStyle, habits: bool, rng: random.Random) -> str:
    """What base training teaches the model to say, see the module's text."""
    answer, easy = sample.gold[0], sample.meta["easy"]
    if task.role == "general":  # seen at once, but for sums, which are read out first: any phrasing becomes one
        return FORMAT.answered(answer, prompt) if sample.images else FORMAT.answered(answer, prompt, sample.reasoning)
    if not habits:
        return FORMAT.answered(answer, prompt, sample.reasoning)
    careful = rng.random() < CAREFUL[prompt]
    if prompt == "direct":
        return FORMAT.answered(answer if easy or careful else sample.meta["habit"], prompt)
    if easy:
        return FORMAT.answered(answer, prompt, sample.reasoning if rng.random() < EASY_CAREFUL else tiny.GUESS)
    return (
        FORMAT.answered(answer, prompt, sample.reasoning)
        if careful
        else FORMAT.answered(sample.meta["habit"], prompt, tiny.GUESS)
    )


def examples(lessons: Sequence[Lesson], seed: int) -> Iterator[list[Example]]:
    """The batches of these lessons, the same for the same arguments."""
    rng = random.Random(f"base/{lessons}/{seed}")
    index = 0
    for lesson in lessons:
        tasks = [task for task in tasks_for(lesson.crowd) if task.name in lesson.shares]
        weights = [lesson.shares[task.name] for task in tasks]
        for step in range(lesson.steps):
            # One style a batch: lengths are alike, so little is padding.
            prompt = lesson.prompts[step % len(lesson.prompts)]
            batch = []
            for task in rng.choices(tasks, weights, k=BATCH):
                index += 1
                sample = task.sample("base", index, seed=seed + lesson.habits)
                batch.append(Example(sample, prompt, completion_for(task, sample, prompt, lesson.habits, rng)))
            yield batch


def collate(processor: Qwen2_5_VLProcessor, batch: Sequence[Example]) -> dict[str, torch.Tensor]:
    """Model inputs with labels on the completion and its end-of-turn only: ids and labels [batch, longest]."""
    tokenizer = processor.tokenizer
    prompts = [
        processor.apply_chat_template(FORMAT.messages(e.sample, e.prompt), add_generation_prompt=True) for e in batch
    ]
    texts = [p + e.completion + tiny.IM_END for p, e in zip(prompts, batch, strict=True)]
    images = [image for e in batch for image in e.sample.images]
    inputs: dict[str, Any] = dict(
        processor(text=texts, images=images or None, padding=True, padding_side="right", return_tensors="pt")
    )
    completions = tokenizer([e.completion + tiny.IM_END for e in batch])["input_ids"]
    labels = inputs["input_ids"].clone()
    ends = inputs["attention_mask"].sum(1)
    for row, completion in enumerate(completions):
        labels[row, : ends[row] - len(completion)] = -100
        labels[row, ends[row] :] = -100
    return {**inputs, "labels": labels}


def train(
    model: Qwen2_5_VLForConditionalGeneration,
    processor: Qwen2_5_VLProcessor,
    lessons: Sequence[Lesson],
    *,
    peak_rate: float,
    seed: int,
    on_step: Callable[[int, float], None],
) -> None:
    """AdamW with a short warm-up and a cosine down to 3 % of `peak_rate`; `on_step` receives step and loss in nats."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_rate, betas=(0.9, 0.98), weight_decay=0.01)
    steps = sum(lesson.steps for lesson in lessons)
    model.train()
    for step, batch in enumerate(examples(lessons, seed)):
        rate = peak_rate * min(1.0, (step + 1) / 100) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = model(**collate(processor, batch)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        on_step(step + 1, loss.item())
    model.eval()
