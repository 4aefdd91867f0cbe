"""Attacks a reward: finds what is rewarded but should not be, and the other way round.

The rule. A plain wrong answer in the right format gets w, the plain right one r, and r has to be more than w.

- An attack on a reward for answers, or on a composite, is rewarded if it gets more than w, that is, more than the
  format alone. For a composite, the weights of its shaping terms (length, repetition) are added to w.
- An attack on a reward for the format is rewarded if it gets more than an answer without any format.
- What a shaping reward should discourage is rewarded if it gets r or more.
- Another spelling of the right answer should get r (minus the shaping terms).
- A completion that makes the reward fail (error, timeout) is a finding too.

A finding that the reward's docstring names under `Limits:` is known: shown as such, and no failure of the audit. A
user's own reward names the case there, in the words of the audit's table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from rewards.batch import guarded
from rewards.extract import Read
from rewards.lab.agreement import SAME
from rewards.lab.attacks import Case, Example, Style, in_style, on_answers, on_formats, on_shapes
from rewards.registry import Family
from rewards.score import Reward, Score
from rewards.templates import TAGGED

RIGHT = "right answer"
"""The case that the plain right answer gets no more than the plain wrong one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One completion that the reward does not score as it should.

    Attributes:
        kind: rewarded (but should not be), unrewarded (but should be rewarded), failed (error or timeout).
        case: what was tried.
        completion: what was scored.
        score: the reward's score.
        bound: what it may get at most (rewarded), has to stay below (a shaping reward), or should get (unrewarded).
        known: the words of the docstring that state it as a limit; empty if none do.
    """

    kind: Literal["rewarded", "unrewarded", "failed"]
    case: str
    style: Style
    completion: str
    score: Score
    bound: float
    known: str = ""


@dataclass(frozen=True)
class Plan:
    """What one reward is audited with.

    Attributes:
        examples: questions with answers of the reward's kind.
        known: case → words of the reward's `Limits:` that admit it.
        shapes: for shaping rewards, the cases of `rewards.lab.attacks.on_shapes` that apply.
    """

    examples: tuple[Example, ...]
    known: Mapping[str, str] = field(default_factory=dict)
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """What came out of one reward's audit: the number of completions tried, and every finding."""

    tried: int
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether there is nothing but known limits."""
        return all(finding.known for finding in self.findings)


def audit(
    reward: Reward,
    plan: Plan,
    *,
    family: Family = "answer",
    styles: Sequence[Style] = TAGGED,
    read: Read = "strict",
    shaping: float = 0.0,
    limits: str = "",
) -> Audit:
    """Try every case of the plan on a reward.

    Args:
        family: which of the rules above counts.
        styles: how the completions are written, and the format that their rows ask for.
        read: how the reward reads the answer; it is not attacked with what that reading accepts by definition.
        shaping: of a composite, the sum of its shaping terms' weights.
        limits: what a user's docstring admits: sentences that name the cases.
    """
    tried, findings = 0, []
    for number, example in enumerate(plan.examples):
        # Tags around an answer hardly change what it is worth, so not every example needs all of them.
        for style in styles if number == 0 else dict.fromkeys((styles[0], styles[-1])):
            trial = _Trial(reward, example, style, family, shaping)
            cases = [case for case in _cases(plan, example, style, family) if case.reads is None or read in case.reads]
            tried += len(cases)
            findings += [*trial.without_a_difference(), *filter(None, map(trial.finding, cases))]
    return Audit(tried, tuple(replace(one, known=_known(one, plan, limits)) for one in findings))


def _known(finding: Finding, plan: Plan, limits: str) -> str:
    """The words that state a finding as a limit. A right answer without reward, or a failure, can't be a limit."""
    if finding.case in plan.known:
        return plan.known[finding.case]
    if finding.kind == "failed" or finding.case == RIGHT:
        return ""
    named = re.compile(rf"(?<!\w){re.escape(finding.case)}(?!\w)", re.IGNORECASE)
    return next((one for one in re.split(r"(?<=[.;]) +", limits) if named.search(one)), "")


def _cases(plan: Plan, example: Example, style: Style, family: Family) -> Iterator[Case]:
    if family == "shaping":
        return on_shapes(example, style, plan.shapes)
    return on_formats(example, style) if family == "format" else on_answers(example, style)


class _Trial:
    """One example in one style: what the right and the wrong answer get, and what the cases get beside them."""

    def __init__(self, reward: Reward, example: Example, style: Style, family: Family, shaping: float) -> None:
        self.reward, self.example, self.style, self.family, self.shaping = reward, example, style, family, shaping
        self.right_text = in_style(example.gold[0], style)
        # Of a reward for the format, "wrong" is one without it.
        self.right = self.score(self.right_text)
        self.wrong = self.score(example.wrong if family == "format" else in_style(example.wrong, style))

    def score(self, completion: str, columns: Mapping[str, object] = {}) -> Score:
        return guarded(self.reward, completion, {**self.example.row(self.style, completion), **columns})

    def without_a_difference(self) -> Iterator[Finding]:
        """The right answer, if it gets no more than the wrong one; shaping rewards may well treat them alike."""
        if self.right.failed or self.wrong.failed:
            failed = self.right if self.right.failed else self.wrong
            yield self._finding("failed", RIGHT, self.right_text, failed, 0.0)
        elif self.family != "shaping" and self.right.value <= self.wrong.value + SAME:
            yield self._finding("unrewarded", RIGHT, self.right_text, self.right, self.wrong.value)

    def finding(self, case: Case) -> Finding | None:
        """The finding of a case, if there is one."""
        score = self.score(case.completion, case.columns)
        most, least = self.wrong.value + self.shaping, self.right.value - self.shaping
        if score.failed:
            return self._finding("failed", case.name, case.completion, score, most)
        if case.kind == "same" and score.value < least - SAME:
            return self._finding("unrewarded", case.name, case.completion, score, least)
        if case.kind == "attack" and score.value > most + SAME:
            return self._finding("rewarded", case.name, case.completion, score, most)
        if case.kind == "cost" and score.value >= self.right.value - SAME:
            return self._finding("rewarded", case.name, case.completion, score, self.right.value)
        return None

    def _finding(
        self, kind: Literal["rewarded", "unrewarded", "failed"], case: str, completion: str, score: Score, bound: float
    ) -> Finding:
        return Finding(kind, case, self.style, completion, score, bound)
