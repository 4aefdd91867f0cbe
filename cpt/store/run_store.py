"""The run folder: the only interface between stages, and between a run and its report.

    <run>/recipe.yaml  manifest.json  plan.json  events.jsonl  summary.json  report.html
    <run>/rewards.html  rewards.json  rewards.parquet      (of a run with rewards of the recipe)
    <run>/base/<prompt>/seed-0/{records.parquet, DONE.json}
    <run>/arms/<arm>/seed-0/01-<task>/{stage.json, metrics.jsonl, checkpoints/, policy/, TRAINED.json,
                                       records.parquet, DONE.json, drift.parquet, evaluated/drift.json}
    in evaluated/ also responses.sqlite, what the policy has answered, and imported-<task>.{parquet, json}, scores that
    were made elsewhere
    beside them filter.parquet of an arm with a filter, generated/ of one that imitates itself, rollouts.jsonl of one
    that another arm imitates, during.parquet if policies are evaluated in training

Every file is written whole or not at all. A stage is trained only if TRAINED.json names the plan's key and the plan's
number of steps. What an evaluator has measured on its policy counts only if the evaluator's marker names that key and
what the plan asks of it; DONE.json is the marker of the records, evaluated/NAME.json that of any other. Whatever else
lies in the folder counts for nothing. TRAINED.json and the markers list the digest of every result; JSON files carry a
seal, and lines of JSON a sum.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from cpt.common.digests import file_digest, listing
from cpt.common.files import (
    AGAIN,
    append_jsonl,
    read_json,
    read_jsonl,
    whole_lines,
    write_json_atomic,
    write_text_atomic,
)
from cpt.store import manifest
from cpt.store.continued import PLANNED, changes_of, check_same_recipe, planned_before, read_manifest
from cpt.store.folder import (
    FORMAT_VERSION,
    GENERATION,
    PlanLike,
    RecipeLike,
    StageDir,
    StageLike,
    check_ours,
    delete_run,
    lock,
    safe_name,
)
from cpt.store.results import counts, make_durable, read_marker, recorded, write_trained
from cpt.store.schemas import FORMAT, PlannedStage, Trained
from cpt.types import Record

_TIMES = ("start", "seconds")


class RunStore:
    """One run folder. Only a process that writes needs the lock, from `open_or_create` to `close`."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._lock: FileLock | None = None

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

    def stage_dir(self, arm: str, seed: int, index: int, task: str) -> StageDir:
        """Folder of the `index`-th stage (1-based) of an arm. Absolute: trainers run in another working folder."""
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
        self._lock = lock(self.root)
        try:
            if fresh:
                delete_run(self.root)
            if self.manifest_path.exists() or self.plan_path.exists():
                check_same_recipe(self.root, recipe)
            self.events()  # damaged, they would be in the way only at the end
            # Also on resume: settings that leave the policies as they are (evaluators, engines, hardware) may have
            # changed.
            changes = changes_of(self.root, recipe)
            write_text_atomic(self.recipe_path, recipe.dump_yaml())
            self._begin_attempt(recipe, changes)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Give the lock back. Safe to call twice."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- manifest and events

    def _begin_attempt(self, recipe: RecipeLike, changes: list[str]) -> None:
        """`changes`: lines of the recipe that are others than at the attempt before."""
        old = read_manifest(self.root) if self.manifest_path.exists() else {}
        attempt = {"started": manifest.now(), "ended": None, "status": "running", "command": manifest.command()}
        attempt |= {"recipe_changes": changes} if changes else {}
        write_json_atomic(
            self.manifest_path,
            {
                **old,
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "name": recipe.name,
                "recipe_hash": recipe.resolved_hash(),
                "recipe": file_digest(self.recipe_path),
                "events": old.get("events") if self.events_path.exists() else None,
                "seeds": list(recipe.seeds),
                "global_batch": old.get("global_batch", {}),
                "started": old.get("started", attempt["started"]),
                "ended": None,
                "attempts": [*old.get("attempts", []), attempt],
                **manifest.describe(),
                "phases_seconds": old.get("phases_seconds", {}),
            },
            sealed=True,
        )

    def update_manifest(self, **values: Any) -> None:
        """Set top-level entries of manifest.json."""
        write_json_atomic(self.manifest_path, {**read_manifest(self.root), **values}, sealed=True)

    def write_plan(self, plan: PlanLike) -> None:
        """Write plan.json, which the report reads, and the global batch per arm into the manifest.

        A command may run some arms only: what earlier commands planned is kept.

        Raises:
            ValueError: plan.json is damaged, or can't be gone on with (`planned_before`).
        """
        known = read_manifest(self.root)
        about = {"format": FORMAT, "format_version": FORMAT_VERSION, "recipe_hash": known["recipe_hash"]}
        new = {**plan.as_dict(), **about}
        old = planned_before(self.root, new)
        if old is not None:
            for part, identity in PLANNED.items():
                planned = {tuple(item[key] for key in identity) for item in new[part]}
                new[part] += [item for item in old[part] if tuple(item[key] for key in identity) not in planned]
        write_json_atomic(self.plan_path, new, sealed=True)
        self.update_manifest(global_batch={**known["global_batch"], **plan.global_batch()})

    def finish(self, status: str = "complete") -> None:
        """Note in the manifest when and how this attempt ended, and the wall time of every phase so far (seconds)."""
        found = read_manifest(self.root)
        found["attempts"][-1].update(ended=manifest.now(), status=status)
        phases: dict[str, float] = {}
        for event in self.events():
            phases[event["phase"]] = phases.get(event["phase"], 0.0) + event["seconds"]
        path = self.events_path
        events = file_digest(path, whole_lines(path)) if path.exists() else None
        found.update(
            ended=manifest.now(),
            events=events,
            phases_seconds={name: round(value, 3) for name, value in phases.items()},
        )
        write_json_atomic(self.manifest_path, found, sealed=True)

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
        """All phases so far. ValueError if the file is damaged or not what the run wrote."""
        path, advice = self.events_path, f"the times in it are lost; {AGAIN}"
        known = read_manifest(self.root) if self.manifest_path.exists() else {}
        sealed = known.get("format_version", 2) >= 2
        found = read_jsonl(path, sealed=sealed, advice=advice)
        whole = [row for row in found if "phase" in row and all(isinstance(row.get(n), int | float) for n in _TIMES)]
        began = known.get("events")
        cut = began is not None and path.exists() and file_digest(path, began["bytes"]) != began
        if sealed and (cut or len(whole) < len(found)):
            raise ValueError(f"{path}: not what the run wrote; {advice}")
        return whole

    @property
    def sealed(self) -> bool:
        """Whether the run's files have seals and digests; those of format 1 do not."""
        return not self.manifest_path.exists() or read_manifest(self.root)["format_version"] >= 2

    # ---- stages

    def begin_stage(self, stage: StageLike) -> StageDir:
        """Create a stage's folder and its stage.json. What a stage of another key left there is deleted.

        So are the markers of a training that has to be repeated, for example because its policy is missing: they must
        not stand beside the files of an interrupted new training.
        """
        where = self.stage(stage)
        if where.root.exists() and not self._is_of(where, stage.key):
            shutil.rmtree(where.root)
        for marker in (where.trained, *where.markers()):
            marker.unlink(missing_ok=True)
        where.checkpoints.mkdir(parents=True, exist_ok=True)
        write_json_atomic(where.stage_json, stage.as_dict(), sealed=True)
        return where

    def _is_of(self, where: StageDir, key: str) -> bool:
        return where.stage_json.exists() and read_json(where.stage_json, PlannedStage, sealed=True)["key"] == key

    def mark_trained(self, stage: StageLike, *, steps: int, **notes: Any) -> None:
        """Mark the stage as trained, with a complete policy/. ValueError if the plan has another number of steps."""
        if steps != stage.steps:
            raise ValueError(
                f"{stage.arm}, stage {stage.index} ({stage.task}): trained {steps} of {stage.steps} steps; not complete"
            )
        write_trained(self.stage(stage), stage.key, steps, at=manifest.now(), **notes)

    def is_trained(self, stage: StageLike) -> bool:
        """Whether the stage was trained as planned, by key and steps, and its policy exists."""
        where = self.stage(stage)
        if not where.trained.exists() or not (where.policy / "config.json").exists():
            return False
        marker = read_marker(where.trained, Trained)
        return bool(marker["key"] == stage.key and marker["steps"] == stage.steps)

    def measured_during(self, stage: StageLike) -> dict[str, Any] | None:
        """`steps` and `samples` by task that a trained stage was evaluated on in its training; None: not at all."""
        found: dict[str, Any] | None = read_marker(self.stage(stage).trained, Trained).get("during")
        return found

    # ---- evaluators

    def forget(self, where: StageDir, evaluator: str) -> None:
        """Let an evaluator's results count no more, before it measures again."""
        where.marker(evaluator).unlink(missing_ok=True)

    def mark_measured(
        self, where: StageDir, evaluator: str, key: str, measures: str, files: Sequence[Path], **notes: Any
    ) -> None:
        """Say that an evaluator has measured a policy and its files are whole.

        Args:
            key: of the policy.
            measures: identity of what was measured on it.
        """
        where.marker(evaluator).parent.mkdir(exist_ok=True)
        make_durable(list(files))
        marker = {"key": key, "measures": measures, **notes, "at": manifest.now(), "files": listing(where.root, files)}
        write_json_atomic(where.marker(evaluator), marker, sealed=True)

    def is_measured(self, where: StageDir, evaluator: str, key: str, measures: str | None = None) -> bool:
        """Whether an evaluator's results are there; see `counts`."""
        return counts(where, where.marker(evaluator), key, measures)

    def is_done(self, stage: StageLike) -> bool:
        """Whether the stage is trained and its records are there."""
        return self.is_trained(stage) and self.is_measured(self.stage(stage), GENERATION, stage.key)

    # ---- records

    def arm_records(self, arm: str, seed: int, prompt: str, stages: Sequence[tuple[int, str]]) -> list[Record]:
        """All finished evaluations of one arm and seed, the base model's as its stage 0.

        Args:
            prompt: the arm's prompt style, which selects the base model's evaluation.
            stages: (index, task) of the planned stages.

        Raises:
            ValueError: a file is not what the run wrote.
        """
        sealed = self.sealed
        records: list[Record] = []
        base = self.base_dir(seed, prompt)
        if base.done.exists() and base.records.exists():
            found = recorded(base, seed=seed, stage=0, sealed=sealed)
            records += [replace(record, arm=arm, seed=seed, stage=0) for record in found]
        for index, task in stages:
            where = self.stage_dir(arm, seed, index, task)
            if where.done.exists() and where.records.exists():
                records += recorded(where, arm=arm, seed=seed, stage=index, sealed=sealed)
        return records


def read_metrics(path: Path, *, sealed: bool = True) -> list[dict[str, Any]]:
    """One row per step, in order. A resumed stage logs steps after its checkpoint again: the last row counts.

    Raises:
        ValueError: a line is damaged or not what the run wrote.
    """
    by_step: dict[int, dict[str, Any]] = {}
    advice = f"delete {path.parent}, and the same command trains the stage again"
    for number, row in enumerate(read_jsonl(path, sealed=sealed, advice=advice), start=1):
        if sealed and not isinstance(row.get("step"), int):
            raise ValueError(f"{path}, line {number}: not what the run wrote here: it has no step; {advice}")
        if isinstance(row.get("step"), int):
            by_step[row["step"]] = {**by_step.get(row["step"], {}), **row}
    return [by_step[step] for step in sorted(by_step)]
