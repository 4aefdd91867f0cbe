"""One stage's folder as plain data for the report; every file is checked against what the run wrote."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cpt.common.files import read_json
from cpt.evaluate.drift import DriftRow, read_drift
from cpt.store.folder import StageDir
from cpt.store.imported import ImportedTask, read_imported
from cpt.store.records import read_steps
from cpt.store.results import check_stage_json, check_trained, read_marker
from cpt.store.run_store import RunStore, read_metrics
from cpt.store.schemas import Done, Measured, PlannedStage, Trained
from cpt.types import Record

# Names in metrics.jsonl.
GAP = "logprob_gap"
REWARD, LOSS, TOKEN_ACCURACY, NO_VARIANCE = "reward", "loss", "token_accuracy", "frac_zero_std"
STEP_SECONDS = "step_s"
DRIFT = "drift"  # the evaluator
PHASE_SECONDS = re.compile(r"phase/(.+)_s")


@dataclass(frozen=True)
class StageRun:
    """One planned stage and its results so far.

    Attributes:
        plan: its entry in plan.json.
        trained: whether its steps are complete.
        evaluated: whether its records are complete.
        metrics: one row per step so far.
        drift: one row per prompt, or the reason why there are none.
        during: step → records of the policy after it; empty where it was not evaluated in training.
    """

    plan: Mapping[str, Any]
    trained: bool
    evaluated: bool
    metrics: list[dict[str, Any]]
    drift: Sequence[DriftRow] | str
    during: Mapping[int, Sequence[Record]] = field(default_factory=dict)

    @property
    def last_step(self) -> int:
        """Optimizer steps made so far."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def max_gap(self) -> float | None:
        """Largest log-probability gap between engine and trainer of any step, in nats; None without rollouts."""
        gaps = [row[GAP] for row in self.metrics if row.get(GAP) is not None]
        return max(gaps) if gaps else None


@dataclass
class Reader:
    """Reads the stages of one run folder.

    Attributes:
        sealed: whether its files have seals and digests.
        bases: (prompt, seed) → key of the base model's evaluation, as planned.
        notes: files that are missing, in words.
    """

    store: RunStore
    sealed: bool
    bases: Mapping[tuple[str, int], str]
    notes: list[str] = field(default_factory=list)

    def stage(self, plan: Mapping[str, Any]) -> StageRun:
        """A planned stage and its results so far. ValueError for a file that is not what the run wrote."""
        where = self.store.stage_dir(plan["arm"], plan["seed"], plan["index"], plan["task"])
        begun = where.stage_json.exists()
        if self.sealed and begun:
            check_stage_json(where, plan)
        own = begun and read_json(where.stage_json, PlannedStage, sealed=self.sealed)["key"] == plan["key"]
        trained = self._marked(where, plan, own)
        if trained and self.sealed:
            check_trained(where, only={where.metrics.name, where.filter.name, where.during.name})
        metrics = read_metrics(where.metrics, sealed=self.sealed)
        evaluated = trained and self._evaluated(where, plan["key"], own)
        if trained and not where.metrics.exists() and where.metrics.name in self._listed(where):
            self.missing(where.metrics)
        asked = "drift" not in plan or bool(plan["drift"]["samples"])  # earlier versions planned no drift
        drift, during = self._drift(where, trained, plan["key"], asked), self._during(where, plan) if trained else {}
        return StageRun(plan, trained, evaluated, metrics, drift, during)

    def imported(self, arm: str, planned: Sequence[Mapping[str, Any]]) -> list[ImportedTask]:
        """What was scored elsewhere of an arm's policies and of its base model, labelled as the arm's.

        Raises:
            ValueError: a file is not what was imported, or of another policy.
        """
        found = []
        for seed, prompt in dict.fromkeys((plan["seed"], plan["prompt"]) for plan in planned):
            for one in read_imported(self.store.base_dir(seed, prompt), self.bases.get((prompt, seed))):
                found.append(replace(one, records=tuple(replace(record, arm=arm) for record in one.records)))
        for plan in planned:
            found += read_imported(self.store.stage_dir(arm, plan["seed"], plan["index"], plan["task"]), plan["key"])
        return found

    def check_base(self, prompt: str, seed: int) -> None:
        """ValueError if the base model's evaluation is not the planned one."""
        self._evaluated(self.store.base_dir(seed, prompt), self.bases.get((prompt, seed)), own=True)

    def _marked(self, where: StageDir, plan: Mapping[str, Any], own: bool) -> bool:
        """Whether the stage is trained as planned. `own`: the folder is the planned stage's, by its stage.json."""
        if not where.trained.exists():
            return False
        marker = read_marker(where.trained, Trained, sealed=self.sealed)
        matches = bool(marker["key"] == plan["key"] and marker["steps"] == plan["steps"])
        if self.sealed and own != matches:
            raise ValueError(
                f"{where.trained}: not what the run wrote here: it is of another stage; put it back, or delete "
                f"{where.root}, and the same command trains the stage again"
            )
        return matches

    def _evaluated(self, where: StageDir, key: str | None, own: bool) -> bool:
        if not where.done.exists():
            return False
        matches = bool(read_marker(where.done, Done, sealed=self.sealed)["key"] == key)
        if self.sealed and own and not matches:
            raise ValueError(f"{where.done}: not what the run wrote here: it is of another evaluation; {_AGAIN}")
        if matches and not where.records.exists():
            self.missing(where.records)
            return False
        return matches

    def _drift(self, where: StageDir, trained: bool, key: str, asked: bool) -> Sequence[DriftRow] | str:
        if not trained:
            return "not trained yet"
        if not asked:
            return "not asked for"  # any more, perhaps: then some stages would have it and others not
        marker, files = where.marker(DRIFT), self._listed(where)  # before format 3 training measured it
        if marker.exists():
            found = read_marker(marker, Measured, sealed=self.sealed)
            files = found["files"]
            if found["key"] != key:
                raise ValueError(f"{marker}: not what the run wrote here: it is of another evaluation; {_AGAIN}")
        there = where.drift.exists()
        if where.drift.name not in files and (self.sealed or not there):
            return "not measured"  # what lies there was left by an interruption
        if not there:
            self.missing(where.drift)
            return "drift.parquet is missing"
        return read_drift(where.drift, files.get(where.drift.name))

    def _during(self, where: StageDir, plan: Mapping[str, Any]) -> dict[int, list[Record]]:
        """What was measured in training, whatever the recipe asks for now."""
        digest = self._listed(where).get(where.during.name)
        if digest is None:
            return {}
        if not where.during.exists():
            self.missing(where.during)
            return {}
        found = read_steps(where.during, digest)
        for step, records in found.items():
            whose = {(record.arm, record.seed, record.stage) for record in records}
            if whose != {(plan["arm"], plan["seed"], plan["index"])} or not 0 < step < plan["steps"]:
                raise ValueError(
                    f"{where.during}: not what the run wrote here: step {step} is of another stage; {_AGAIN}"
                )
        return found

    def _listed(self, where: StageDir) -> Mapping[str, Any]:
        files: Mapping[str, Any] = read_marker(where.trained, Trained, sealed=self.sealed)["files"]
        return files

    def missing(self, path: Path) -> None:
        """Note that a file is missing."""
        name = path.absolute().relative_to(self.store.root.absolute())
        self.notes.append(f"{name} is missing: what is made from it is n/a.")


_AGAIN = "delete it, and the same command evaluates again"
