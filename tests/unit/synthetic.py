"""Records made by hand, for tests of metrics and of the report."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from cpt.common.digests import file_digest, listing
from cpt.common.files import SEAL, append_jsonl, jsonl_line, read_json, write_json_atomic
from cpt.store.folder import GENERATION, StageDir
from cpt.store.records import read_records, write_records, write_steps
from cpt.store.results import written
from cpt.store.run_store import RunStore
from cpt.types import Record

Bits = Sequence[int] | str

RECORD = Record(
    arm="sft",
    seed=0,
    stage=1,
    task="which-row",
    sample_id="which-row/test/0",
    prompt="<user> which row ? <assistant>",
    completion="<answer> top </answer>",
    finish_reason="stop",
    extracted="top",
    gold=["top", "upper"],
    score=1,
    tolerant=1,
    n_tokens=4,
    question_id="0f",
)


def record(arm: str, seed: int, stage: int, task: str, number: int, strict: int, tolerant: int | None = None) -> Record:
    """One evaluated sample; tolerant scoring is strict's unless given."""
    return Record(
        arm=arm,
        seed=seed,
        stage=stage,
        task=task,
        sample_id=f"{task}/test/{number}",
        prompt=f"question {number}",
        completion="<answer> yes </answer>" if strict else "no",
        finish_reason="stop",
        extracted="yes" if strict else "no",
        gold=["yes"],
        score=strict,
        tolerant=strict if tolerant is None else tolerant,
        n_tokens=4,
    )


def records(
    cells: Mapping[tuple[int, str], Bits],
    *,
    tolerant: Mapping[tuple[int, str], Bits] | None = None,
    arm: str = "sft",
    seed: int = 0,
) -> list[Record]:
    """Records of one arm and seed from bits per (stage, task): `{(0, "a"): "01"}` is two samples, the second right."""
    rows = []
    for (stage, task), bits in cells.items():
        loose = (tolerant or {}).get((stage, task), bits)
        for number, (strict, other) in enumerate(zip(bits, loose, strict=True)):
            rows.append(record(arm, seed, stage, task, number, int(strict), int(other)))
    return rows


@dataclass(frozen=True)
class Arm:
    """How a made-up arm behaves. Shares of right answers; `style_loss` is lost to strict scoring only."""

    name: str
    method: str = "sft"
    sweep: Mapping[str, Any] = field(default_factory=dict)
    gain: float = 0.3
    forget: float = 0.2
    general_loss: float = 0.1
    style_loss: float = 0.0
    schedule: str = "sequential"
    replay: Mapping[str, Any] | None = None

    @property
    def family(self) -> str:
        return self.name.partition("@")[0]


@dataclass(frozen=True)
class Stage:
    """A planned stage with the fields that the store and the report use."""

    arm: str
    family: str
    sweep: Mapping[str, Any]
    seed: int
    index: int
    task: str
    method: Mapping[str, Any]
    steps: int = 12
    prompt: str = "direct"
    max_logprob_gap: float = 1e-4
    global_batch: int = 64
    schedule: str = "sequential"
    replay: Mapping[str, Any] | None = None
    drift: Mapping[str, Any] = field(default_factory=lambda: {"samples": {"a": 3}})

    @property
    def key(self) -> str:
        return f"{self.arm}/{self.seed}/{self.index}"

    def as_dict(self) -> dict[str, Any]:
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "key": self.key}


@dataclass
class Plan:
    tasks: Sequence[str]
    general: Sequence[str]
    stages: list[Stage]

    def as_dict(self) -> dict[str, Any]:
        bases = dict.fromkeys((stage.prompt, stage.seed) for stage in self.stages)
        return {
            "tasks": list(self.tasks),
            "general": list(self.general),
            "stages": [stage.as_dict() for stage in self.stages],
            "bases": [{"prompt": prompt, "seed": seed, "key": "base"} for prompt, seed in bases],
        }

    def global_batch(self) -> dict[str, int]:
        return {stage.arm: stage.global_batch for stage in self.stages}


@dataclass
class Recipe:
    text: str
    name: str = "synthetic"
    seeds: Sequence[int] = (0,)
    may_change: frozenset[str] = frozenset()

    def resolved_hash(self) -> str:
        return hashlib.blake2b(self.text.encode()).hexdigest()

    def dump_yaml(self) -> str:
        return self.text


def make_run(
    root: Path,
    arms: Sequence[Arm],
    *,
    tasks: Sequence[str] = ("a", "b", "c"),
    general: Sequence[str] = ("x", "y"),
    samples: int = 8,
    seeds: Sequence[int] = (0,),
    steps: int = 12,
    stop_after: int = 10**6,
    completions: tuple[str, str] = ("<answer> yes </answer>", "no"),
    during: Sequence[int] = (),
) -> RunStore:
    """A run folder as a run leaves it, with made-up outcomes. Only the first `stop_after` stages are finished.

    Args:
        during: steps after which half of the samples are asked; by then earlier tasks are where they are at the end.
    """
    stages = [
        Stage(
            *(arm.name, arm.family, arm.sweep, seed, i, task, {"type": arm.method}, steps),
            schedule=arm.schedule,
            replay=arm.replay,
        )
        for arm in arms
        for seed in seeds
        for i, task in (
            [(len(tasks), "joint")] if arm.schedule == "joint" else [(i, task) for i, task in enumerate(tasks, start=1)]
        )
    ]
    recipe = Recipe("name: synthetic\narms:\n" + "".join(f"  {a.family}: {{}}\n" for a in arms), seeds=seeds)
    store = RunStore(root).open_or_create(recipe)
    store.write_plan(Plan(tasks, general, stages))
    columns = (*tasks, *general)
    by_name = {arm.name: arm for arm in arms}
    for seed in seeds:
        rows = [r for task in columns for r in _evaluation(Arm("base"), seed, 0, task, tasks, samples, completions)]
        mark_done(store, store.base_dir(seed, "direct"), "base", rows)
        store.add_event("evaluate", 4.0, arm="base", seed=seed, stage=0)
    for stage in stages[:stop_after]:
        arm = by_name[stage.arm]
        policy = store.begin_stage(stage).policy
        for row in _metrics(arm, stage):
            append_jsonl(store.stage(stage).metrics, row)
        policy.mkdir(exist_ok=True)
        (policy / "config.json").write_text("{}")
        _asked_between(store.stage(stage), arm, stage, during, columns, tasks, samples // 2)
        store.mark_trained(stage, steps=steps)
        rows = []
        for task in columns:
            rows += _evaluation(arm, stage.seed, stage.index, task, tasks, samples, completions)
        mark_done(store, store.stage(stage), stage.key, rows)
        labels = {"arm": stage.arm, "seed": stage.seed, "stage": stage.index}
        store.add_event("train", steps * 1.2, **labels)
        store.add_event("evaluate", 3.5, **labels)
    if stop_after >= len(stages):
        store.finish()
    store.close()
    return store


def _asked_between(
    where: StageDir,
    arm: Arm,
    stage: Stage,
    steps: Sequence[int],
    columns: Sequence[str],
    tasks: Sequence[str],
    samples: int,
) -> None:
    rows = []
    for task in columns:
        row = len(tasks) if task in tasks[: stage.index - 1] else stage.index
        asked = _evaluation(arm, stage.seed, row, task, tasks, samples, ("yes", "no"))
        rows += [replace(record, stage=stage.index) for record in asked]
    if steps:
        write_steps(where.during, dict.fromkeys(steps, rows))


def mark_done(store: RunStore, where: StageDir, key: str, rows: Sequence[Record], measures: str = "") -> None:
    """What an evaluation leaves."""
    store.forget(where, GENERATION)
    write_records(where.records, rows)
    store.mark_measured(where, GENERATION, key, measures, [where.records], records=len(rows))


def reseal(root: Path) -> None:
    """Make a run folder that a test has changed by hand what a run could have written: seals, sums and digests."""
    for path in root.rglob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(map(jsonl_line, rows)))
    for path in sorted(root.rglob("*.json"), key=lambda path: path.name):
        content = json.loads(path.read_text())
        if SEAL not in content:
            continue
        if path.name == "TRAINED.json":
            content["files"] = written(StageDir(path.parent))
        elif path.name == "DONE.json":
            content["files"] = listing(path.parent, [path.parent / "records.parquet"])
            content["records"] = len(read_records(path.parent / "records.parquet"))
        elif path.parent.name == "evaluated":
            content["files"] = listing(path.parents[1], [path.parents[1] / name for name in content["files"]])
        elif path.name == "manifest.json":
            content["recipe"] = file_digest(root / "recipe.yaml")
            if content.get("events"):
                content["events"] = file_digest(root / "events.jsonl")
        write_json_atomic(path, content, sealed=True)


def change_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """What `change` makes of a JSON file of ours, as the run would have written it."""
    content = read_json(path)
    change(content)
    write_json_atomic(path, content, sealed=True)


def _unit(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def _level(arm: Arm, stage: int, task: str, tasks: Sequence[str]) -> tuple[float, float]:
    """Strict and tolerant share of right answers."""
    if task not in tasks:
        strict = 0.97 - arm.general_loss * stage / len(tasks) if stage else 0.97
    else:
        own = tasks.index(task) + 1
        strict = 0.45 if stage < own else 0.45 + arm.gain - arm.forget * (stage - own) / max(1, len(tasks) - 1)
    lost = arm.style_loss if stage and (task not in tasks or tasks.index(task) + 1 != stage) else 0.0
    return strict * (1 - lost), strict


def _evaluation(
    arm: Arm, seed: int, stage: int, task: str, tasks: Sequence[str], samples: int, completions: tuple[str, str]
) -> list[Record]:
    level, loose = _level(arm, stage, task, tasks)
    rows = []
    for number, (sample_id, question, gold) in enumerate(_samples(task, samples)):
        # Mostly the same samples are easy for everybody; a tenth of it is luck.
        ease = 0.9 * _unit(task, number) + 0.1 * _unit(arm.name, seed, stage, task, number)
        strict = int(ease < level)
        rows.append(
            Record(
                arm=arm.name,
                seed=seed,
                stage=stage,
                task=task,
                sample_id=sample_id,
                prompt=f"<user> {question} <assistant>",
                completion=completions[1 - strict],
                finish_reason="stop",
                extracted="yes" if strict else "no",
                gold=list(gold),
                score=strict,
                tolerant=int(ease < loose),
                n_tokens=4,
            )
        )
    return rows


@lru_cache
def _samples(task: str, n: int) -> list[tuple[str, str, tuple[str, ...]]]:
    """Ids, questions and answers: those of the real task if there is one of this name."""
    from cpt.tasks import get_task, task_names

    if task in task_names():
        return [(sample.id, sample.question, sample.gold) for sample in get_task(task).samples("test", n)]
    return [(f"{task}/test/{number}", f"question {number}", ("yes",)) for number in range(n)]


def _metrics(arm: Arm, stage: Stage) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, stage.steps + 1):
        part = step / stage.steps
        noise = 0.04 * (_unit(arm.name, stage.index, step) - 0.5)
        row: dict[str, Any] = {"step": step, "loss": math.exp(-3 * part) + noise, "tokens_per_s": 4000.0}
        row["step_s"] = 0.6 if arm.method == "sft" else 1.05
        if arm.method == "sft":
            row["token_accuracy"] = 0.5 + 0.45 * (1 - math.exp(-4 * part)) + noise
        else:
            row["reward"] = 0.45 + arm.gain * (1 - math.exp(-2 * part)) + noise
            row["logprob_gap"] = 1e-6 * (1 + 5 * _unit(arm.name, step))
            row |= {"phase/push_s": 0.1, "phase/rollout_s": 0.35, "phase/optimizer_s": 0.08, "phase/rest_s": 0.02}
            row["frac_zero_std"] = 0.2 + 0.3 * part
        rows.append(row)
    return rows
