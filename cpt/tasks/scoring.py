"""How a completion is scored under a metric, strictly and tolerantly, and the default reward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cpt.types import PromptStyle, Sample
from rewards.extract import read_answer
from rewards.match import exact_match
from rewards.papers import accuracy_format
from rewards.score import Score

Metric = Callable[[str, Sequence[str]], float]
"""From an answer and the accepted answers to a score in [0, 1]."""

METRICS: Mapping[str, Metric] = {"exact": exact_match}


def score(sample: Sample, completion: str, prompt: PromptStyle, metric: str = "exact") -> Score:
    """Strict and tolerant score of one completion; `value` is the strict one.

    Strict reads the answer from the format that the prompt asks for, tolerant from any text.
    """
    compare = METRICS[metric]
    strict = read_answer(completion, "strict", prompt)
    candidates = sample.meta.get("candidates", ())
    tolerant = read_answer(completion, "tolerant", candidates=candidates, question=sample.question)
    right_strict = compare(strict.answer, sample.gold)
    right_tolerant = max(right_strict, compare(tolerant.answer, sample.gold))
    parts = {"strict": right_strict, "tolerant": right_tolerant, "format": float(strict.status == "ok")}
    read = strict if strict.status == "ok" else tolerant
    return Score(right_strict, parts, read.answer, strict.status)


def accuracy_reward(sample: Sample, completion: str, prompt: PromptStyle) -> Score:
    """0.9 accuracy + 0.1 format, both read strictly (arXiv 2507.05386): the reward of a task that names no other."""
    return accuracy_format(completion, gold=sample.gold, template=prompt)
