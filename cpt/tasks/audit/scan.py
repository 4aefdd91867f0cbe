"""An audit of a task over data of one's own: every row and picture is looked at once, and nothing is left out unsaid.

Pictures are decoded one at a time; of each row less than a kilobyte is kept.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cpt.common.stored_pictures import StoredPictures
from cpt.tasks.audit.findings import Answers, Finding, Report
from cpt.tasks.audit.pictures import look_of, nearest_looks
from cpt.tasks.chat import checked_prompt
from cpt.tasks.data_task import DataTask
from cpt.types import Sample

LONGEST_SHAPE = 20
"""Times as long as wide: beyond it a picture is of an extreme shape."""
_YES_NO = frozenset(("yes", "no", "true", "false"))
_COMMON = 10  # answers that the distribution shows

Sizes = tuple[tuple[int, int], ...]
TooLong = Callable[[Sample, Sizes], str]
"""Says how the prompt of a sample with pictures of these sizes is too long for a model; nothing where it is not."""


@dataclass
class _Seen:
    """What is kept of one split's rows."""

    samples: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)  # digest of question and pictures
    golds: list[bytes] = field(default_factory=list)
    pictures: dict[str, int] = field(default_factory=dict)  # key → the first row that has it
    shown: list[tuple[int, int]] = field(default_factory=list)  # hash and row of each picture with a look
    keys: list[tuple[str, ...]] = field(default_factory=list)


def audit(
    task: DataTask,
    too_long: TooLong | None = None,
    progress: Callable[[int], None] | None = None,
    markup: Callable[[Sample], str] | None = None,
) -> Report:
    """Look at every row of a task.

    Args:
        too_long: asked for each sample, where there is a model.
        markup: the same; says which text of it a model would not read as text.
        progress: told of the number of rows after each.

    Raises:
        ValueError: the data can't be opened, or a split has no usable row.
    """
    index = task.index
    report = Report(task.name, task.metric, "")
    for one in index.unusable:
        report.findings.append(Finding(one.kind, one.split, index.where(one.place), one.reason))
    seen: dict[str, _Seen] = {}
    answered: dict[tuple[tuple[str, ...], tuple[str, ...]], list[Any]] = {}  # a sample of each, how many
    done = 0
    splits: tuple[Literal["train", "test"], ...] = ("train", "test")
    for split in splits:
        places = index.places(split)
        report.rows[split] = len(places)
        seen[split] = _Seen()
        for place in places:
            try:
                sample = task.sample(split, place)
            except ValueError as error:
                report.findings.append(Finding("row", split, index.where(place), str(error)))
                continue
            report.findings += _of_sample(task, sample, split)
            if markup is not None and (detail := markup(sample)):
                report.findings.append(Finding("markup", split, sample.meta["where"], detail, sample.id))
            if split == "test":
                kept = answered.setdefault((sample.gold, tuple(sample.meta.get("choices", ()))), [sample, 0])
                kept[1] += 1
            faults, sizes = _remember(seen[split], sample, split)
            report.findings += faults
            if too_long is not None and sizes is not None and (detail := too_long(sample, sizes)):
                report.findings.append(Finding("too-long", split, sample.meta["where"], detail, sample.id))
            done += 1
            if progress is not None:
                progress(done)
        report.findings += _within(seen[split], split)
    report.findings += _between(seen["train"], seen["test"])
    report.summary = index.summary()
    report.answers = _answers(task, list(answered.values()))
    return report


def _of_sample(task: DataTask, sample: Sample, split: str) -> Iterator[Finding]:
    """Faults of one sample by itself, but for its pictures."""

    def found(kind: str, detail: str) -> Finding:
        return Finding(kind, split, sample.meta["where"], detail, sample.id)

    try:
        checked_prompt(task, sample, "direct")
    except ValueError as error:
        yield found("leak", str(error))
    if task.answered_by == "generation":
        target = task.target(sample, "policy", "direct")
        score = task.score(sample, target, "direct").value
        if problem := task.scorer.misfit(sample):
            yield found("gold", problem)
        elif score < 1 and task.scorer.gold_is_full:
            yield found("gold", f"{target[:80]!r} scores {score:.3g} of 1 by {task.metric}")
        if _in_question(sample):
            yield found("answer-in-question", f"{sample.gold[0][:60]!r} stands in the question")


def _in_question(sample: Sample) -> bool:
    gold = sample.gold[0].strip().lower()
    if not gold or gold in _YES_NO or sample.meta.get("choices"):
        return False
    return re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", sample.question.lower()) is not None


def _remember(seen: _Seen, sample: Sample, split: str) -> tuple[list[Finding], Sizes | None]:
    """Take in a sample; faults of its pictures, and their sizes, if all can be read."""
    row = len(seen.samples)
    keys: list[str] = []
    faults: list[Finding] = []
    sizes: list[tuple[int, int]] = []
    for number in range(len(sample.images)):
        assert isinstance(sample.images, StoredPictures), "a DataTask's pictures are stored"
        try:
            found = sample.images.glance(number)
        except ValueError as error:
            faults.append(Finding("picture", split, sample.meta["where"], str(error), sample.id))
            continue
        sizes.append(found.size)
        keys.append(found.key)
        seen.pictures.setdefault(found.key, row)
        if (look := look_of(found.picture)) is not None:
            seen.shown.append((look, row))
        width, height = found.size
        if max(found.size) > LONGEST_SHAPE * min(found.size):
            told = f"{width} × {height} pixels"
            faults.append(Finding("shape", split, sample.meta["where"], told, sample.id))
    seen.samples.append(sample.id)
    seen.places.append(sample.meta["where"])
    seen.keys.append(tuple(keys))
    seen.asked.append(_digest(sample.question, *keys))
    seen.golds.append(_digest(*sorted(sample.gold)))
    return faults, tuple(sizes) if len(sizes) == len(sample.images) else None


def _digest(*texts: str) -> bytes:
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=12).digest()


def _within(seen: _Seen, split: str) -> Iterator[Finding]:
    """Rows of a split that say the same, or contradict each other."""
    first: dict[bytes, int] = {}
    for row, asked in enumerate(seen.asked):
        other = first.setdefault(asked, row)
        if other == row:
            continue
        kind = "duplicate" if seen.golds[row] == seen.golds[other] else "contradiction"
        told = f"the same question and pictures as {seen.places[other]}"
        yield Finding(kind, split, seen.places[row], told, seen.samples[row])


def _between(train: _Seen, test: _Seen) -> Iterator[Finding]:
    """Test rows that are trained on, whole or in part."""
    trained = {asked: row for row, asked in reversed(list(enumerate(train.asked)))}
    told: set[int] = set()
    for row, asked in enumerate(test.asked):
        if asked in trained:
            told.add(row)
            detail = f"the same question and pictures as {train.places[trained[asked]]}"
            yield Finding("overlap", "test", test.places[row], detail, test.samples[row])
    for row, keys in enumerate(test.keys):
        shared = next((key for key in keys if key in train.pictures), None)
        if shared is not None and row not in told:
            told.add(row)
            detail = f"the same picture as {train.places[train.pictures[shared]]}"
            yield Finding("same-picture", "test", test.places[row], detail, test.samples[row])
    nearest = nearest_looks([look for look, _ in test.shown], [look for look, _ in train.shown])
    for (_, row), near in zip(test.shown, nearest, strict=True):
        if near is not None and row not in told:
            told.add(row)
            other, apart = near
            detail = f"looks like the picture of {train.places[train.shown[other][1]]} ({apart} of 64 bits differ)"
            yield Finding("near-picture", "test", test.places[row], detail, test.samples[row])


def _answers(task: DataTask, answered: Sequence[Sequence[Any]]) -> Answers | None:
    """How test answers are distributed, and what always giving the commonest one would score.

    Args:
        answered: a sample of each set of accepted answers (and choices), and how many test samples have it.
    """
    if task.answered_by != "generation" or not answered:
        return None
    counts: Counter[str] = Counter()
    for sample, number in answered:
        counts[task.target(sample, "dataset", "direct")] += number
    constant = counts.most_common(1)[0][0]
    said = task.format.answered(constant, "direct")
    total = sum(number * task.score(sample, said, "direct").value for sample, number in answered)
    return Answers(tuple(counts.most_common(_COMMON)), len(counts), constant, total / counts.total())
