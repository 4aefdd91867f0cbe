"""A run folder, finished or not, as plain data for the report. Needs neither torch nor ray, nor the tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.evaluate.drift import DriftRow, read_drift
from cpt.evaluate.scores import Scores, collect
from cpt.files import read_json
from cpt.folder import StageDir
from cpt.store import RunStore, read_metrics
from cpt.types import Record

# What the report needs of a planned stage.
STAGE_FIELDS = (
    "arm",
    "family",
    "sweep",
    "seed",
    "index",
    "task",
    "prompt",
    "method",
    "steps",
    "key",
    "max_logprob_gap",
    "global_batch",
)
SHORT = {"learning_rate": "lr", "per_device_train_batch_size": "batch", "num_generations": "G"}


@dataclass(frozen=True)
class StageRun:
    """One planned stage and what there is of it.

    Attributes:
        plan: its entry in plan.json.
        trained: its steps are complete.
        evaluated: its records are complete.
        metrics: one row per step so far.
        drift: one row per prompt, or in words why there are none.
    """

    plan: Mapping[str, Any]
    trained: bool
    evaluated: bool
    metrics: list[dict[str, Any]]
    drift: Sequence[DriftRow] | str

    @property
    def last_step(self) -> int:
        """Steps made so far."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def max_gap(self) -> float | None:
        """Largest log-probability gap between engine and trainer of any step, in nats; None without rollouts."""
        gaps = [row[GAP] for row in self.metrics if row.get(GAP) is not None]
        return max(gaps) if gaps else None


# Names in metrics.jsonl.
GAP = "logprob_gap"
REWARD, LOSS, TOKEN_ACCURACY, NO_VARIANCE = "reward", "loss", "token_accuracy", "frac_zero_std"
STEP_SECONDS = "step_s"
PHASE_SECONDS = re.compile(r"phase/(.+)_s")


@dataclass(frozen=True)
class ArmRun:
    """One arm over its seeds.

    Attributes:
        schedule: sequential, joint (one stage, on the last task's place) or single (every stage from the base model).
        stages: (seed, index) → stage.
        records: (seed, stage, sample id) → record; stage 0 is the base model.
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
        """The swept values alone, to label a point of a curve; the arm's name without a sweep."""
        return ", ".join(short_value(value) for value in self.sweep.values()) or self.name

    def in_sequence(self, seed: int) -> list[tuple[int, StageRun]]:
        """A seed's stages in order, each after the steps that are planned before it: where a curve of them begins."""
        found, before = [], 0
        for (own, _), stage in sorted(self.stages.items(), key=lambda item: item[0]):
            if own == seed:
                found.append((before, stage))
                before += int(stage.plan["steps"])
        return found

    def rows(self, index: int) -> tuple[int, int]:
        """The matrix's rows before and after the stage that trained on the task of this 1-based place."""
        if self.schedule == "joint":
            return 0, max(stage for _, stage in self.stages)
        return (0 if self.schedule == "single" else index - 1), index

    def reward(self, seed: int, index: int, task: str) -> Mapping[str, Any] | None:
        """The `reward:` that pays for this task, as planned; None for the task's own, and without rollouts."""
        plan = self.stages[seed, self.rows(index)[1]].plan
        if self.schedule != "joint":
            return plan.get("reward")
        if self.method["type"] == "sft":  # its samples' rewards are those of its filter
            return None
        return next((source["reward"] for source in plan["sources"] if source["task"] == task), None)

    @property
    def finished(self) -> bool:
        """Whether every stage of every seed is evaluated."""
        return all(stage.evaluated for stage in self.stages.values())


@dataclass(frozen=True)
class RunData:
    """Everything the report shows is made from this."""

    root: Path
    name: str
    manifest: Mapping[str, Any]
    plan: Mapping[str, Any]
    recipe_text: str
    tasks: tuple[str, ...]
    general: tuple[str, ...]
    arms: tuple[ArmRun, ...]
    events: list[dict[str, Any]]

    @property
    def families(self) -> tuple[str, ...]:
        """The recipe's arms, a sweep counting once."""
        return tuple(dict.fromkeys(arm.family for arm in self.arms))

    @property
    def has_rewards(self) -> bool:
        """Whether an arm is paid by a `reward:` of the recipe instead of the tasks' own."""
        return any(self.pays(arm) for arm in self.arms)

    def pays(self, arm: ArmRun) -> bool:
        """Whether the recipe pays this arm by a `reward:` on any task."""
        rewards = (arm.reward(arm.seeds[0], index, task) for index, task in enumerate(self.tasks, start=1))
        return any(reward is not None for reward in rewards)

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds of the run."""
        return tuple(sorted({seed for arm in self.arms for seed in arm.seeds}))

    @property
    def style_counts(self) -> bool:
        """Whether some completion is right in another style than the one asked for: scored 0 strictly, 1 tolerantly."""
        return any(record.strict != record.tolerant for arm in self.arms for record in arm.records.values())


def load_run(root: str | Path) -> RunData:
    """Read a run folder.

    Raises:
        ValueError: not a run folder, no plan yet, or a damaged file in it.
    """
    store = RunStore(root)
    for path in (store.manifest_path, store.plan_path):
        if not path.is_file():
            raise ValueError(f"{store.root}: no {path.name}; give the folder of a cpt run (its --out)")
    manifest, plan = read_json(store.manifest_path), read_json(store.plan_path)
    tasks, general = tuple(plan["tasks"]), tuple(plan["general"])
    by_arm: dict[str, list[dict[str, Any]]] = {}
    for stage in plan["stages"]:
        missing = [name for name in STAGE_FIELDS if name not in stage]
        if missing:
            raise ValueError(f"{store.plan_path}: a stage without {', '.join(missing)}; made by another version of cpt")
        by_arm.setdefault(stage["arm"], []).append(stage)
    arms = [_load_arm(store, stages, tasks, general) for stages in by_arm.values()]
    recipe_text = store.recipe_path.read_text(encoding="utf-8") if store.recipe_path.is_file() else ""
    order = _family_order(recipe_text, arms)
    arms.sort(key=lambda arm: (order.index(arm.family), [_sort_key(value) for value in arm.sweep.values()]))
    name = str(manifest.get("name", store.root.name))
    return RunData(store.root, name, manifest, plan, recipe_text, tasks, general, tuple(arms), store.events())


def _load_arm(
    store: RunStore, planned: list[dict[str, Any]], tasks: tuple[str, ...], general: tuple[str, ...]
) -> ArmRun:
    first = planned[0]
    stages = {}
    for plan in planned:
        where = store.stage_dir(plan["arm"], plan["seed"], plan["index"], plan["task"])
        trained = where.trained.exists() and _matches(read_json(where.trained), plan, "key", "steps")
        evaluated = trained and where.done.exists() and _matches(read_json(where.done), plan, "key")
        metrics, drift = read_metrics(where.metrics), _drift(where, trained)
        stages[plan["seed"], plan["index"]] = StageRun(plan, trained, evaluated, metrics, drift)
    seeds = tuple(sorted({seed for seed, _ in stages}))
    records: list[Record] = []
    for seed in seeds:
        done = [
            (index, stage.plan["task"]) for (own, index), stage in stages.items() if own == seed and stage.evaluated
        ]
        records += store.arm_records(first["arm"], seed, first["prompt"], done)
    schedule = str(first.get("schedule", "sequential"))
    if schedule == "single":  # what a stage leaves of another's task is nothing that a sequence could have forgotten
        own = dict(enumerate(tasks, start=1))
        records = [r for r in records if r.stage == 0 or r.task in general or r.task == own[r.stage]]
    return ArmRun(
        name=first["arm"],
        family=first["family"],
        sweep=first["sweep"],
        method=first["method"],
        prompt=first["prompt"],
        schedule=schedule,
        seeds=seeds,
        stages=stages,
        scores=collect(records, tasks, general, seeds=seeds),
        records={(record.seed, record.stage, record.sample_id): record for record in records},
    )


def _drift(where: StageDir, trained: bool) -> Sequence[DriftRow] | str:
    if not trained:
        return "not trained yet"
    return read_drift(where.drift) if where.drift.exists() else "the stage was trained without measuring it"


def _matches(marker: Mapping[str, Any], plan: Mapping[str, Any], *keys: str) -> bool:
    return all(marker.get(key) == plan[key] for key in keys)


def _family_order(recipe_text: str, arms: list[ArmRun]) -> list[str]:
    """Families as the recipe lists them; plan.json may hold them in the order of several invocations."""
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
