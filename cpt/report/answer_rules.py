"""Answers that follow a rule instead of the question, such as one constant answer; and accuracy per answer.

Where one answer is often right, a policy that always gives it scores well. Accuracy does not show this, but the mean of
the accuracies per answer (macro recall, or balanced accuracy) does: with K answers a constant one gets 1 / K.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from cpt.common.console import visible
from cpt.report.load import RunData
from cpt.types import Record
from rewards.extract import normalise

ENOUGH = 20  # questions that a rule needs
CONSTANT = 0.90  # share of questions with the same answer
MARGIN = 0.02  # a score must exceed that of a constant answer by this
COMMON = 0.05  # an answer that is right this often should be given sometimes
MISSED = 0.10  # share of questions with a common answer that is never given
TOLD = 3  # rules named in a caveat
_SHOWN = 40  # characters of an answer

BASE = "base"


@dataclass(frozen=True)
class Answers:
    """How a policy answers one task, under strict scoring.

    Attributes:
        n: questions.
        kinds: K different sets of accepted answers.
        graded: some score is neither 0 nor 1. An accepted answer may then score less than 1, so that what a constant
            answer would score is not known from the accepted answers, and no rule is read from it.
        accuracy: mean score.
        recall: macro recall: the mean over the K kinds of the mean score of their questions.
        constant, constant_score: the answer that is right most often, and its share of the questions.
        given, given_share: the policy's most frequent answer, and its share.
        never, never_share: answers that are right for at least `COMMON` of the questions but never given, and the
            share of questions that they are right for.
    """

    n: int
    kinds: int
    graded: bool
    accuracy: float
    recall: float
    constant: str
    constant_score: float
    given: str
    given_share: float
    never: tuple[str, ...]
    never_share: float

    @property
    def rule(self) -> str:
        """A rule that explains the answers without the question, in words; empty if there is none."""
        if self.n < ENOUGH or self.kinds == 1:
            return ""
        if self.given and self.given_share >= CONSTANT and self.constant_score < CONSTANT:
            given = visible(self.given, _SHOWN)
            return f"answers “{given}” to {self.given_share:.0%} of the questions, whatever they are"
        if self.graded:
            return ""
        if self.constant_score >= COMMON and self.accuracy < self.constant_score + MARGIN:
            return (
                f"scores {self.accuracy:.0%}, no more than always answering “{visible(self.constant, _SHOWN)}” "
                f"would ({self.constant_score:.0%})"
            )
        if self.never_share >= MISSED:
            listed = ", ".join(f"“{visible(answer, _SHOWN)}”" for answer in self.never)
            return f"never answers {listed}, right for {self.never_share:.0%} of the questions"
        return ""


@dataclass(frozen=True)
class AnswersRow:
    """`Answers` of one evaluation. `after` is the number of stages before it; 0 is the base model."""

    arm: str
    seed: int
    after: int
    task: str
    answers: Answers

    def as_dict(self) -> dict[str, Any]:
        """Plain data for summary.json."""
        plain = {"arm": self.arm, "seed": self.seed, "after": self.after, "task": self.task}
        return {**plain, **asdict(self.answers), "rule": self.answers.rule}


def answers_of(records: Sequence[Record]) -> Answers:
    """How a policy answers a task, from at least one record."""
    accepted = [frozenset(map(_normal, record.gold)) for record in records]
    said = [_normal(record.extracted) for record in records]
    scores: dict[frozenset[str], list[float]] = {}
    for kind, record in zip(accepted, records, strict=True):
        scores.setdefault(kind, []).append(record.score)
    n = len(records)
    right = Counter(answer for kind in accepted for answer in kind)
    constant, most = min(right.items(), key=lambda item: (-item[1], item[0]))
    given, times = min(Counter(said).items(), key=lambda item: (-item[1], item[0]))
    known = set(said)
    never = {answer for answer, times in right.items() if times >= COMMON * n and answer not in known}
    return Answers(
        n=n,
        kinds=len(scores),
        graded=any(record.score not in (0, 1) for record in records),
        accuracy=sum(sum(own) for own in scores.values()) / n,
        recall=sum(sum(own) / len(own) for own in scores.values()) / len(scores),
        constant=constant,
        constant_score=most / n,
        given=given,
        given_share=times / n,
        never=tuple(sorted(never, key=lambda answer: (-right[answer], answer))),
        never_share=sum(not kind.isdisjoint(never) and kind.isdisjoint(known) for kind in accepted) / n,
    )


def answer_rows(run: RunData) -> list[AnswersRow]:
    """The base model on every task, then every arm: each trained task after its own stage, and all tasks at the end."""
    tasks = (*run.tasks, *run.general)
    bases: dict[str, AnswersRow] = {}
    found: list[AnswersRow] = []
    for arm in run.arms:
        records: dict[tuple[int, int, str], list[Record]] = {}
        for (seed, stage, _), record in arm.records.items():
            records.setdefault((seed, stage, record.task), []).append(record)

        def rows(
            label: str, seed: int, after: int, asked: Sequence[str], there: Mapping[Any, list[Record]] = records
        ) -> Iterator[AnswersRow]:
            for task in asked:
                if own := there.get((seed, after, task)):
                    yield AnswersRow(label, seed, after, task, answers_of(own))

        for row in rows(BASE, arm.seeds[0], 0, [task for task in tasks if task not in bases]):
            bases[row.task] = row
        for seed in arm.seeds:
            done = sorted(index for (own, index), stage in arm.stages.items() if own == seed and stage.evaluated)
            for index in done:
                trained = [str(arm.stages[seed, index].plan["task"])]
                found += rows(arm.label, seed, index, tasks if index == done[-1] else trained)
    return [*bases.values(), *found]


def rule_caveats(run: RunData) -> list[str]:
    """One line on the policies whose answers follow a rule, if there are any."""
    stages: dict[tuple[str, int, str, str], list[str]] = {}
    for row in answer_rows(run):
        if row.after and row.answers.rule:
            stages.setdefault((row.arm, row.seed, row.task, row.answers.rule), []).append(str(row.after))
    if not stages:
        return []
    named = []
    for (arm, seed, task, rule), after in stages.items():
        whose = f"{arm}, seed {seed}," if len(run.seeds) > 1 else arm
        named.append(f"{whose} on {task} after stage{'s' if len(after) > 1 else ''} {' and '.join(after)} {rule}")
    more = f"; and {len(named) - TOLD} more, in the report under Sanity checks" if len(named) > TOLD else ""
    return [f"Answers that follow a rule rather than the question: {'; '.join(named[:TOLD])}{more}."]


@lru_cache(maxsize=65_536)
def _normal(text: str) -> str:
    return normalise(text)
