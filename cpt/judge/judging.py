"""Judging the records of a run: what is not judged yet is asked, once, and kept as it comes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import cpt
from cpt.common.console import counted
from cpt.judge.asked import Judge, Question, Reply
from cpt.judge.files import Judged, Judgement, Store, record_digest
from cpt.judge.questions import KnownTask, known_task, question_of
from cpt.judge.reply import STATUSES, read_reply
from cpt.store.folder import lock
from cpt.store.manifest import now
from cpt.types import Record

_EVERY = 15.0  # seconds between two lines of progress
Open = Callable[[Sequence[Question]], AbstractContextManager[Judge]]


@dataclass
class Judging:
    """Who judges what by which rubric, and where that is kept.

    Attributes:
        model: the judge's name.
        where: the host that is asked, or "this machine".
        open: gives the judge for these questions; not called where nothing is left to ask.
        tell: prints a line.
    """

    store: Store
    model: str
    where: str
    open: Open
    tell: Callable[[str], None] = print
    _answered: int = field(default=0, init=False)
    _told: float = field(default_factory=time.monotonic, init=False)

    def run(self, records: Sequence[Record], recorded: Mapping[str, int]) -> Judged:
        """Judge these records.

        Args:
            recorded: how many samples of every task among them are recorded: its first test samples.

        Raises:
            ValueError: the judge can't be asked, the folder is in use, or a file in it is damaged.
            RunFailed: the judge has stopped to answer; what it has said is kept.
        """
        rubric = self.store.rubric
        by_task: dict[str, list[Record]] = {}
        for record in records:
            by_task.setdefault(record.task, []).append(record)
        known = {name: known_task(name, recorded[name], own, pictures=rubric.pictures) for name, own in by_task.items()}
        asked = [(record, question_of(record, known[record.task], rubric)) for record in records]
        taken = lock(self.store.root)
        try:
            return self._judge(asked, known)
        finally:
            taken.release()

    def _judge(self, asked: Sequence[tuple[Record, Question]], known: Mapping[str, KnownTask]) -> Judged:
        self.store.about()  # damaged, it would be in the way only at the end
        before = {row.identity: row for row in self.store.rows()}
        replies = {row.prompt: _as_said(row) for row in before.values() if row.status != "failed"}
        replies |= self.store.replies()
        different = {question.digest: question for _, question in asked}
        missing = [question for digest, question in different.items() if digest not in replies]
        self._announce(len(asked), len(different), len(missing), known)
        began = now()
        if missing:
            self.store.note({"began": began})
            self._ask(missing, replies)
        rows = [self._row(record, question, replies[question.digest]) for record, question in asked]
        after = before | {row.identity: row for row in rows}
        if missing or after != before:
            self.store.note({"writing": now()})
            self.store.write(after.values(), self._about(after, known, began, len(missing)))
        return Judged(self.store.rubric, self.store.about(), rows)

    def _announce(self, records: int, different: int, missing: int, known: Mapping[str, KnownTask]) -> None:
        alike = f", {different} different ones" if different < records else ""
        judge = f"{self.model} ({self.where})"
        done = f"; {different - missing} are judged already" if missing < different else ""
        self.tell(f"{counted(records, 'completion')}{alike}, rubric {self.store.rubric.name}, judge {judge}{done}")
        for name, task in known.items():
            if task.missing:
                without = ", without pictures" if self.store.rubric.pictures else ""
                self.tell(f"task {name} is judged by its recorded prompts{without}: {task.missing}")

    def _ask(self, missing: Sequence[Question], replies: dict[str, dict[str, Any]]) -> None:
        def keep(question: Question, reply: Reply) -> None:
            found = self._read(question, reply)
            replies[question.digest] = found
            if found["status"] != "failed":
                self.store.note(found)
            self._progress(len(missing))

        with self.open(missing) as judge:
            judge.ask(missing, keep)

    def _progress(self, of: int) -> None:
        self._answered += 1
        if time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            self.tell(f"{self._answered} of {of} answered")

    def _read(self, question: Question, reply: Reply) -> dict[str, Any]:
        """A line of the journal."""
        rubric = self.store.rubric
        reading = read_reply(reply, rubric.asked(picture=question.picture == "shown"), rubric.reply)
        said = {"status": reading.status, "reason": reading.reason, "reply": reply.text, "scores": reading.scores}
        return {"prompt": question.digest, **said}

    def _row(self, record: Record, question: Question, said: Mapping[str, Any]) -> Judgement:
        rubric = self.store.rubric
        return Judgement(
            arm=record.arm,
            seed=record.seed,
            stage=record.stage,
            task=record.task,
            sample_id=record.sample_id,
            picture=question.picture,
            status=said["status"],
            scores=said["scores"],
            total=rubric.total(said["scores"]) if said["status"] == "ok" else None,
            reply=said["reply"],
            reason=said["reason"],
            judge=self.model,
            rubric=rubric.digest,
            prompt=question.digest,
            record=record_digest(record),
        )

    def _about(
        self, rows: Mapping[Any, Judgement], known: Mapping[str, KnownTask], began: str, asked: int
    ) -> dict[str, Any]:
        old = self.store.about()
        where = [*old.get("judge", {}).get("where", []), self.where]
        counts = Counter(row.status for row in rows.values())
        tasks = {name: task.missing or "known here" for name, task in known.items()}
        return {
            "judge": {
                "model": self.model,
                "where": list(dict.fromkeys(where)),
                **self.store.identity,
                "temperature": 0,
            },
            "began": old.get("began", began),
            "ended": now(),
            "commands": [
                *old.get("commands", []),
                {"began": began, "ended": now(), "asked": asked, "where": self.where},
            ],
            "counts": {"records": len(rows), **{status: counts[status] for status in STATUSES}},
            "pictures": dict(Counter(row.picture for row in rows.values())),
            "tasks": {**old.get("tasks", {}), **tasks},
            "cpt": cpt.__version__,
        }


def _as_said(row: Judgement) -> dict[str, Any]:
    """A row as a line of the journal."""
    said = {"status": row.status, "reason": row.reason, "reply": row.reply, "scores": dict(row.scores)}
    return {"prompt": row.prompt, **said}
