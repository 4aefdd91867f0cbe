"""What a task's data are, in 32 hexadecimal digits: a part of every stage's key, so that changed data are other work.

Of a task that says nothing itself, everything that training and evaluation take from it is read: id, question, answers,
worked solution, `meta`, pixels, prompts and targets, and the text of its methods `reward` and `score`. That reads all
the data at `cpt plan`, at `cpt run`, and again when a stage starts, which sees by it that they are still those of the
plan; a process reads them once. A task whose data can be known more cheaply (files that have a digest, a generator with
a version) has a method

    def fingerprint(self, split: Split, n: int, seed: int) -> str

which must change whenever one of the first `n` samples does, or its reward, and should not otherwise.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from enum import Enum
from typing import Any, get_args

from cpt.tasks.metric import scale_of
from cpt.tasks.samples import read_samples
from cpt.types import PromptStyle, Sample, Split, TargetStyle, Task


def samples_fingerprint(task: Task, split: Split, n: int, seed: int = 0) -> str:
    """Of the first `n` samples of a split, from the samples themselves."""
    found = hashlib.blake2b(digest_size=16)
    for sample in read_samples(task, split, n, seed):
        found.update(_sample_digest(task, sample))
    return found.hexdigest()


def scoring_fingerprint(task: Task) -> str:
    """Of what an answer is worth: the text of the methods `reward` and `score`, and how scores are to be read.

    What those methods call is not looked at. A method without a text, as one made while the program runs, counts by its
    name.
    """
    texts = [repr(scale_of(task))]
    for name in ("reward", "score"):
        method = getattr(task, name, None)
        function = inspect.unwrap(getattr(method, "__func__", method)) if callable(method) else None
        try:
            texts.append("" if function is None else inspect.getsource(function))
        except (OSError, TypeError):
            texts.append(getattr(function, "__qualname__", type(function).__qualname__))
    return hashlib.blake2b("\0".join(texts).encode(), digest_size=16).hexdigest()


def _sample_digest(task: Task, sample: Sample) -> bytes:
    prompts: tuple[PromptStyle, ...] = get_args(PromptStyle)
    styles: tuple[TargetStyle, ...] = get_args(TargetStyle)
    content = {
        "id": sample.id,
        "question": sample.question,
        "gold": sample.gold,
        "reasoning": sample.reasoning,
        "meta": sample.meta,
        "prompts": [task.messages(sample, prompt) for prompt in prompts],
        "targets": [task.target(sample, style, prompt) for prompt in prompts for style in styles],
    }
    text = json.dumps(_plain(content, sample.id), sort_keys=True)
    found = hashlib.blake2b(text.encode(), digest_size=16)
    for image in sample.images:
        found.update(f"/{image.mode}/{image.size}/".encode() + image.tobytes())
    return found.digest()


def _plain(value: Any, sample: str) -> Any:
    """As JSON writes it; what JSON does not know by what it is called and holds, never by where it lies in memory."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Enum):  # whose members hold each other
        return [type(value).__name__, value.name]
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): _plain(item, sample) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, sample) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(item, sample) for item in value), key=repr)
    if hasattr(value, "tobytes"):  # a picture, an array
        return [type(value).__name__, str(getattr(value, "size", "")), hashlib.blake2b(value.tobytes()).hexdigest()]
    if hasattr(value, "__dict__"):
        return [type(value).__name__, _plain(vars(value), sample)]
    text = repr(value)
    if _ADDRESS.search(text):
        raise ValueError(
            f"sample {sample}: its meta holds {text}, of which only its place in memory is known; "
            "put plain data there, or give the task a method `fingerprint` (docs/adding_a_task.md)"
        )
    return text


_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")  # as `object.__repr__` ends
