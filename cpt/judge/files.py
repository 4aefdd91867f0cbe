"""Judgements on disk, beside the records that were judged and never in them.

    judgements/<rubric>-<digest>.parquet   a row per judged record
    judgements/<rubric>-<digest>.json      rubric, judge, dates, counts: what a reader needs to know of them
    judgements/<rubric>-<digest>.jsonl     replies as they come, until the two others are written

The digest is of the rubric and of the judge: its model, seed and limit of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from cpt.common.digests import Digest, bytes_digest, file_digest
from cpt.common.files import append_jsonl, atomic_path, read_json, read_jsonl, write_json_atomic
from cpt.common.parquet import read_rows
from cpt.judge.asked import Picture
from cpt.judge.reply import Status
from cpt.judge.rubric import GUARD, Rubric
from cpt.types import Record

FOLDER = "judgements"  # in a run's folder, or beside a records.parquet
FORMAT = "cpt-judgements"
AGAIN = "delete it and the files of the same name beside it, and run the same cpt judge command again"
Identity = tuple[str, int, int, str, str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """One record's.

    Attributes:
        picture: whether the judge saw the pictures, see `cpt.judge.asked.Question`.
        scores: by aspect, in its own range; empty unless `status` is ok.
        total: from 0 to 1; None unless `status` is ok.
        reply: the judge's words, whole.
        reason: why there are no scores.
        judge, rubric: the model's name, and digests of the rubric and of the prompt with its pictures.
        record: digest of what was judged (`record_digest`): a record that has changed since is not judged.
    """

    arm: str
    seed: int
    stage: int
    task: str
    sample_id: str
    picture: Picture
    status: Status
    scores: Mapping[str, float]
    total: float | None
    reply: str
    reason: str
    judge: str
    rubric: str
    prompt: str
    record: str

    @property
    def identity(self) -> Identity:
        """Which record it is of."""
        return identity_of(self)


def identity_of(one: Record | Judgement) -> Identity:
    """What makes a record that of one evaluation."""
    return one.arm, one.seed, one.stage, one.task, one.sample_id


def record_digest(record: Record) -> str:
    """Of what a judge may be shown of a record."""
    shown = [record.sample_id, record.prompt, record.completion, record.gold, record.question_id]
    return bytes_digest(json.dumps(shown).encode())[:16]


@dataclass(frozen=True)
class Judged:
    """All judgements of one judge by one rubric, and what is known of them.

    Attributes:
        about: the JSON beside them.
    """

    rubric: Rubric
    about: Mapping[str, Any]
    rows: Sequence[Judgement]

    @property
    def model(self) -> str:
        """The judge's name."""
        return str(self.about["judge"]["model"])


class _Asked(BaseModel):
    model_config = ConfigDict(extra="allow")
    model: str
    where: list[str]


class _About(BaseModel):
    """The JSON."""

    model_config = ConfigDict(extra="allow")
    format: Literal["cpt-judgements"]
    rubric: dict[str, Any]
    judge: _Asked
    counts: dict[str, int]
    files: dict[str, dict[str, Any]]


@dataclass
class Store:
    """The files of one judge and rubric.

    Attributes:
        root: the folder `judgements`.
        identity: all of the judge that its replies depend on.
    """

    root: Path
    rubric: Rubric
    identity: Mapping[str, Any]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        content = json.dumps([self.rubric.digest, dict(self.identity)], sort_keys=True)
        self.name = f"{self.rubric.name}-{bytes_digest(content.encode())[:12]}"

    @property
    def parquet(self) -> Path:
        return self.root / f"{self.name}.parquet"

    @property
    def json(self) -> Path:
        return self.root / f"{self.name}.json"

    @property
    def journal(self) -> Path:
        return self.root / f"{self.name}.jsonl"

    def about(self) -> dict[str, Any]:
        """The JSON; {} before the first."""
        return read_json(self.json, _About, sealed=True, advice=AGAIN) if self.json.exists() else {}

    def rows(self) -> list[Judgement]:
        """What was written last."""
        if not self.parquet.exists():
            return []
        # A journal that is still there says that the writing of the others may have been cut short.
        digest = None if self.journal.exists() else self.about().get("files", {}).get(self.parquet.name)
        return read_judgements(self.parquet, self.rubric, digest)

    def replies(self) -> dict[str, dict[str, Any]]:
        """What a command that did not come to its end has been told, by the prompt's digest."""
        found = read_jsonl(self.journal, advice=AGAIN)
        return {row["prompt"]: row for row in found if "prompt" in row}

    def note(self, row: Mapping[str, Any]) -> None:
        """Add a line to the journal."""
        append_jsonl(self.journal, row)

    def write(self, rows: Iterable[Judgement], about: Mapping[str, Any]) -> None:
        """All of it, whole; then the journal goes."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        found = [{**_plain(row), **{a.name: row.scores.get(a.name) for a in self.rubric.aspects}} for row in rows]
        with atomic_path(self.parquet) as temporary:
            pq.write_table(pa.Table.from_pylist(found, schema=_schema(self.rubric)), temporary, compression="zstd")
        rubric = {**self.rubric.model_dump(mode="json"), "guard": GUARD, "digest": self.rubric.digest}
        files = {self.parquet.name: file_digest(self.parquet)}
        content = {"format": FORMAT, "format_version": 1, "rubric": rubric, **about, "files": files}
        write_json_atomic(self.json, content, sealed=True)
        self.journal.unlink(missing_ok=True)


def read_judged(folder: Path) -> list[Judged]:
    """Everything in a folder `judgements`; [] if there is none.

    Raises:
        ValueError: a file is damaged, or not what was written.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        about = read_json(path, _About, sealed=True, advice=AGAIN)
        try:
            rubric = Rubric.model_validate({name: about["rubric"].get(name) for name in Rubric.model_fields})
        except ValueError as error:
            raise ValueError(f"{path}: not what cpt judge writes: its rubric; {AGAIN}") from error
        parquet = path.with_suffix(".parquet")
        if not parquet.exists():
            raise ValueError(f"{parquet} is missing; {AGAIN}")
        found.append(Judged(rubric, about, read_judgements(parquet, rubric, about["files"].get(parquet.name))))
    return found


def read_judgements(path: Path, rubric: Rubric, digest: Digest | None = None) -> list[Judgement]:
    """The rows of one file. ValueError if it is damaged, or has other columns than the rubric's."""
    names = [aspect.name for aspect in rubric.aspects]
    found, _ = read_rows(path, _schema(rubric), AGAIN, digest=digest)
    rows = []
    for row in found:
        scores = {name: row.pop(name) for name in names}
        rows.append(Judgement(**row, scores={name: score for name, score in scores.items() if score is not None}))
    return rows


def _plain(row: Judgement) -> dict[str, Any]:
    return {name: value for name, value in asdict(row).items() if name != "scores"}


def _schema(rubric: Rubric) -> Any:
    import pyarrow as pa

    texts = ("task", "sample_id", "picture", "status")
    return pa.schema(
        [
            pa.field("arm", pa.string(), nullable=False),
            pa.field("seed", pa.int32(), nullable=False),
            pa.field("stage", pa.int32(), nullable=False),
            *(pa.field(name, pa.string(), nullable=False) for name in texts),
            *(pa.field(aspect.name, pa.float64()) for aspect in rubric.aspects),
            pa.field("total", pa.float64()),
            *(
                pa.field(n, pa.string(), nullable=False)
                for n in ("reply", "reason", "judge", "rubric", "prompt", "record")
            ),
        ]
    )
