"""The run folder: the only interface between stages, and between a run and its report.

    <run>/recipe.yaml  manifest.json  plan.json  events.jsonl  summary.json  report.html
    <run>/rewards.html  rewards.json  rewards.parquet      (of a run whose arms are paid by rewards of the recipe)
    <run>/base/<prompt>/seed-0/{records.parquet, DONE.json}
    <run>/arms/<arm>/seed-0/01-<task>/{stage.json, metrics.jsonl, checkpoints/, policy/, drift.parquet,
                                       TRAINED.json, records.parquet, DONE.json}
    beside them filter.parquet of an arm with a filter, generated/ of one that imitates itself, rollouts.jsonl of one
    that another arm imitates

Every file is written whole or not at all. A stage is trained only if TRAINED.json names the plan's key and the plan's
number of steps, and done only if DONE.json names that key too; whatever else lies in the folder counts for nothing.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from cpt import manifest
from cpt.files import (
    append_jsonl,
    read_json,
    read_jsonl,
    read_records,
    write_json_atomic,
    write_records,
    write_text_atomic,
)
from cpt.folder import (
    FORMAT,
    FORMAT_VERSION,
    PlanLike,
    RecipeLike,
    StageDir,
    StageLike,
    check_ours,
    check_same_recipe,
    delete_run,
    lock,
    safe_name,
)
from cpt.types import Record

PLANNED = {"stages": ("arm", "seed", "index"), "bases": ("seed", "prompt")}


class RunStore:
    """One run folder. Reading needs no lock; a driver that writes holds it from `open_or_create` until `close`."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._lock_fd: int | None = None

    # ---- paths

    @property
    def recipe_path(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def manifest_path(self) -> Path:
        return self.root / "manifest.json"

    @property
    def plan_path(self) -> Path:
        return self.root / "plan.json"

    @property
    def events_path(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def summary_path(self) -> Path:
        return self.root / "summary.json"

    @property
    def report_path(self) -> Path:
        return self.root / "report.html"

    def stage_dir(self, arm: str, seed: int, index: int, task: str) -> StageDir:
        """Folder of the `index`-th stage (1-based) of an arm. Absolute: trainers work in a folder of Ray's choice."""
        arms = self.root.absolute() / "arms"
        return StageDir(arms / safe_name(arm) / f"seed-{seed}" / f"{index:02d}-{safe_name(task)}")

    def stage(self, stage: StageLike) -> StageDir:
        """Folder of a planned stage."""
        return self.stage_dir(stage.arm, stage.seed, stage.index, stage.task)

    def base_dir(self, seed: int, prompt: str) -> StageDir:
        """Folder of the base model's evaluation with one prompt style; arms of that style share it as their row 0."""
        return StageDir(self.root.absolute() / "base" / safe_name(prompt) / f"seed-{seed}")

    # ---- opening, locking, closing

    def open_or_create(self, recipe: RecipeLike, *, fresh: bool = False) -> Self:
        """Take the folder for this recipe and lock it; `fresh` deletes an earlier run's files first.

        Raises:
            ValueError: the folder can't be written, holds something that is no cpt run, is in use by another
                process, or holds a run of another recipe (the difference is shown).
        """
        check_ours(self.root)
        self._lock_fd = lock(self.root)
        try:
            if fresh:
                delete_run(self.root)
            if self.manifest_path.exists():
                check_same_recipe(self.root, recipe)
            # Also on resume: settings that leave the numbers as they are (engines, hardware) may have changed.
            write_text_atomic(self.recipe_path, recipe.dump_yaml())
            self._begin_attempt(recipe)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Give the lock back. Safe to call twice."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- manifest and events

    def _begin_attempt(self, recipe: RecipeLike) -> None:
        old = read_json(self.manifest_path) if self.manifest_path.exists() else {}
        attempt = {"started": manifest.now(), "ended": None, "status": "running", "command": manifest.command()}
        write_json_atomic(
            self.manifest_path,
            {
                **old,
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "name": recipe.name,
                "recipe_hash": recipe.resolved_hash(),
                "seeds": list(recipe.seeds),
                "global_batch": old.get("global_batch", {}),
                "started": old.get("started", attempt["started"]),
                "ended": None,
                "attempts": [*old.get("attempts", []), attempt],
                **manifest.describe(),
                "phases_seconds": old.get("phases_seconds", {}),
            },
        )

    def update_manifest(self, **values: Any) -> None:
        """Set top-level entries of manifest.json."""
        write_json_atomic(self.manifest_path, {**read_json(self.manifest_path), **values})

    def write_plan(self, plan: PlanLike) -> None:
        """Write plan.json, which the report reads, and the global batch per arm into the manifest.

        An invocation may run some arms only: the stages and base evaluations that earlier ones planned are kept.
        """
        new = plan.as_dict()
        if self.plan_path.exists():
            old = read_json(self.plan_path)
            for part, identity in PLANNED.items():
                known = {tuple(item[key] for key in identity) for item in new[part]}
                new[part] += [item for item in old[part] if tuple(item[key] for key in identity) not in known]
        write_json_atomic(self.plan_path, new)
        batches = read_json(self.manifest_path).get("global_batch", {})
        self.update_manifest(global_batch={**batches, **plan.global_batch()})

    def finish(self, status: str = "complete") -> None:
        """Close this attempt in the manifest: when it ended, how, and the wall time of every phase so far (seconds)."""
        found = read_json(self.manifest_path)
        found["attempts"][-1].update(ended=manifest.now(), status=status)
        phases: dict[str, float] = {}
        for event in self.events():
            phases[event["phase"]] = phases.get(event["phase"], 0.0) + event["seconds"]
        found.update(ended=manifest.now(), phases_seconds={name: round(value, 3) for name, value in phases.items()})
        write_json_atomic(self.manifest_path, found)

    @contextmanager
    def phase(self, name: str, **labels: Any) -> Iterator[None]:
        """Time a block; events.jsonl gets phase, start (Unix time), seconds, ok and the labels (arm, seed, stage…)."""
        start, clock, ok = time.time(), time.perf_counter(), False
        try:
            yield
            ok = True
        finally:
            self.add_event(name, time.perf_counter() - clock, start=start, ok=ok, **labels)

    def add_event(
        self, phase: str, seconds: float, *, start: float | None = None, ok: bool = True, **labels: Any
    ) -> None:
        """Append a phase that was timed elsewhere."""
        begun = time.time() - seconds if start is None else start
        row = {"phase": phase, "start": round(begun, 3), "seconds": round(seconds, 4), "ok": ok, **labels}
        append_jsonl(self.events_path, row)

    def events(self) -> list[dict[str, Any]]:
        """All phases so far."""
        return [row for row in read_jsonl(self.events_path) if "phase" in row and "seconds" in row]

    # ---- stages

    def begin_stage(self, stage: StageLike) -> StageDir:
        """Create a stage's folder and its stage.json; what an earlier stage of another key left there is deleted."""
        where = self.stage(stage)
        if where.stage_json.exists() and read_json(where.stage_json).get("key") != stage.key:
            shutil.rmtree(where.root)
        where.checkpoints.mkdir(parents=True, exist_ok=True)
        write_json_atomic(where.stage_json, stage.as_dict())
        return where

    def mark_trained(self, stage: StageLike, *, steps: int, **notes: Any) -> None:
        """Say that training took `steps` steps and policy/ is whole. ValueError if the plan has other steps."""
        if steps != stage.steps:
            raise ValueError(
                f"{stage.arm}, stage {stage.index} ({stage.task}): trained {steps} of {stage.steps} steps; not complete"
            )
        write_json_atomic(self.stage(stage).trained, {"key": stage.key, "steps": steps, "at": manifest.now(), **notes})

    def is_trained(self, stage: StageLike) -> bool:
        """Whether the plan's steps were made from the plan's key and the policy folder is there."""
        where = self.stage(stage)
        if not where.trained.exists() or not (where.policy / "config.json").exists():
            return False
        marker = read_json(where.trained)
        return bool(marker.get("key") == stage.key and marker.get("steps") == stage.steps)

    def mark_done(self, stage: StageLike, records: Sequence[Record]) -> None:
        """Write the evaluation of a trained stage, then the marker that makes it count."""
        assert self.is_trained(stage), f"{self.stage(stage).root}: evaluated before it was trained"
        self._write_done(self.stage(stage), stage.key, records)

    def is_done(self, stage: StageLike) -> bool:
        """Whether the stage is trained and evaluated."""
        return self.is_trained(stage) and self._has_done(self.stage(stage), stage.key)

    def mark_base_done(self, seed: int, prompt: str, key: str, records: Sequence[Record]) -> None:
        """Write the base model's evaluation, then its marker."""
        self._write_done(self.base_dir(seed, prompt), key, records)

    def is_base_done(self, seed: int, prompt: str, key: str) -> bool:
        """Whether the base model was evaluated under this key."""
        return self._has_done(self.base_dir(seed, prompt), key)

    def _write_done(self, where: StageDir, key: str, records: Sequence[Record]) -> None:
        write_records(where.records, records)
        write_json_atomic(where.done, {"key": key, "records": len(records), "at": manifest.now()})

    def _has_done(self, where: StageDir, key: str) -> bool:
        return where.done.exists() and where.records.exists() and bool(read_json(where.done).get("key") == key)

    def append_metrics(self, stage: StageLike, row: Mapping[str, Any]) -> None:
        """Append one step's metrics."""
        append_jsonl(self.stage(stage).metrics, row)

    # ---- records

    def arm_records(self, arm: str, seed: int, prompt: str, stages: Sequence[tuple[int, str]]) -> list[Record]:
        """All finished evaluations of one arm and seed, the base model's as its stage 0.

        Args:
            prompt: the arm's prompt style, which says which evaluation of the base model is its row 0.
            stages: (index, task) of the planned stages.
        """
        records: list[Record] = []
        base = self.base_dir(seed, prompt)
        if base.done.exists():
            records += [replace(record, arm=arm, seed=seed, stage=0) for record in read_records(base.records)]
        for index, task in stages:
            where = self.stage_dir(arm, seed, index, task)
            if where.done.exists():
                records += read_records(where.records)
        return records


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """One row per step, in order. A resumed stage logs steps after its checkpoint again: the last row counts."""
    by_step: dict[int, dict[str, Any]] = {}
    for row in read_jsonl(path):
        if isinstance(row.get("step"), int):
            by_step[row["step"]] = {**by_step.get(row["step"], {}), **row}
    return [by_step[step] for step in sorted(by_step)]
