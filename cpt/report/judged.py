"""What an LLM judge has said of a run's completions, if `cpt judge` has left something in its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.evaluate.stats import Bootstrap
from cpt.judge.files import FOLDER, Judged, Judgement, read_judged
from cpt.judge.reply import STATUSES
from cpt.judge.scores import Cell, Continual, cells, continual, current
from cpt.report.load import ArmRun, RunData

REPLIES = 8  # shown of every judge
_LONGEST = 2000  # characters of a reply on the page


@dataclass(frozen=True)
class JudgedView:
    """One judge by one rubric.

    Attributes:
        outdated: judgements of records that were made again, or are gone, since.
        counts: the others by status.
        replies: some of them, those without scores first.
    """

    judged: Judged
    arms: Sequence[ArmRun]
    outdated: int
    counts: Mapping[str, int]
    cells: Sequence[Cell]
    continual: Continual
    replies: Sequence[Judgement]

    @property
    def columns(self) -> list[str]:
        """Titles of the aspects."""
        return [f"{aspect.name}, {aspect.range[0]:g}–{aspect.range[1]:g}" for aspect in self.judged.rubric.aspects]

    def of_arm(self, arm: ArmRun) -> list[Cell]:
        """Its evaluations."""
        return [cell for cell in self.cells if cell.arm == arm.name]

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "rubric": {"name": self.judged.rubric.name, "digest": self.judged.rubric.digest},
            "judge": dict(self.judged.about["judge"]),
            "outdated": self.outdated,
            "counts": dict(self.counts),
            "samples": {task: list(both) for task, both in self.continual.samples.items()},
            "cells": [cell.as_dict() for cell in self.cells],
            "arms": {
                arm: {name: metric.as_dict() for name, metric in own.items()}
                for arm, own in self.continual.metrics.items()
            },
        }


def judged_views(run: RunData, bootstrap: Bootstrap) -> list[JudgedView]:
    """Every judge's. ValueError for a damaged file."""
    return [_view(run, judged, bootstrap) for judged in read_judged(run.root / FOLDER)]


def _view(run: RunData, judged: Judged, bootstrap: Bootstrap) -> JudgedView:
    records = {arm.name: list(arm.records.values()) for arm in run.arms}
    rows = current(judged.rows, (record for own in records.values() for record in own))
    counts = Counter(row.status for row in rows)
    asked = {row.arm for row in rows}
    return JudgedView(
        judged=judged,
        arms=[arm for arm in run.arms if arm.name in asked],
        outdated=len(judged.rows) - len(rows),
        counts={status: counts[status] for status in STATUSES},
        cells=cells(rows, judged.rubric),
        continual=continual(
            {name: own for name, own in records.items() if name in asked},
            rows,
            run.tasks,
            judged.rubric.name,
            bootstrap,
        ),
        replies=_some(rows),
    )


def _some(rows: Sequence[Judgement]) -> list[Judgement]:
    """One of each status that gives no score, then the lowest and the highest totals; no reply twice."""
    different = list({row.prompt: row for row in rows}.values())
    without = [next((row for row in different if row.status == status), None) for status in STATUSES[1:]]
    scored = sorted((row for row in different if row.total is not None), key=lambda row: row.total or 0.0)
    rest = REPLIES - sum(row is not None for row in without)
    if len(scored) > rest:
        scored = [*scored[: rest - rest // 2], *scored[-(rest // 2) :]]
    return [*(row for row in without if row is not None), *scored]


def shortened_reply(row: Judgement) -> str:
    """Its words, or the beginning of them."""
    return row.reply if len(row.reply) <= _LONGEST else row.reply[:_LONGEST] + "…"
