"""Recorded completions become questions for a judge: the task's words and pictures where this machine has them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.common.digests import bytes_digest
from cpt.evaluate.evaluators.generation import question_digest
from cpt.judge.asked import Question
from cpt.judge.rubric import Rubric
from cpt.tasks import get_task, read_samples
from cpt.types import PromptStyle, Record, Sample, Task
from rewards.templates import outside_reasoning

_STYLES: tuple[PromptStyle, ...] = ("direct", "think")
NOTHING = "(nothing)"


@dataclass(frozen=True)
class KnownTask:
    """What this machine has of a task whose completions are judged.

    Attributes:
        task: None where it is not known here.
        samples: by id, those that are recorded; none where they can't be made, or are others than recorded.
        missing: why there are none.
    """

    task: Task | None
    samples: Mapping[str, Sample]
    missing: str = ""


def known_task(name: str, n: int, records: Sequence[Record], *, pictures: bool) -> KnownTask:
    """The test samples that records of one task are of, if this machine can make them: all or none.

    Args:
        n: how many samples were recorded, the task's first ones.
        records: those that are to be judged.
        pictures: compare the pictures too, with the digest that the records have of them.
    """
    asked = {record.sample_id: record for record in records}
    try:
        task = get_task(name)
    except ValueError:
        return KnownTask(None, {}, "there is no such task here")
    try:
        samples = {sample.id: sample for sample in read_samples(task, "test", n)}
        other = next((one for one in asked.values() if not _is_of(one, samples.get(one.sample_id), pictures)), None)
    except (ValueError, OSError) as error:  # its data are gone, say: judged by what is recorded
        return KnownTask(task, {}, str(error).partition("\n")[0])
    if other is not None:
        return KnownTask(task, {}, f"sample {other.sample_id} is another here than the recorded one")
    return KnownTask(task, samples)


def _is_of(record: Record, sample: Sample | None, pictures: bool) -> bool:
    if sample is None or list(sample.gold) != record.gold:
        return False
    return not (pictures and record.question_id) or question_digest(record.prompt, sample.images) == record.question_id


def question_of(record: Record, known: KnownTask, rubric: Rubric) -> Question:
    """What the judge is asked about one completion."""
    sample = known.samples.get(record.sample_id)
    reasoning, answer = parted(record.completion)
    data = {
        "question": question_text(record, known.task, sample),
        "gold": "\n".join(record.gold),
        "completion": answer or NOTHING,
        "reasoning": reasoning or NOTHING,
    }
    shown = rubric.pictures and sample is not None and len(sample.images) > 0
    text = rubric.filled({name: data[name] for name in rubric.shown}, picture=shown)
    picture_of = record.question_id or record.sample_id
    digest = bytes_digest(json.dumps([text, picture_of if shown else ""]).encode("utf-8", "surrogatepass"))
    unreadable = rubric.pictures and bool(known.missing)
    return Question(
        digest, text, "shown" if shown else "unreadable" if unreadable else "none", sample if shown else None
    )


def parted(completion: str) -> tuple[str, str]:
    """Reasoning and answer: what stands between `<think>` and `</think>`, and the rest."""
    answer = outside_reasoning(completion)
    if answer == completion:
        return "", completion.strip()
    inside, _, after = completion.rpartition("</think>")
    reasoning = inside if inside else after  # never closed: the limit of tokens ended it
    return reasoning.strip().removeprefix("<think>").strip(), answer.strip()


def question_text(record: Record, task: Task | None, sample: Sample | None) -> str:
    """The user's words as they were asked, options and all; the whole recorded prompt where they are not known."""
    if task is None or sample is None:
        return record.prompt
    shown = _spaced(record.prompt)
    for style in _STYLES:
        text = _words(task.messages(sample, style))
        if _spaced(text) in shown:
            return text
    return sample.question if _spaced(sample.question) in shown else record.prompt


def _words(chat: Sequence[Mapping[str, Any]]) -> str:
    content = chat[-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if block["type"] == "text")


def _spaced(text: str) -> str:
    return " ".join(text.split())
