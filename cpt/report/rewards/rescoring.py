"""Rescores the recorded held-out completions with each arm's own reward, without a model.

A reward may be Python text in the recipe. The run itself executes it and keeps the scores in rewards.parquet; `cpt
report` executes no text from the folder and reads that file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.common.files import atomic_path
from cpt.common.parquet import read_rows
from cpt.recipe.rewards import RewardSpec
from cpt.report.load import ArmRun, RunData
from cpt.report.sample_cards import held_out_samples, same_question
from cpt.tasks import get_task
from cpt.tasks.row import reward_row
from cpt.types import PromptStyle, Record, Sample
from rewards.batch import guarded
from rewards.lab.saved import write_table
from rewards.score import Score

FILE = "rewards.parquet"
Key = tuple[int, int, str]
"""(seed, stage, sample id), as `ArmRun.records` has it."""
_COLUMNS = ("arm", "seed", "stage", "task", "sample_id", "reward", "status", "extracted", "detail", "identity")


@dataclass(frozen=True)
class Rescored:
    """One arm's completions on the trained tasks.

    Attributes:
        samples: by id, made again; without those that this installation's tasks make differently.
        scores: by key, of every record that could be scored.
        identities: by key; an identity changes with the reward and with the completion.
    """

    samples: Mapping[str, Sample]
    scores: Mapping[Key, Score]
    identities: Mapping[Key, str]


def spec_of(arm: ArmRun, index: int, task: str) -> RewardSpec | None:
    """The reward of an arm on the task of this 1-based place; None for the task's own."""
    found = arm.reward(arm.seeds[0], index, task)
    return None if found is None else RewardSpec.model_validate(found)


def may_run(spec: RewardSpec | None, trusted: frozenset[str] | None) -> bool:
    """Whether all functions in a reward may be executed."""
    return spec is None or spec.code() <= (trusted or frozenset())


def rescore(
    run: RunData, arm: ArmRun, *, trusted: frozenset[str] | None, kept: Mapping[tuple[str, Key], tuple[str, Score]]
) -> Rescored:
    """Score an arm's records of the trained tasks with the reward of the task's own stage.

    Args:
        trusted: texts of functions that may be executed; scores of others are taken from `kept`.
        kept: the result of `read_scores`.
    """
    samples: dict[str, Sample] = {}
    scores: dict[Key, Score] = {}
    identities: dict[Key, str] = {}
    for index, task in enumerate(run.tasks, start=1):
        plan = arm.stages[arm.seeds[0], arm.rows(index)[1]].plan
        records = {key: record for key, record in arm.records.items() if record.task == task}
        samples |= (own := _samples(task, records.values()))
        spec = spec_of(arm, index, task)
        for key, record in records.items():
            identities[key] = _identity(plan, record)
        if may_run(spec, trusted):
            scores |= _scores(task, spec, plan, records, own)
        else:
            for key in records:
                identity, score = kept.get((arm.name, key), ("", None))
                if score is not None and identity == identities[key]:
                    scores[key] = score
    return Rescored(samples, scores, identities)


def _samples(task: str, records: Iterable[Record]) -> dict[str, Sample]:
    found = list(records)
    made = held_out_samples(task, len({record.sample_id for record in found})) if found else {}
    return {
        r.sample_id: made[r.sample_id] for r in found if r.sample_id in made and same_question(made[r.sample_id], r)
    }


def _scores(
    task: str,
    spec: RewardSpec | None,
    plan: Mapping[str, Any],
    records: Mapping[Key, Record],
    samples: Mapping[str, Sample],
) -> dict[Key, Score]:
    reward = None if spec is None else spec.build()
    prompt: PromptStyle = plan["prompt"]
    limit = plan.get("max_completion_length")
    found = {}
    for key, record in records.items():
        sample = samples.get(record.sample_id)
        if sample is None:
            continue
        if reward is None:
            found[key] = get_task(task).reward(sample, record.completion, prompt)
        else:
            row = reward_row(
                sample, prompt, finish_reason=record.finish_reason, n_tokens=record.n_tokens, max_tokens=limit
            )
            found[key] = guarded(reward, record.completion, row)
    return found


def _identity(plan: Mapping[str, Any], record: Record) -> str:
    text = f"{plan['key']}\0{record.completion}"
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def write_scores(root: Path, run: RunData, rescored: Mapping[str, Rescored]) -> None:
    """Write rewards.parquet: one row per arm and held-out completion of a trained task; `reward` is null on failure."""
    rows: list[tuple[Any, ...]] = []
    for arm in run.arms:
        if arm.name in rescored:
            of = rescored[arm.name]
            for key, score in sorted(of.scores.items()):
                value = None if score.failed else score.value
                task = arm.records[key].task
                rows.append((arm.name, *key[:2], task, key[2], value, score.status, score.extracted, score.detail,
                             of.identities[key]))  # fmt: skip
    columns = dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    if columns:
        with atomic_path(root / FILE) as temporary:
            write_table(temporary, columns, ".parquet")


def read_scores(root: Path) -> dict[tuple[str, Key], tuple[str, Score]]:
    """The scores that `write_scores` kept: (arm, key) → (identity, score). Empty without the file."""
    if not (root / FILE).is_file():
        return {}
    import pyarrow as pa

    texts, numbers = (
        dict.fromkeys(_COLUMNS, pa.string()),
        {"seed": pa.int64(), "stage": pa.int64(), "reward": pa.float64()},
    )
    schema = pa.schema(list({**texts, **numbers}.items()))
    rows, _ = read_rows(root / FILE, schema, "delete it, and the run's own command makes it again")
    found = {}
    for row in rows:
        arm, seed, stage, _, name, value, status, extracted, detail, identity = (row[column] for column in _COLUMNS)
        score = Score(0.0 if value is None else value, {}, extracted, status, detail)
        found[arm, (seed, stage, name)] = (identity, score)
    return found
