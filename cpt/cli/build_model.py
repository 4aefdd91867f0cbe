"""`cpt model build`: the built-in model from scratch, measured, with its card."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Template
from rich.progress import Progress, TextColumn, TimeRemainingColumn

from cpt.cli.commands import Command, group
from cpt.models.load import load_processor
from cpt.rollout.encode import encode_prompts
from cpt.rollout.engine import EngineSettings
from cpt.rollout.local import LocalPool, build_engine
from cpt.tasks import get_task
from cpt.tasks.world import builtin, pretrain, tiny
from cpt.types import GenerationRequest, PromptStyle, SamplingParams

GROUP = group("The built-in model.", {"build": Command("build_model:build", "Make the built-in model from scratch.")})
CARD_SAMPLES = 512
PASS_AT = 8
PROMPTS: tuple[PromptStyle, ...] = ("direct", "think")


@dataclass(frozen=True)
class Cell:
    """Strict accuracy on one task under one prompt, in [0, 1]; None where there are no such instances."""

    greedy: float
    easy: float | None
    hard: float | None
    pass_at: float

    def columns(self) -> str:
        """The columns of the card's table."""
        values = (self.greedy, self.easy, self.hard, self.pass_at)
        return " | ".join("–" if value is None else f"{value:.3f}" for value in values)


Scores = dict[tuple[str, PromptStyle], Cell]


def build(
    out: Annotated[Path, typer.Option(help="Folder for the new model.")] = Path("runs/tiny-qwen2_5-vl"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and data.")] = 0,
) -> None:
    """Make the built-in model from scratch."""
    build_model(out, seed=seed)


def build_model(out: Path, *, seed: int = 0, samples: int = CARD_SAMPLES) -> None:
    """Train the built-in model, save it as a Hugging Face folder with its card, and print its scores.

    Args:
        out: a new or empty folder.
        seed: of weights and data. The same seed gives the same weights on the same kind of CPU.
        samples: test samples per task for the card.

    Raises:
        ValueError: `out` is not empty.
    """
    import torch

    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; choose another --out")
    torch.set_num_threads(os.cpu_count() or 1)
    begin = time.monotonic()
    processor = tiny.make_processor()
    model = builtin.accelerate(tiny.make_model(processor.tokenizer, seed))
    courses = (
        ("the world", pretrain.WORLD, pretrain.WORLD_RATE),
        ("practice", pretrain.PRACTICE, pretrain.PRACTICE_RATE),
        ("the habits", pretrain.HABITS, pretrain.HABIT_RATE),
        ("sums", pretrain.POLISH, pretrain.POLISH_RATE),
        ("colours and choices", pretrain.FINISH, pretrain.FINISH_RATE),
    )
    for name, lessons, rate in courses:
        with _bar(f"base training: {name}", sum(lesson.steps for lesson in lessons)) as advance:
            pretrain.train(model, processor, lessons, peak_rate=rate, seed=seed, on_step=advance)
    minutes = (time.monotonic() - begin) / 60
    tiny.save(model, processor, out)
    write_card(out, measure(out, samples), samples=samples, minutes=minutes, seed=seed)


class _bar:
    """A progress bar over steps with the running loss; a context manager that returns the function to call."""

    def __init__(self, title: str, steps: int) -> None:
        self.progress = Progress(
            *Progress.get_default_columns()[:-1], TimeRemainingColumn(), TextColumn("{task.fields[loss]}")
        )
        self.task = self.progress.add_task(title, total=steps, loss="")
        self.loss = 0.0

    def __enter__(self):  # type: ignore[no-untyped-def]
        self.progress.start()
        return self.advance

    def advance(self, step: int, loss: float) -> None:
        """Finish a step."""
        self.loss = loss if step == 1 else 0.98 * self.loss + 0.02 * loss
        self.progress.update(self.task, completed=step, loss=f"loss {self.loss:.3f}")

    def __exit__(self, *_: object) -> None:
        self.progress.stop()


def measure(folder: Path, samples: int) -> Scores:
    """Strict accuracy (greedy) and pass@8 (T = 1) of a folder on the test split, by built-in task and prompt."""
    processor = load_processor(folder)
    pool = LocalPool(build_engine("hf", EngineSettings(str(folder))))
    version = pool.push_folder(folder, "card")
    return {
        (task.name, prompt): _measure_task(pool, version, processor, task.name, prompt, samples)
        for task in builtin.tasks()
        for prompt in PROMPTS
    }


def _measure_task(
    pool: LocalPool, version: str, processor: object, name: str, prompt: PromptStyle, samples: int
) -> Cell:
    task = get_task(name)
    questions = task.samples("test", samples)
    ids = encode_prompts(processor, [task.messages(q, prompt) for q in questions], [q.images for q in questions])
    requests = [GenerationRequest(i, tuple(q.images), n) for n, (i, q) in enumerate(zip(ids, questions, strict=True))]

    def right(params: SamplingParams) -> list[bool]:
        answers = pool.generate(requests, params, version=version)
        return [
            any(task.score(question, completion.text, prompt).value == 1.0 for completion in group)
            for question, group in zip(questions, answers, strict=True)
        ]

    def share(found: list[bool], easy: bool | None = None) -> float | None:
        chosen = [r for q, r in zip(questions, found, strict=True) if easy is None or q.meta["easy"] is easy]
        return sum(chosen) / len(chosen) if chosen else None

    limit = builtin.MAX_COMPLETION_TOKENS[prompt]
    greedy = right(SamplingParams(max_tokens=limit))
    sampled = right(SamplingParams(max_tokens=limit, temperature=1.0, n=PASS_AT))
    return Cell(share(greedy) or 0.0, share(greedy, True), share(greedy, False), share(sampled) or 0.0)


def write_card(folder: Path, scores: Scores, *, samples: int, minutes: float, seed: int) -> None:
    """README.md of the model's folder."""
    template = Template(
        (Path(tiny.__file__).parent / "card.md.j2").read_text(encoding="utf-8"), keep_trailing_newline=True
    )
    rows = []
    for task in builtin.tasks():
        cells = " | ".join(scores[task.name, prompt].columns() for prompt in PROMPTS)
        rows.append(f"| {task.name} | {task.role} | {cells} |")
    text = template.render(
        rows=rows,
        samples=samples,
        minutes=round(minutes),
        seed=seed,
        pass_at=PASS_AT,
        batch=pretrain.BATCH,
        lessons=pretrain.WORLD[:-1],
        world_steps=pretrain.WORLD[-1].steps,
        practice_steps=sum(lesson.steps for lesson in pretrain.PRACTICE),
        habit_steps=sum(lesson.steps for lesson in (*pretrain.HABITS, *pretrain.POLISH, *pretrain.FINISH)),
        careful={prompt: round(100 * share) for prompt, share in pretrain.CAREFUL.items()},
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
