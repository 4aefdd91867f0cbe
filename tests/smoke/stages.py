"""Planned stages and a randomly initialised built-in architecture, for tests that really train."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan
from cpt.recipe import Recipe
from cpt.store.folder import StageDir
from cpt.tasks import get_task
from rewards.score import Score

# Of a row of metrics.jsonl: what the clock decides, and with it the row's sum.
CLOCK = ("step_s", "tokens_per_s", "phase/", "sum")


def random_model(folder: Path) -> Path:
    """The built-in architecture and processor with random weights."""
    from cpt.tasks.world.tiny import make_model, make_processor, save

    processor = make_processor()
    save(make_model(processor.tokenizer), processor, folder)
    return folder


def planned(
    model: Path, method: dict[str, Any], *, tasks: Sequence[str] = ("count-colour",), **settings: Any
) -> list[StagePlan]:
    """The stages of a recipe with one arm. `settings`: tuning, freeze, samples, prompt, filter."""
    recipe = Recipe.model_validate(
        {
            "version": 1,
            "name": "test",
            "model": {
                "name_or_path": str(model),
                "tuning": settings.get("tuning", "full"),
                "freeze": settings.get("freeze", []),
            },
            "tasks": list(tasks),
            "data": {"samples": settings.get("samples", 24)},
            "drift": {"samples": 0},
            "prompt": settings.get("prompt", "direct"),
            "arms": {"arm": {"method": method, "filter": settings.get("filter")}},
        }
    )
    return make_plan(recipe).stages


def replace_tasks(patch: Any, stand_in: Callable[[str], Any]) -> None:
    """Let `cpt.tasks.get_task` give `stand_in(name)` for every task, wherever it has been imported to."""
    import cpt.tasks.registry

    class StandIns(dict[str, Any]):
        def __contains__(self, name: object) -> bool:
            return True

        def __missing__(self, name: str) -> Any:  # a stand-in may call its samples' task as it likes
            return stand_in(name)

    known = StandIns({name: stand_in(name) for name in cpt.tasks.task_names()})
    patch.setattr(cpt.tasks.registry, "_registry", lambda: known)


class EasilyRewarded:
    """A task whose reward a model with random weights earns now and then."""

    def __init__(self, name: str) -> None:
        self.name, self.task = name, get_task(name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def reward(self, sample: Any, completion: str, prompt: Any) -> Score:
        return Score(len(completion) % 5 / 4, {}, completion)


def on_task(stage: StagePlan, task: str) -> StagePlan:
    """The stage on another task, also on one that recipes only evaluate."""
    return replace(stage, task=task)


def kept_by_filter(stage: StagePlan, start: Path | str, out: Path, pool: Any) -> list[int] | None:
    """Positions of the samples that the stage's filter keeps; None without a filter."""
    from cpt.models.load import load_processor
    from cpt.run.filtering import kept_samples
    from cpt.train.data import own_samples

    if stage.filter is None:
        return None
    file, processor = StageDir(out).filter, load_processor(start)
    return kept_samples(stage, own_samples(stage), start_folder=start, file=file, pool=pool, processor=processor)


def trained(
    stage: StagePlan,
    start: Path,
    out: Path,
    pool: Any = None,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    kept: Sequence[int] | None = None,
) -> StageDir:
    """`out` after the stage."""
    from cpt.train.stage import train_stage

    folder = StageDir(out)
    train_stage(stage, start_folder=start, out=folder, kept=kept, pool=pool, on_step=on_step)
    return folder


def tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def moved(before: Path, after: Path) -> set[str]:
    """Names of the tensors that differ."""
    ours, theirs = tensors(before), tensors(after)
    return {name for name in ours if not ours[name].equal(theirs[name])}


def difference(a: StageDir, b: StageDir) -> float:
    """The largest one between two policies' parameters."""
    ours, theirs = tensors(a.policy), tensors(b.policy)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def rows(out: StageDir) -> list[dict[str, Any]]:
    """metrics.jsonl without what the clock decides."""
    lines = [json.loads(line) for line in out.metrics.read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.startswith(CLOCK)} for line in lines]


def interruptible() -> None:
    """For a child process: Ctrl-C reaches it also where the tests themselves run in a background that ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Killed(Exception):
    """Stands for a kill: training ends here, and nothing is tidied up."""


def die_at(step: int) -> Any:
    def on_step(row: dict[str, Any]) -> None:
        if row["step"] == step:
            raise Killed

    return on_step
