"""A run folder, finished or not, as plain data for the report. Needs no torch, ray or tasks."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt.common.files import read_json
from cpt.evaluate.scores import Scores, collect
from cpt.evaluate.step_curves import Course, course
from cpt.recipe.task_files import definitions_in
from cpt.report.load_stage import (
    GAP,
    LOSS,
    NO_VARIANCE,
    PHASE_SECONDS,
    REWARD,
    STEP_SECONDS,
    TOKEN_ACCURACY,
    Reader,
    StageRun,
)
from cpt.store.continued import check_recipe_text, read_manifest, read_recipe_text
from cpt.store.folder import FORMAT_VERSION, is_run
from cpt.store.imported import ImportedTask
from cpt.store.run_store import RunStore
from cpt.store.schemas import ReportedPlan
from cpt.tasks import declare
from cpt.types import Record

__all__ = [
    "GAP", "LOSS", "NO_VARIANCE", "PHASE_SECONDS", "REWARD", "STEP_SECONDS", "TOKEN_ACCURACY", "ArmRun", "RunData",
    "StageRun", "load_run", "short_key", "short_value",
]  # fmt: skip

SHORT = {"learning_rate": "lr", "per_device_train_batch_size": "batch", "num_generations": "G"}


@dataclass(frozen=True)
class ArmRun:
    """One arm over its seeds.

    Attributes:
        schedule: sequential, joint (one stage, in the place of the last) or single (every stage from the base model).
        stages: (seed, index) → stage.
        scores: of the records, and of what was scored elsewhere.
        records: (seed, stage, sample id) → record of the run's own evaluation; stage 0 is the base model.
    """

    name: str
    family: str
    sweep: Mapping[str, Any]
    method: Mapping[str, Any]
    prompt: str
    schedule: str
    seeds: tuple[int, ...]
    stages: Mapping[tuple[int, int], StageRun]
    scores: Scores
    records: Mapping[tuple[int, int, str], Record]

    @property
    def label(self) -> str:
        """How the report names the arm: `sft · lr 1e-4`."""
        values = ", ".join(f"{short_key(key)} {short_value(value)}" for key, value in self.sweep.items())
        return f"{self.family} · {values}" if values else self.name

    @property
    def point(self) -> str:
        """Label of a point of a curve: the swept values, or the arm's name."""
        return ", ".join(short_value(value) for value in self.sweep.values()) or self.name

    def in_sequence(self, seed: int) -> list[tuple[int, StageRun]]:
        """A seed's stages in order, each with the number of steps planned before it."""
        found, before = [], 0
        for (own, _), stage in sorted(self.stages.items(), key=lambda item: item[0]):
            if own == seed:
                found.append((before, stage))
                before += int(stage.plan["steps"])
        return found

    def rows(self, index: int) -> tuple[int, int]:
        """The matrix rows before and after the stage that trained on the `index`-th task (1-based)."""
        if self.schedule == "joint":
            return 0, max(stage for _, stage in self.stages)
        return (0 if self.schedule == "single" else index - 1), index

    def reward(self, seed: int, index: int, task: str) -> Mapping[str, Any] | None:
        """The `reward:` of this task, as planned; None for the task's own, and without rollouts."""
        plan = self.stages[seed, self.rows(index)[1]].plan
        if self.schedule != "joint":
            return plan.get("reward")
        if self.method["type"] == "sft":  # the rewards of its sources are for its filter
            return None
        return next((source["reward"] for source in plan["sources"] if source["task"] == task), None)

    def courses(self, tasks: Sequence[str]) -> dict[tuple[int, int], Course]:
        """(seed, index) → the course of a stage that was evaluated in its training.

        Args:
            tasks: the trained ones.
        """
        by_row: dict[tuple[int, int], list[Record]] = {}
        for (seed, row, _), record in self.records.items():
            by_row.setdefault((seed, row), []).append(record)
        found = {}
        for (seed, index), stage in self.stages.items():
            if stage.during:
                others = {task for task in tasks if task != stage.plan["task"]} if self.schedule == "single" else {}
                between = {step: [r for r in rows if r.task not in others] for step, rows in stage.during.items()}
                start, end = (by_row.get((seed, row), []) for row in self.rows(index))
                found[seed, index] = course(between, start, end, int(stage.plan["steps"]))
        return found

    @property
    def finished(self) -> bool:
        """Whether every stage of every seed is evaluated."""
        return all(stage.evaluated for stage in self.stages.values())


@dataclass(frozen=True)
class RunData:
    """All data of the report.

    Attributes:
        notes: which files are missing.
        imported: tasks that were scored elsewhere → by what. They stand beside the run's own tasks, in no mean.
    """

    root: Path
    name: str
    manifest: Mapping[str, Any]
    plan: Mapping[str, Any]
    recipe_text: str
    tasks: tuple[str, ...]
    general: tuple[str, ...]
    arms: tuple[ArmRun, ...]
    events: list[dict[str, Any]]
    notes: tuple[str, ...] = ()
    imported: Mapping[str, str] = field(default_factory=dict)

    @property
    def families(self) -> tuple[str, ...]:
        """The recipe's arms; a sweep is one."""
        return tuple(dict.fromkeys(arm.family for arm in self.arms))

    @property
    def evaluated_between_steps(self) -> bool:
        """Whether any stage was evaluated in its training."""
        return any(stage.during for arm in self.arms for stage in arm.stages.values())

    @property
    def has_rewards(self) -> bool:
        """Whether an arm has a `reward:` of the recipe instead of the tasks' own."""
        return any(self.rewards_arm(arm) for arm in self.arms)

    def rewards_arm(self, arm: ArmRun) -> bool:
        """Whether this arm has a `reward:` of the recipe on any task."""
        rewards = (arm.reward(arm.seeds[0], index, task) for index, task in enumerate(self.tasks, start=1))
        return any(reward is not None for reward in rewards)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the run."""
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}))

    @property
    def style_counts(self) -> bool:
        """Whether strict and tolerant scores differ for some completion: right, but not in the style asked for."""
        return any(record.score != record.tolerant for arm in self.arms for record in arm.records.values())


def load_run(root: str | Path) -> RunData:
    """Read a run folder or a copy of one; policies may be missing.

    Raises:
        ValueError: it is no run folder, has no plan yet, or has a file that is damaged or not what the run wrote.
    """
    store = RunStore(root)
    manifest = _manifest(store)
    sealed = manifest["format_version"] >= 2
    plan = _plan(store, manifest, sealed)
    tasks, general = tuple(plan["tasks"]), tuple(plan["general"])
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for stage in plan["stages"]:
        by_arm.setdefault(stage["arm"], []).append(stage)
    reader = Reader(store, sealed, {(base["prompt"], base["seed"]): base["key"] for base in plan["bases"]})
    if not sealed:
        reader.notes.append("A run of format 1: its files have no digests, so that a changed one would not be noticed.")
    if manifest.get("events") and not store.events_path.exists():
        reader.missing(store.events_path)
    imported = {arm: reader.imported(arm, stages) for arm, stages in by_arm.items()}
    sources = _sources([one for found in imported.values() for one in found])
    arms = [_load_arm(reader, stages, tasks, general, imported[arm], sources) for arm, stages in by_arm.items()]
    recipe_text = read_recipe_text(store.root)
    declare(definitions_in(recipe_text))
    order = _family_order(recipe_text, arms)
    arms.sort(key=lambda arm: (order.index(arm.family), [_sort_key(value) for value in arm.sweep.values()]))
    name = str(manifest.get("name", store.root.name))
    notes = tuple(dict.fromkeys(reader.notes))
    return RunData(
        *(store.root, name, manifest, plan, recipe_text, tasks, general, tuple(arms), store.events(), notes),
        imported=sources,
    )


def _sources(imported: Sequence[ImportedTask]) -> dict[str, str]:
    """Task → by what it was scored; several versions are all named."""
    found: dict[str, dict[str, None]] = {}
    for one in imported:
        found.setdefault(one.task, {})[one.source] = None
    return {task: " and ".join(sources) for task, sources in sorted(found.items())}


def _manifest(store: RunStore) -> dict[str, Any]:
    if not store.root.is_dir():
        raise ValueError(f"{store.root}: no such folder; give the folder of a cpt run (its --out)")
    if not store.manifest_path.exists() and store.plan_path.exists():
        raise ValueError(f"{store.root}: its manifest.json is gone; the recipe's command writes a new one")
    if not store.manifest_path.exists():
        raise ValueError(f"{store.root}: no manifest.json; give the folder of a cpt run (its --out)")
    if not is_run(store.root):
        raise ValueError(f"{store.root}: its manifest.json is not of a cpt run; give the folder of one (its --out)")
    manifest = read_manifest(store.root)
    version = manifest["format_version"]
    if not 1 <= version <= FORMAT_VERSION:
        raise ValueError(f"{store.root}: a run of format {version}, this cpt reads 1 to {FORMAT_VERSION}")
    check_recipe_text(store.root, manifest)
    return manifest


def _plan(store: RunStore, manifest: Mapping[str, Any], sealed: bool) -> dict[str, Any]:
    path = store.plan_path
    if not path.exists():
        raise ValueError(f"{store.root}: no plan.json; the recipe's command writes a new one")
    plan = read_json(path, ReportedPlan, sealed=sealed, advice="the recipe's command again, without the file, mends it")
    if sealed and plan.get("recipe_hash") != manifest["recipe_hash"]:
        raise ValueError(f"{path}: not what the run wrote: the plan of another recipe than {store.manifest_path} is of")
    return plan


def _load_arm(
    reader: Reader,
    planned: list[dict[str, Any]],
    tasks: tuple[str, ...],
    general: tuple[str, ...],
    imported: Sequence[ImportedTask],
    elsewhere: Collection[str],
) -> ArmRun:
    first = planned[0]
    stages = {(plan["seed"], plan["index"]): reader.stage(plan) for plan in planned}
    seeds = tuple(sorted({seed for seed, _ in stages}))
    records: list[Record] = []
    for seed in seeds:
        reader.check_base(first["prompt"], seed)
        done = [
            (index, stage.plan["task"]) for (own, index), stage in stages.items() if own == seed and stage.evaluated
        ]
        records += reader.store.arm_records(first["arm"], seed, first["prompt"], done)
    schedule = str(first.get("schedule", "sequential"))
    if schedule == "single":  # scores on tasks of other stages say nothing of forgetting
        own = dict(enumerate(tasks, start=1))
        records = [r for r in records if r.stage == 0 or r.task in general or r.task == own[r.stage]]
    scored = [*records, *(record for one in imported for record in one.records)]
    return ArmRun(
        name=first["arm"],
        family=first["family"],
        sweep=first["sweep"],
        method=first["method"],
        prompt=first["prompt"],
        schedule=schedule,
        seeds=seeds,
        stages=stages,
        scores=_scores(reader.store, scored, tasks, general, tuple(elsewhere), seeds),
        records={(record.seed, record.stage, record.sample_id): record for record in records},
    )


def _scores(
    store: RunStore,
    records: list[Record],
    tasks: tuple[str, ...],
    general: tuple[str, ...],
    imported: tuple[str, ...],
    seeds: tuple[int, ...],
) -> Scores:
    try:
        return collect(records, tasks, general, imported=imported, seeds=seeds)
    except ValueError as error:
        raise ValueError(f"{store.root}: {error}") from error


def _family_order(recipe_text: str, arms: list[ArmRun]) -> list[str]:
    """Families in the recipe's order; plan.json may have that of several commands."""
    found = list(dict.fromkeys(arm.family for arm in arms))
    _, _, after = recipe_text.partition("\narms:")
    listed = [name for name in re.findall(r"^  ([A-Za-z0-9_-]+):", after, flags=re.MULTILINE) if name in found]
    return [*dict.fromkeys(listed), *(name for name in found if name not in listed)]


def _sort_key(value: Any) -> tuple[int, float, str]:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if is_number else (1, 0.0, str(value))


def short_key(key: str) -> str:
    """`method.learning_rate` → `lr`."""
    last = key.rsplit(".", 1)[-1]
    return SHORT.get(last, last)


def short_value(value: Any) -> str:
    """0.0001 → `1e-4`, 0.05 → `0.05`."""
    if isinstance(value, float):
        text = f"{value:.3g}"
        if value and abs(value) < 0.01:
            mantissa, _, exponent = f"{value:.2e}".partition("e")
            text = f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
        return text
    return str(value).lower() if isinstance(value, bool) else str(value)
