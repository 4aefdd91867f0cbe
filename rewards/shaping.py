"""Rewards for how something is said: length, repetition, truncation.

They do not measure whether the answer is right. A completion without a word gets 0 from each of them, so that an empty
completion is never the best policy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal

from rewards.answers import exact
from rewards.extract import Read, Template
from rewards.registry import reward
from rewards.score import Score
from rewards.scripts import chunks

FINISHED = frozenset(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "end_of_turn"))
"""Reasons with which vLLM, transformers' servers and the public APIs say that a model ended its turn."""

MIN_STAMMER = 12
"""Letters that a word has to repeat before its parts count as words: "banana" and "1000000" are words."""

_STAMMER = re.compile(r"(\S{1,20}?)\1{3,}")
_SILENT = Score(0.0, status="no_answer")


@reward(
    "length",
    source="docs/rewards.md",
    formula="1 up to low, 0 from high on, linear between: (high − length)/(high − low)",
    family="shaping",
)
def length(
    completion: str,
    *,
    n_tokens: int | None = None,
    max_tokens: int | None = None,
    low: int = 0,
    high: int | None = None,
    unit: Literal["tokens", "words"] = "tokens",
    **_: object,
) -> Score:
    """How short the completion is, linearly between two bounds.

    `low`: length up to which it is 1. `high`: length from which it is 0; null is the token limit (`max_tokens`).
    `unit`: tokens as the row counts them, or words: what stands between white space, and every character of a script
    without spaces.

    Limits: it never looks at what is said: the shortest wrong answer earns all of it, and a policy may drop its
    reasoning for it. Words are not tokens.
    """
    if unit == "tokens" and n_tokens is None:
        raise ValueError("length in tokens needs the column n_tokens; use unit: words")
    if high is None and (unit != "tokens" or max_tokens is None):
        raise ValueError("length needs high: neither words nor a row without max_tokens have a limit")
    bound = max_tokens if high is None else high
    assert bound is not None
    if not 0 <= low < bound:
        raise ValueError(f"length needs 0 ≤ low < high, not low {low} and high {bound}")
    words = len(chunks(completion))
    if not words:
        return _SILENT
    said = words if unit == "words" or n_tokens is None else n_tokens
    return Score(min(max((bound - said) / (bound - low), 0.0), 1.0))


@reward(
    "cosine-length",
    source="arXiv 2502.03373, the cosine reward; values as released (eddycmu/demystify-long-cot)",
    formula="(r − min)/(max − min), r = r_L + (r_0 − r_L)(1 + cos(π·n/L))/2, by right or wrong; r_e if n ≥ L",
    family="shaping",
)
def cosine_length(
    completion: str,
    *,
    gold: Sequence[str],
    n_tokens: int,
    max_tokens: int,
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    right_short: float = 2.0,
    right_long: float = 1.0,
    wrong_short: float = -10.0,
    wrong_long: float = 0.0,
    exceeded: float = -10.0,
    **_: object,
) -> Score:
    """Right answers: shorter is better. Wrong ones: longer is better, since more reasoning might help.

    With n tokens of at most L, r runs on half a cosine from r_0 at n = 0 (`right_short`, `wrong_short`) to r_L at n = L
    (`right_long`, `wrong_long`); at the limit it is `exceeded`. The value is r mapped to [0, 1] by the smallest and the
    largest of the five, (r − min)/(max − min): with the defaults a right answer is worth 1 to 0.92, a wrong one 0 to
    0.83. Group-normalised advantages are those of r itself. Right is `exact`'s verdict.

    Limits: with the defaults a long wrong answer earns 0.83, by design: the paper wants the policy to think on where it
    fails. Filling the context with repetitions earns that too; the paper pairs it with a repetition penalty.
    """
    values = (right_short, right_long, wrong_short, wrong_long, exceeded)
    low, high = min(values), max(values)
    if low == high:
        raise ValueError("cosine-length needs values that differ")
    verdict = exact(completion, gold=gold, template=template, candidates=candidates, question=question, read=read)
    if verdict.failed:
        return verdict
    if not completion.strip():
        return Score(0.0, {"match": 0.0}, status="no_answer")
    at_start, at_end = (right_short, right_long) if verdict.value else (wrong_short, wrong_long)
    share = n_tokens / max_tokens
    shaped = at_end + (at_start - at_end) * (1 + math.cos(math.pi * share)) / 2 if share < 1 else exceeded
    value = min(max((shaped - low) / (high - low), 0.0), 1.0)
    return Score(value, {"match": verdict.value}, verdict.extracted, verdict.status)


@reward(
    "repetition",
    source="arXiv 2502.03373, the n-gram repetition penalty (released code: get_repetition_penalty)",
    formula="distinct n-grams / n-grams of the lower-case words; 1 with fewer than n words",
    family="shaping",
)
def repetition(completion: str, *, n: int = 3, **_: object) -> Score:
    """How little the completion repeats itself: 1 if no sequence of n words occurs twice.

    The penalty of the paper's code is this value minus 1, times its weight. A word is what stands between white space,
    as in that code. Beyond it, where a script has no spaces every character is a word (红色的狗), and within a word
    what it says four times and more in a row (hahahahahaha).

    Limits: a short completion can't repeat much and earns all of it; long texts repeat common phrases honestly; a
    repetition that changes one word in n is not seen, nor one of long units within a word.
    """
    if n < 1:
        raise ValueError(f"repetition needs n ≥ 1, not {n}")
    words = [word for chunk in chunks(completion.lower()) for word in _stammered(chunk)]
    if not words:
        return _SILENT
    grams = list(zip(*(words[start:] for start in range(n)), strict=False))
    return Score(len(set(grams)) / len(grams) if grams else 1.0)


def _stammered(chunk: str) -> list[str]:
    """The chunk, or where it says the same letters over and over, each time as a word of its own."""
    if len(chunk) < MIN_STAMMER:
        return [chunk]
    words, end = [], 0
    for found in _STAMMER.finditer(chunk):
        if len(found[0]) >= MIN_STAMMER and any(map(str.isalpha, found[1])):
            words += [chunk[end : found.start()], *[found[1]] * (len(found[0]) // len(found[1]))]
            end = found.end()
    return [word for word in (*words, chunk[end:]) if word]


@reward(
    "truncation",
    source="docs/rewards.md",
    formula="1 if the completion ended by itself, else 0",
    family="shaping",
)
def truncation(completion: str, *, finish_reason: str, **_: object) -> Score:
    """Whether the completion ended by itself: `finish_reason` is stop, or other engines' word for it (eos, end_turn).

    Any other reason (length, max_tokens, abort, content_filter, an unknown one) scores 0.

    Limits: it never looks at what is said: any short completion earns all of it.
    """
    return Score(float(finish_reason.lower() in FINISHED)) if completion.strip() else _SILENT
