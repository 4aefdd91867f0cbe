"""What a stage does between its first step and its last: curves by step, the stability gap, and arms at equal learning.

A stage's policies are asked the same questions before it, between its steps and after it. Between the steps a score may
fall far below both ends (the stability gap, arXiv 2205.13452), and arms that end with other new-task accuracies can be
compared where they have learned as much (RL's Razor, arXiv 2509.04259). No weights are kept between the steps: all of
this is about points that were measured, and nothing is interpolated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpt.evaluate.intervals import Floats, effective
from cpt.evaluate.scores import Scoring, question_numbers
from cpt.evaluate.stats import CHANGE, SHARE, Bootstrap, Metric, Runs, over_seeds, undefined
from cpt.types import Record

MIN_ACC, WC_ACC = "min-ACC", "WC-ACC"
FORMULAS = {
    MIN_ACC: "(1/(T−1)) Σ_{j<T} min_{n} R_{nj} over all evaluated steps n of the stages after the j-th, their ends "
    "included: the lowest point of each finished task; a minimum of noisy scores, so that it leans downward",
    WC_ACC: "(1/T) R_{TT} + (1 − 1/T) min-ACC: the last task at its end and the others at their lowest",
}


@dataclass(frozen=True)
class Course:
    """One stage of one arm and seed.

    Attributes:
        steps: P steps after which its policy was evaluated, in order; 0 is the policy that it starts from.
        finished: whether the last of them is its end.
        ids: per task n sample ids, sorted, of all P evaluations.
        questions: per task (n,), see `cpt.evaluate.scores.Scores`.
        strict, tolerant: per task (P, n) scores.
    """

    steps: tuple[int, ...]
    finished: bool
    ids: Mapping[str, tuple[str, ...]]
    questions: Mapping[str, NDArray[np.int64]]
    strict: Mapping[str, Floats]
    tolerant: Mapping[str, Floats]

    def of(self, scoring: Scoring) -> Mapping[str, Floats]:
        """The scores under one scoring."""
        return self.strict if scoring == "strict" else self.tolerant

    def curve(self, scoring: Scoring, tasks: Iterable[str]) -> Floats:
        """(P,) mean over those of the tasks that were asked; NaN if none was."""
        found = [self.of(scoring)[task].mean(axis=-1) for task in tasks if task in self.ids]
        mean: Floats = np.mean(found or [np.full(len(self.steps), np.nan)], axis=0)
        return mean


def course(
    between: Mapping[int, Sequence[Record]], start: Iterable[Record], end: Iterable[Record], steps: int
) -> Course:
    """One stage from its records. Of start and end the samples count that were asked between the steps, too.

    Args:
        between: step → records; one step at least.
        start, end: of the policies that the stage starts from and leaves; without a sample that was asked between the
            steps they are left out.
        steps: of the whole stage.

    Raises:
        ValueError: between the steps other samples were asked at one step than at another.
    """
    points = {step: _by_task(records) for step, records in between.items()}
    ids = {task: tuple(sorted(own)) for task, own in next(iter(points.values())).items()}
    for step, found in points.items():
        if {task: tuple(sorted(own)) for task, own in found.items()} != ids:
            raise ValueError(f"step {step} of a stage was evaluated on other samples than the rest")
    for step, records in ((0, start), (steps, end)):
        found = _by_task(records)
        if all(name in found.get(task, {}) for task, names in ids.items() for name in names):
            points[step] = found
    order = sorted(points)
    scores: list[dict[str, Floats]] = [
        {task: np.array([[kind(points[n][task][i]) for i in names] for n in order]) for task, names in ids.items()}
        for kind in (lambda record: record.score, lambda record: record.tolerant)
    ]
    questions = {task: question_numbers(names, [points[n][task] for n in order]) for task, names in ids.items()}
    return Course(tuple(order), steps in points, ids, questions, *scores)


def _by_task(records: Iterable[Record]) -> dict[str, dict[str, Record]]:
    found: dict[str, dict[str, Record]] = {}
    for record in records:
        found.setdefault(record.task, {})[record.sample_id] = record
    return found


def stability(
    courses: Mapping[tuple[int, int], Course],
    tasks: Sequence[str],
    seeds: Sequence[int],
    scoring: Scoring,
    bootstrap: Bootstrap,
) -> dict[str, Metric]:
    """min-ACC and WC-ACC of one arm after its last stage (arXiv 2205.13452, section 3).

    Args:
        courses: (seed, stage) → its course, stages counted from 1.
        tasks: the trained tasks in the order of their stages.
    """
    if len(tasks) < 2:
        return {
            name: undefined(name, text, "one task only" if tasks else "no tasks") for name, text in FORMULAS.items()
        }
    lowest, worst = [_nothing(bootstrap)] * len(seeds), [_nothing(bootstrap)] * len(seeds)
    reasons, questions = [], [0] * len(tasks)
    for g, seed in enumerate(seeds):
        own = {stage: courses[seed, stage] for stage in range(2, len(tasks) + 1) if (seed, stage) in courses}
        if reason := _lacks(own, tasks):
            reasons.append(reason)
            continue
        parts = [_lowest(own, stage, task, scoring, bootstrap) for stage, task in enumerate(tasks[:-1], start=1)]
        last, share = own[len(tasks)], 1 / len(tasks)
        now = _means(last, tasks[-1], scoring, bootstrap, [len(last.steps) - 1])
        lowest[g] = np.mean(parts, axis=0)
        worst[g] = share * now[:, 0] + (1 - share) * lowest[g]
        questions = [int(own[len(tasks)].questions[task].max()) + 1 for task in tasks]
    found = {}
    for name, rows, some in ((MIN_ACC, lowest, questions[:-1]), (WC_ACC, worst, questions)):
        values, replicates = np.array([row[0] for row in rows]), np.array([row[1:] for row in rows]).T
        runs = Runs(tuple(seeds), values, replicates, effective(some), SHARE)
        found[name] = over_seeds(name, runs, FORMULAS[name], bootstrap, reason=reasons[0] if reasons else "no seeds")
    return found


def _nothing(bootstrap: Bootstrap) -> Floats:
    return np.full(1 + bootstrap.resamples, np.nan)


def _lacks(own: Mapping[int, Course], tasks: Sequence[str]) -> str:
    """Why the lowest points of the finished tasks are not known; empty if they are."""
    for stage, task in enumerate(tasks, start=1):
        for after in range(min(stage + 1, len(tasks)), len(tasks) + 1):
            if after not in own:
                return f"stage {after} was not evaluated during its training"
            if not own[after].finished:
                return f"the end of stage {after} is not evaluated on the same samples"
            if task not in own[after].ids:
                return f"task {task} was not asked during stage {after}"
            if own[after].ids[task] != own[len(tasks)].ids.get(task):
                return f"task {task} was asked other samples during stage {after} than during the last one"
    return ""


def _lowest(own: Mapping[int, Course], stage: int, task: str, scoring: Scoring, bootstrap: Bootstrap) -> Floats:
    """(1 + B,) the lowest mean score on a task after its own stage, and its replicates."""
    rows = [_means(one, task, scoring, bootstrap, _later(one)) for number, one in own.items() if number > stage]
    lowest: Floats = np.concatenate(rows, axis=1).min(axis=1)
    return lowest


def _later(one: Course) -> list[int]:
    """Positions of the steps, without the start, which is the end of the stage before."""
    return [p for p, step in enumerate(one.steps) if step > 0]


def _means(one: Course, task: str, scoring: Scoring, bootstrap: Bootstrap, positions: Sequence[int]) -> Floats:
    """(1 + B, positions) mean scores on a task, and below them their replicates."""
    scores = one.of(scoring)[task][list(positions)]
    return np.vstack([scores.mean(axis=-1), bootstrap.means(scores, task, one.questions[task])])


def learned(own: Mapping[int, Course], tasks: Sequence[str], scoring: Scoring) -> bool:
    """Whether an arm ends a stage better at its tasks than it began it, mean over seeds; True where that is not known.

    One that does not would set a target that all others have reached before their first step.
    """
    gains = [one.curve(scoring, tasks)[-1] - one.curve(scoring, tasks)[0] for one in own.values() if one.steps[0] == 0]
    return not gains or float(np.mean(gains)) > 0


@dataclass(frozen=True)
class Matched:
    """One arm in one stage, where its new-task accuracy first reaches the target.

    Attributes:
        target: mean over the seeds.
        steps: by seed; None where no evaluated step reaches it.
        scores: of the policy after these steps by group of tasks; without a value where a seed does not reach it.
        changes: the same minus the score of the policy that the stage starts from.
    """

    target: float
    steps: Mapping[int, int | None]
    scores: Mapping[str, Metric]
    changes: Mapping[str, Metric]


def matched(
    arms: Mapping[str, Mapping[int, Course]],
    groups: Mapping[str, Sequence[str]],
    scoring: Scoring,
    bootstrap: Bootstrap,
    target: float | None = None,
) -> dict[str, Matched]:
    """Every arm at the first evaluated step of a stage whose new-task accuracy reaches a common target.

    The step is chosen and its scores are taken on the same questions, so a chosen accuracy leans upward; intervals are
    those of the policies after the chosen steps.

    Args:
        arms: name → seed → the stage's course, at least one, all of them finished. Arms that were asked other samples
            than the first one are left out, as are seeds that not all the others have.
        groups: `new`, `prior` and `general` → names of tasks.
        target: None for the lowest accuracy that any of the arms ends with, in each seed its own.
    """
    first = next(iter(next(iter(arms.values())).values()))
    if not any(task in first.ids for task in groups["new"]):
        return {}
    alike = {name: own for name, own in arms.items() if all(one.ids == first.ids for one in own.values())}
    seeds = sorted(set.intersection(*(set(own) for own in alike.values())))
    if not seeds:
        return {}
    curves = {name: {seed: own[seed].curve(scoring, groups["new"]) for seed in seeds} for name, own in alike.items()}
    goals = {seed: min(own[seed][-1] for own in curves.values()) if target is None else target for seed in seeds}
    found = {}
    for name, own in alike.items():
        reached = {seed: np.flatnonzero(curves[name][seed] >= goals[seed] - 1e-12) for seed in seeds}
        at = {seed: int(where[0]) if len(where) else None for seed, where in reached.items()}
        steps = {seed: None if p is None else own[seed].steps[p] for seed, p in at.items()}
        scores, changes = (
            {group: _at(own, at, group, tasks, scoring, bootstrap, change=change) for group, tasks in groups.items()}
            for change in (False, True)
        )
        found[name] = Matched(float(np.mean(list(goals.values()))), steps, scores, changes)
    return found


def _at(
    own: Mapping[int, Course],
    at: Mapping[int, int | None],
    group: str,
    tasks: Sequence[str],
    scoring: Scoring,
    bootstrap: Bootstrap,
    *,
    change: bool,
) -> Metric:
    """Mean score on a group of tasks after the chosen steps, or its change since the stage's start; mean over seeds."""
    text = f"mean score on {group} tasks after the first evaluated step with the target's new-task accuracy"
    text += ", minus that of the policy that the stage starts from" if change else ""
    asked = [task for task in tasks if task in next(iter(own.values())).ids]
    if not asked:
        return undefined(group, text, f"no {group} tasks" if not tasks else f"no {group} task was asked")
    if missed := [str(seed) for seed, position in at.items() if position is None]:
        return undefined(group, text, "not reached" + (f" in seed {', '.join(missed)}" if len(at) > 1 else ""))
    if change and any(own[seed].steps[0] > 0 for seed in at):
        return undefined(group, text, "the stage's start is not evaluated on the same samples")
    rows = []
    for seed, position in at.items():
        assert position is not None
        points = [_means(own[seed], task, scoring, bootstrap, [0, position]) for task in asked]
        rows.append(np.mean([found[:, 1] - change * found[:, 0] for found in points], axis=0))
    values = np.array(rows)
    questions = effective([int(next(iter(own.values())).questions[task].max()) + 1 for task in asked])
    reach = CHANGE if change else SHARE
    return over_seeds(group, Runs(tuple(at), values[:, 0], values[:, 1:].T, questions, reach), text, bootstrap)
