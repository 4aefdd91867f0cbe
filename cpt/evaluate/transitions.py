"""What happened to each sample: kept, lost or gained, and whether a loss is one of style or of substance.

Pairs are kept by sample id, so losses and gains that cancel in a mean stay visible (arXiv 2510.17776). A sample counts
as right from its task's threshold on (`Record.right_from`), one half unless the task says otherwise. Where scores are 0
or 1, gained − lost = BWT exactly on trained tasks; where they are graded, a score that falls and stays on its side of
the threshold is part of BWT and not lost. Superficial and essential forgetting follow SEFE (arXiv 2505.02486).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cpt.evaluate.intervals import Floats
from cpt.evaluate.scores import Scores, Scoring
from cpt.evaluate.stats import SHARE, Bootstrap, Metric, Runs, mean_of, over_seeds, undefined

BASE, OWN, END = "in the base model", "after its own stage", "at the end"
FORMULAS = {
    "lost": "share of samples right {before}, wrong {after} (1→0)",
    "gained": "share of samples wrong {before}, right {after} (0→1)",
    "superficial": "share of samples right {before}, {after} wrong strictly but right in another style",
    "essential": "share of samples right {before}, {after} wrong in any style",
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
    spans = {task: (index + 1, scores.stages) for index, task in enumerate(scores.tasks[:-1])}
    reason = "one task only" if len(scores.tasks) == 1 else "no tasks"
    return _transitions(scores, spans, (OWN, END), reason, bootstrap or Bootstrap(), scoring)


def stage_transitions(
    scores: Scores, bootstrap: Bootstrap | None = None, *, scoring: Scoring = "strict"
) -> Transitions:
    """From the base model to right after each task's own stage: what learning a task overwrote of it.

    Metrics of forgetting begin only there. Scoring as in `trained_transitions`.
    """
    spans = {task: (0, index + 1) for index, task in enumerate(scores.tasks)}
    return _transitions(scores, spans, (BASE, OWN), "no tasks", bootstrap or Bootstrap(), scoring)


def base_transitions(scores: Scores, bootstrap: Bootstrap | None = None, *, scoring: Scoring = "strict") -> Transitions:
    """From the base model to the end, for the trained tasks: what it could do before anything was trained.

    Where scores are 0 or 1, lost − gained = the base's mean score − AvgAcc. Scoring as in `trained_transitions`.
    """
    spans = dict.fromkeys(scores.tasks, (0, scores.stages))
    return _transitions(scores, spans, (BASE, END), "no tasks", bootstrap or Bootstrap(), scoring)


def general_transitions(
    scores: Scores, bootstrap: Bootstrap | None = None, *, scoring: Scoring = "strict"
) -> Transitions:
    """From the base model to the end, for the general tasks; scoring as in `trained_transitions`."""
    spans = dict.fromkeys(scores.general, (0, scores.stages))
    return _transitions(scores, spans, (BASE, END), "no general tasks", bootstrap or Bootstrap(), scoring)


def flipped(scores: Scores, task: str, before: int, after: int, seed: int) -> list[str]:
    """Ids of the samples right after stage `before` and wrong after stage `after` (strict), in order of id."""
    outcome = scores.right("strict", task)[scores.seeds.index(seed)]
    lost = (outcome[before] == 1) & (outcome[after] == 0)
    return [name for name, gone in zip(scores.sample_ids[task], lost, strict=True) if gone]


def _transitions(
    scores: Scores,
    spans: dict[str, tuple[int, int]],
    words: tuple[str, str],
    reason: str,
    bootstrap: Bootstrap,
    scoring: Scoring,
) -> Transitions:
    """`spans`: per task the rows compared; `words` name them."""
    formulas = {name: text.format(before=words[0], after=words[1]) for name, text in FORMULAS.items()}
    if not spans:
        return Transitions(**{name: undefined(name, text, reason) for name, text in formulas.items()}, by_task={})
    by_task: dict[str, dict[str, Metric]] = {}
    for task, span in spans.items():
        gone = _missing(scores, task, span)
        outcomes = _outcomes(scores, scoring, task, *span)
        values, replicates = _mean(outcomes), bootstrap.means(outcomes, task, scores.questions[task])
        by_task[task] = {}
        for number, name in enumerate(formulas):
            questions = scores.number_of_questions(task)
            runs = Runs(scores.seeds, values[number], replicates[:, number], questions, SHARE)
            by_task[task][name] = over_seeds(f"{name}[{task}]", runs, formulas[name], bootstrap, reason=gone)
    means = {}
    for name, formula in formulas.items():
        parts = [own[name] for own in by_task.values()]
        gone = next((part.reason.removeprefix("n/a: ") for part in parts if part.value is None), "")
        means[name] = undefined(name, formula, gone) if gone else mean_of(name, parts, formula, bootstrap)
    bare = {task: {name: replace(metric, runs=None) for name, metric in own.items()} for task, own in by_task.items()}
    return Transitions(**means, by_task=bare)


def _outcomes(scores: Scores, scoring: Scoring, task: str, before: int, after: int) -> Floats:
    """(4, G, n) indicators in the order of `FORMULAS`, NaN where either evaluation is missing."""
    right = scores.right(scoring, task)
    first, last = right[:, before], right[:, after]
    tolerant = scores.right("tolerant", task)[:, after]
    lost = first * (1 - last)
    return np.stack([lost, (1 - first) * last, lost * tolerant, lost * (1 - tolerant)])


def _mean(outcome: Floats) -> Floats:
    return np.asarray(outcome.mean(axis=-1)) if outcome.shape[-1] else np.full(outcome.shape[:-1], np.nan)


def _missing(scores: Scores, task: str, rows: Sequence[int]) -> str:
    outcome = scores.strict[task]
    for row in rows:
        if not outcome.shape[-1] or np.isnan(outcome[:, row]).all():
            return f"missing cell: stage {row} × task {task}"
    return "every seed misses a cell"
