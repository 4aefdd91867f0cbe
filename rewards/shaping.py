"""Rewards for how something is said: length, repetition, truncation.

They shape; they are no verdict on the answer. A completion without a word earns nothing from any of them, so that
silence is never the best policy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from rewards.answers import exact
from rewards.extract import Read, Template
from rewards.registry import reward
from rewards.score import Score

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
    `unit`: tokens as the row counts them, or words between white space.

    Limits: it never looks at what is said: the shortest wrong answer earns all of it, and a policy may drop its
    reasoning for it. Words are not tokens: text without spaces is one word.
    """
    if unit == "tokens" and n_tokens is None:
        raise ValueError("length in tokens needs the column n_tokens; use unit: words")
    if high is None and (unit != "tokens" or max_tokens is None):
        raise ValueError("length needs high: neither words nor a row without max_tokens have a limit")
    bound = max_tokens if high is None else high
    assert bound is not None
    if not 0 <= low < bound:
        raise ValueError(f"length needs 0 ≤ low < high, not low {low} and high {bound}")
    words = len(completion.split())
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
    """Right answers: the shorter the better. Wrong ones: the longer the less bad, since thinking longer might help.

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
    """How little the completion repeats itself: 1 if no sequence of n words comes twice.

    The penalty of the paper's code is this value minus 1, times its weight.

    Limits: a short completion can't repeat much and earns all of it; long texts repeat common phrases honestly; a
    repetition that changes one word in n is not seen, nor one inside a word without spaces.
    """
    if n < 1:
        raise ValueError(f"repetition needs n ≥ 1, not {n}")
    words = completion.lower().split()
    if not words:
        return _SILENT
    grams = list(zip(*(words[start:] for start in range(n)), strict=False))
    return Score(len(set(grams)) / len(grams) if grams else 1.0)


@reward(
    "truncation",
    source="docs/rewards.md",
    formula="0 if the token limit cut the completion off, else 1",
    family="shaping",
)
def truncation(completion: str, *, finish_reason: Literal["stop", "length"], **_: object) -> Score:
    """Whether the completion ended by itself.

    Limits: it never looks at what is said: any short completion earns all of it.
    """
    return Score(float(finish_reason != "length")) if completion.strip() else _SILENT
