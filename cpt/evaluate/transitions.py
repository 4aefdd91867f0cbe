"""What happened to each sample: kept, lost or gained, and whether a loss is one of style or of substance.

Pairs are kept by sample id, so losses and gains that cancel in a mean stay visible (arXiv 2510.17776): on trained tasks
gained − lost = BWT exactly. Superficial and essential forgetting follow SEFE (arXiv 2505.02486).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cpt.evaluate.scores import Scores, Scoring
from cpt.evaluate.stats import Bootstrap, Floats, Metric, over_seeds, undefined

BEFORE = {"trained": "after its own stage", "base": "in the base model"}
FORMULAS = {
    "lost": "share of samples right {before}, wrong at the end (1→0)",
    "gained": "share of samples wrong {before}, right at the end (0→1)",
    "superficial": "share of samples right {before}, at the end wrong strictly but right in another style",
    "essential": "share of samples right {before}, at the end wrong in any style",
}


@dataclass(frozen=True, slots=True)
class Transitions:
    """Shares of all samples, averaged over tasks. lost = superficial + essential.

    Attributes:
        by_task: per task its own four metrics, by name.
    """

    lost: Metric
    gained: Metric
    superficial: Metric
    essential: Metric
    by_task: dict[str, dict[str, Metric]]

    def items(self) -> list[tuple[str, Metric]]:
        """The four means by name."""
        return [(name, getattr(self, name)) for name in FORMULAS]


def trained_transitions(
    scores: Scores, bootstrap: Bootstrap | None = None, *, scoring: Scoring = "strict"
) -> Transitions:
    """From right after each task's own stage j to the end T, for the tasks j < T.

    Under tolerant scoring a sample counts as right in any style, before and after: nothing is superficial, and all that
    is lost is essential. That is the number for an arm whose style of answering strict scoring never counts as right.
    """
    before = {task: index + 1 for index, task in enumerate(scores.tasks[:-1])}
    reason = "one task only" if len(scores.tasks) == 1 else "no tasks"
    return _transitions(scores, before, "trained", reason, bootstrap or Bootstrap(), scoring)


def base_transitions(scores: Scores, bootstrap: Bootstrap | None = None, *, scoring: Scoring = "strict") -> Transitions:
    """From the base model to the end, for the trained tasks: what it could do before anything was trained.

    lost − gained = the base's mean score − AvgAcc. Scoring as in `trained_transitions`.
    """
    before = dict.fromkeys(scores.tasks, 0)
    return _transitions(scores, before, "base", "no tasks", bootstrap or Bootstrap(), scoring)


def general_transitions(
    scores: Scores, bootstrap: Bootstrap | None = None, *, scoring: Scoring = "strict"
) -> Transitions:
    """From the base model to the end, for the general tasks; scoring as in `trained_transitions`."""
    before = dict.fromkeys(scores.general, 0)
    return _transitions(scores, before, "base", "no general tasks", bootstrap or Bootstrap(), scoring)


def flipped(scores: Scores, task: str, before: int, after: int, seed: int) -> list[str]:
    """Ids of the samples right after stage `before` and wrong after stage `after` (strict), in order of id."""
    outcome = scores.strict[task][scores.seeds.index(seed)]
    lost = (outcome[before] == 1) & (outcome[after] == 0)
    return [name for name, gone in zip(scores.sample_ids[task], lost, strict=True) if gone]


def _transitions(
    scores: Scores, before: dict[str, int], kind: str, reason: str, bootstrap: Bootstrap, scoring: Scoring
) -> Transitions:
    formulas = {name: text.format(before=BEFORE[kind]) for name, text in FORMULAS.items()}
    if not before:
        return Transitions(**{name: undefined(name, text, reason) for name, text in formulas.items()}, by_task={})
    end = scores.stages
    shares: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in formulas}
    by_task: dict[str, dict[str, Metric]] = {}
    missing = ""
    for task, row in before.items():
        gone = _missing(scores, task, (row, end))
        missing = missing or gone
        by_task[task] = {}
        for name, outcome in _outcomes(scores, scoring, task, row, end).items():
            own = (_mean(outcome), bootstrap.means(outcome, task, scores.questions[task]))
            shares[name].append(own)
            by_task[task][name] = over_seeds(f"{name}[{task}]", *own, formulas[name], bootstrap, reason=gone)
    means = {}
    for name, parts in shares.items():
        per_seed = np.mean([part[0] for part in parts], axis=0)
        replicates = np.mean([part[1] for part in parts], axis=0)
        means[name] = over_seeds(name, per_seed, replicates, formulas[name], bootstrap, reason=missing)
    return Transitions(**means, by_task=by_task)


def _outcomes(scores: Scores, scoring: Scoring, task: str, before: int, after: int) -> dict[str, Floats]:
    """(G, n) indicators, NaN where either evaluation is missing."""
    first = scores.of(scoring)[task][:, before]
    last = scores.of(scoring)[task][:, after]
    tolerant = scores.tolerant[task][:, after]
    lost = first * (1 - last)
    return {
        "lost": lost,
        "gained": (1 - first) * last,
        "superficial": lost * tolerant,
        "essential": lost * (1 - tolerant),
    }


def _mean(outcome: Floats) -> Floats:
    return np.asarray(outcome.mean(axis=-1)) if outcome.shape[-1] else np.full(outcome.shape[:-1], np.nan)


def _missing(scores: Scores, task: str, rows: Sequence[int]) -> str:
    outcome = scores.strict[task]
    for row in rows:
        if not outcome.shape[-1] or np.isnan(outcome[:, row]).all():
            return f"missing cell: stage {row} × task {task}"
    return "every seed misses a cell"
