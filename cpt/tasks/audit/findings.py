"""What an audit of a task's data can find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "note"]


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        severity: an error makes a sample useless or a score wrong; a note is to be looked at.
        means: what it is, for readers.
    """

    severity: Severity
    means: str


KINDS: Mapping[str, Kind] = {
    "row": Kind("error", "rows that can't be read, have no question or no answer, or whose picture's file is missing"),
    "picture": Kind("error", "pictures that can't be read, are too small, or of a kind without a defined range"),
    "shape": Kind("note", "pictures more than twenty times as long as wide, which image processors refuse or squash"),
    "gold": Kind("error", "right answers that the task's own metric scores below 1"),
    "leak": Kind("error", "prompts that give the answer away: made from it, or with the worked solution in them"),
    "answer-in-question": Kind("note", "questions in which the right answer stands, and which are no multiple choice"),
    "markup": Kind("error", "texts that the model reads as marks of the chat or of a picture, such as <|im_end|>"),
    "too-long": Kind("error", "prompts that do not fit the model, with the longest completion allowed"),
    "duplicate": Kind("note", "rows of one split with the same question and pictures"),
    "contradiction": Kind("error", "rows with the same question and pictures and other answers"),
    "overlap": Kind("error", "test rows whose question and pictures are also trained on"),
    "same-picture": Kind("note", "test rows one of whose pictures is also trained on, with another question"),
    "near-picture": Kind("note", "test rows one of whose pictures looks like one that is trained on"),
}
"""By the names that `cpt tasks check` prints."""


@dataclass(frozen=True)
class Finding:
    """One fault of one row.

    Attributes:
        kind: a key of `KINDS`.
        where: the row, as its owner would look for it.
        sample: its id in records; empty for a row that is no sample.
    """

    kind: str
    split: str
    where: str
    detail: str
    sample: str = ""


@dataclass(frozen=True)
class Answers:
    """How the answers of the test rows are distributed.

    Attributes:
        counts: the most frequent answers, and how often each is the first accepted one.
        different: how many different ones there are.
        constant: what is always answered, for the score of that; and its score.
    """

    counts: tuple[tuple[str, int], ...]
    different: int
    constant: str
    score: float


@dataclass
class Report:
    """All that an audit found of one task.

    Attributes:
        rows: samples by split.
        summary: how many rows there are, and where the test rows come from.
    """

    task: str
    metric: str
    summary: str
    rows: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    answers: Answers | None = None

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind."""
        return [one for one in self.findings if one.kind == kind]

    @property
    def errors(self) -> list[Finding]:
        """Those that make a sample useless or a score wrong."""
        return [one for one in self.findings if KINDS[one.kind].severity == "error"]
