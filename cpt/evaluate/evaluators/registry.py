"""The evaluators of a run, in the order in which they measure. A new one is a line in `evaluators`."""

from __future__ import annotations

from cpt.evaluate.evaluators.base import Evaluator
from cpt.evaluate.evaluators.drift import DriftEvaluator
from cpt.evaluate.evaluators.generation import GenerationEvaluator


def evaluators() -> tuple[Evaluator, ...]:
    """New ones: an evaluator may remember what serves all policies of one run."""
    return (GenerationEvaluator(), DriftEvaluator())
