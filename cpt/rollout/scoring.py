"""Which texts are scored together: bounded in rows, tokens and logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cpt.types import ScoringRequest


@dataclass(frozen=True)
class Bounds:
    """Of one forward pass.

    Attributes:
        rows: texts.
        tokens: of all rows, padded.
        logits: rows that are kept of the logits, padded, over all texts.
    """

    rows: int
    tokens: int
    logits: int


@dataclass(frozen=True)
class Part:
    """Tokens of one completion that are scored in one forward pass, with everything that stands before them.

    Attributes:
        request: number of the request.
        prompt: length of its prompt.
        start, stop: places in prompt and completion, from the first token that is scored to behind the last one.
    """

    request: int
    prompt: int
    start: int
    stop: int

    @property
    def scored(self) -> int:
        """How many tokens."""
        return self.stop - self.start


def parts(requests: Sequence[ScoringRequest], most: int) -> list[Part]:
    """Completions in parts of at most `most` tokens. What stands before a part goes through the model again with it."""
    found = []
    for number, request in enumerate(requests):
        prompt = len(request.prompt_ids)
        end = prompt + len(request.completion_ids)
        found += [Part(number, prompt, start, min(start + most, end)) for start in range(prompt, end, most)]
    return found


def batches(requests: Sequence[ScoringRequest], bounds: Bounds) -> Iterator[list[Part]]:
    """All parts, those alike in length together; a completion's parts in order.

    A text that is beyond the bound of tokens goes alone.
    """
    batch: list[Part] = []
    for part in sorted(parts(requests, max(1, bounds.logits - 1)), key=lambda one: one.stop):
        rows, scored = len(batch) + 1, max(one.scored for one in (*batch, part))
        full = rows > bounds.rows or rows * part.stop > bounds.tokens or rows * (scored + 1) > bounds.logits
        if batch and full:
            yield batch
            batch = []
        batch.append(part)
    if batch:
        yield batch


def in_calls(requests: Sequence[ScoringRequest], tokens: int) -> Iterator[list[ScoringRequest]]:
    """Texts in their order, as many at a time as have `tokens` tokens together: one of them at least."""
    call: list[ScoringRequest] = []
    held = 0
    for request in requests:
        length = len(request.prompt_ids) + len(request.completion_ids)
        if call and held + length > tokens:
            yield call
            call, held = [], 0
        call.append(request)
        held += length
    if call:
        yield call
