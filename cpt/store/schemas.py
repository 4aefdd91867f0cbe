"""The fields that our JSON files must have. They may have more."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, field_validator

FORMAT = "cpt-run"


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class FileDigest(_Shape):
    """See `cpt.common.digests.Digest`."""

    bytes: NonNegativeInt
    blake2b: str


class Attempt(_Shape):
    """One call of `cpt run`."""

    started: str
    ended: str | None
    status: str

    @field_validator("started", "ended")
    @classmethod
    def _is_moment(cls, value: str | None) -> str | None:
        if value is not None:
            datetime.fromisoformat(value)
        return value


class Manifest(_Shape):
    """manifest.json."""

    format: Literal["cpt-run"]
    format_version: int
    name: str
    recipe_hash: str
    attempts: list[Attempt] = Field(min_length=1)
    global_batch: dict[str, int]
    phases_seconds: dict[str, float]
    versions: dict[str, str]
    hardware: dict[str, Any]
    recipe: FileDigest | None = None
    events: FileDigest | None = None  # digest of events.jsonl when an attempt ended; it may have grown since


class PlannedStage(_Shape):
    """A stage in plan.json, and stage.json."""

    arm: str
    seed: int
    index: int = Field(ge=1)
    task: str
    steps: NonNegativeInt
    key: str


class PlannedBase(_Shape):
    """An evaluation of the base model in plan.json."""

    seed: int
    prompt: str
    key: str


class Plan(_Shape):
    """plan.json."""

    recipe_hash: str
    stages: list[PlannedStage]
    bases: list[PlannedBase]


class PlannedDrift(_Shape):
    """What drift a stage is asked for; earlier versions planned none."""

    samples: dict[str, NonNegativeInt]


class ReportedStage(PlannedStage):
    """What the report needs of a planned stage."""

    family: str
    sweep: dict[str, Any]
    prompt: Literal["direct", "think"]
    method: dict[str, Any]
    max_logprob_gap: float
    global_batch: int
    drift: PlannedDrift | None = None


class ReportedPlan(_Shape):
    """What the report needs of plan.json; earlier versions wrote no hash."""

    tasks: list[str]
    general: list[str]
    stages: list[ReportedStage]
    bases: list[PlannedBase]


class Marker(_Shape):
    """What TRAINED.json and the evaluators' markers have in common; runs of format 1 list no files."""

    key: str
    files: dict[str, FileDigest] = Field(default_factory=dict)


class Trained(Marker):
    """TRAINED.json."""

    steps: int


class Measured(Marker):
    """An evaluator's marker: `measures` is the identity of what it measured; before format 3 it was part of the key."""

    measures: str = ""


class Imported(Measured):
    """The marker of scores that were made elsewhere."""

    task: str
    source: str
    metric: str
    records: NonNegativeInt


class Done(Measured):
    """DONE.json."""

    records: NonNegativeInt


class Audits(_Shape):
    """rewards.json; since format 2 it lists the digest of rewards.parquet."""

    audits: dict[str, dict[str, Any]]
    files: dict[str, FileDigest] = Field(default_factory=dict)


class Checkpoint(_Shape):
    """DIGESTS.json of a checkpoint: digests of its files, and of how the files beside it began when it was saved."""

    key: str
    step: int
    files: dict[str, FileDigest]
    beside: dict[str, FileDigest]
