"""One task as another program has scored it, whatever its file format, and how it becomes our records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt.common.keys import nearest, shortened
from cpt.types import FinishReason, Record

NO_FILTER = ",none"  # ends what lm-eval calls a metric of unfiltered answers
CPT = "cpt"  # where the log is one that `cpt export` has written


@dataclass(frozen=True)
class Answer:
    """What one metric says of a sample: a number, None where it says none, and the answer that it read."""

    value: float | None
    extracted: str = ""


@dataclass(frozen=True)
class ForeignSample:
    """One sample of a log.

    Attributes:
        where: file and line, or the sample's place, for messages.
        id: its name in the log, unique there.
        question: identity of what was asked; empty where the log has none.
        answers: per metric.
    """

    where: str
    id: str
    prompt: str
    completion: str
    gold: tuple[str, ...]
    answers: Mapping[str, Answer]
    question: str = ""
    n_tokens: int = 0
    finish_reason: FinishReason = "stop"


@dataclass(frozen=True)
class ForeignLog:
    """All samples of one task.

    Attributes:
        harness: the program: `lm-eval`, `lmms-eval`, `inspect`, or `cpt` itself.
        version: its version; empty where neither the log nor what lies beside it says.
        task_version: of the task's definition.
        config: what the log says of the task's settings.
        lower: metrics of which less is better.
    """

    path: Path
    harness: str
    version: str
    task: str
    samples: Sequence[ForeignSample]
    task_version: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    lower: frozenset[str] = frozenset()

    @property
    def source(self) -> str:
        """`lmms-eval 0.7.3`."""
        return f"{self.harness} {self.version}" if self.version else f"{self.harness} (version not known)"

    @property
    def metrics(self) -> list[str]:
        """All that is said of any sample, in order."""
        return list(dict.fromkeys(name for sample in self.samples for name in sample.answers))

    def values(self, metric: str) -> list[float | None]:
        """One number per sample."""
        return [sample.answers[metric].value if metric in sample.answers else None for sample in self.samples]

    def choose(self, scale: float = 1.0) -> str:
        """The first metric that gives every sample a score between 0 and `scale`, of which more is better.

        Raises:
            ValueError: there is none; those that there are are listed.
        """
        for metric in self.metrics:
            values = self.values(metric)
            if metric not in self.lower and all(value is not None and 0 <= value <= scale for value in values):
                return metric
        listed = ", ".join(name.removesuffix(NO_FILTER) for name in self.metrics) or "none"
        raise ValueError(
            f"{self.path}: no metric of {self.task} gives every sample a score from 0 to {scale:g} of which more is "
            f"better; there are: {listed}"
        )

    def label(self, metric: str) -> str:
        """What our records call the score: `lmms-eval:pope/pope_accuracy`."""
        return f"{self.harness}:{self.task}/{metric.removesuffix(NO_FILTER)}"


def records_of(
    log: ForeignLog,
    metric: str | None,
    *,
    name: str,
    scale: float = 1.0,
    arm: str = "",
    seed: int = 0,
    stage: int = 0,
) -> list[Record]:
    """Our records of a log, one per sample. Strict and tolerant score are the same: the other program has one rule.

    Args:
        metric: as the log calls it; None for `ForeignLog.choose`'s.
        name: of the task in our records.
        scale: scores are divided by it.

    Raises:
        ValueError: no such metric, or a score that is missing or not between 0 and `scale`; the sample is named.
    """
    chosen = log.choose(scale) if metric is None else _known(log, metric)
    return [
        Record(
            arm=arm,
            seed=seed,
            stage=stage,
            task=name,
            sample_id=f"{name}/{sample.id}",
            prompt=sample.prompt,
            completion=sample.completion,
            finish_reason=sample.finish_reason,
            extracted=sample.answers[chosen].extracted,
            gold=list(sample.gold),
            score=(score := _score(log, sample, chosen, scale)),
            tolerant=score,
            n_tokens=sample.n_tokens,
            question_id=sample.question,
            metric=log.label(chosen),
        )
        for sample in log.samples
    ]


def _known(log: ForeignLog, metric: str) -> str:
    names = log.metrics
    found = next((name for name in (metric, f"{metric}{NO_FILTER}") if name in names), None)
    if found is None:
        raise ValueError(
            f"{log.path}: no metric {metric!r}{nearest(metric, [name.removesuffix(NO_FILTER) for name in names])}"
        )
    if found in log.lower:
        raise ValueError(f"{log.path}: of {metric} less is better, and a score of cpt is better the higher it is")
    return found


def _score(log: ForeignLog, sample: ForeignSample, metric: str, scale: float) -> float:
    answer = sample.answers.get(metric)
    value = None if answer is None else answer.value
    if value is None:
        raise ValueError(f"{sample.where}: sample {shortened(sample.id)} has no score by {metric}")
    if not 0 <= value <= scale or math.isnan(value):
        raise ValueError(
            f"{sample.where}: sample {shortened(sample.id)} scores {value:g} by {metric}, and scores are between 0 and "
            f"{scale:g}; --scale divides them, such as --scale 100 for percent"
        )
    return value / scale


def check_unique(samples: Sequence[ForeignSample]) -> None:
    """ValueError if a sample is there twice; both places are named."""
    seen: dict[str, str] = {}
    for sample in samples:
        if sample.id in seen:
            raise ValueError(
                f"{sample.where}: sample {shortened(sample.id)} is there twice, first in {seen[sample.id]}"
            )
        seen[sample.id] = sample.where
