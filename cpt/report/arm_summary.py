"""All numbers of each arm, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cpt.evaluate.drift import HEADLINE, Drift, drift
from cpt.evaluate.matrix import BY_NAME, DEFINITIONS, Matrix, accuracy_matrix, metrics
from cpt.evaluate.retention import MEAN_CHANGE, Retention, retention
from cpt.evaluate.scores import Scoring
from cpt.evaluate.stats import Bootstrap, Metric, difference, undefined
from cpt.evaluate.step_curves import FORMULAS as STEP_FORMULAS
from cpt.evaluate.step_curves import MIN_ACC, WC_ACC, Course, stability
from cpt.evaluate.transitions import (
    BASE,
    END,
    FORMULAS,
    Transitions,
    base_transitions,
    general_transitions,
    stage_transitions,
    trained_transitions,
)
from cpt.report.load import ArmRun, RunData

SCORINGS: tuple[Scoring, ...] = ("strict", "tolerant")
TITLES = {
    **{name: definition.title for name, definition in BY_NAME.items()},
    "retention": "General retention",
    "intransigence": "Intransigence",
    "lost": "Lost",
    "gained": "Gained",
    "lost_since_base": "Lost since the base",
    "superficial": "Superficial forgetting",
    "essential": "Essential forgetting",
    MIN_ACC: "Lowest accuracy of earlier tasks",
    WC_ACC: "Worst-case accuracy",
}
DEFINED = {
    **{definition.name: definition.formula for definition in DEFINITIONS},
    "retention": MEAN_CHANGE.replace("R_{ig}", "R_{Tg}"),
    "intransigence": "(1/T) Σ_{j} (R*_{j} − R_{jj}), R* of the run's joint arm of the same method, without one of its "
    "single-task references (arXiv 1801.10112)",
    **{
        name: text.format(before="after the own stage", after=END) + ", mean over tasks j<T"
        for name, text in FORMULAS.items()
    },
    "lost_since_base": FORMULAS["lost"].format(before=BASE, after=END) + ", mean over the trained tasks",
    **STEP_FORMULAS,
}


@dataclass(frozen=True)
class Numbers:
    """One arm under one scoring. `imported` are the tasks that were scored elsewhere."""

    trained: Matrix
    general: Matrix
    metrics: Mapping[str, Metric]
    retention: Retention
    imported: Matrix
    imported_change: Retention

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        elsewhere = {"imported": _matrix_dict(self.imported)} if self.imported.tasks else {}
        return {
            **elsewhere,
            "metrics": {name: metric.as_dict() for name, metric in self.metrics.items()},
            "matrix": _matrix_dict(self.trained),
            "general": _matrix_dict(self.general),
            "retention": [
                {"stage": stage, "mean": mean.as_dict(), "tasks": _by_task(self.retention.tasks, row)}
                for stage, (mean, row) in enumerate(
                    zip(self.retention.mean, self.retention.by_task, strict=True), start=1
                )
            ],
        }


@dataclass(frozen=True)
class ArmSummary:
    """All numbers of one arm.

    Attributes:
        stage_transitions: of the trained tasks, from the base model to each one's own stage.
        trained_transitions: of the trained tasks, from each one's own stage to the end.
        base_transitions: of the trained tasks, from the base model to the end.
        general_transitions: of the general tasks, from the base model to the end.
        courses: (seed, stage) → what a stage did between its steps, where it was evaluated then.
        stability: min-ACC and WC-ACC, if any arm of the run was evaluated between steps.
    """

    arm: ArmRun
    numbers: Mapping[Scoring, Numbers]
    stage_transitions: Mapping[Scoring, Transitions]
    trained_transitions: Mapping[Scoring, Transitions]
    base_transitions: Mapping[Scoring, Transitions]
    general_transitions: Mapping[Scoring, Transitions]
    drift: Drift
    intransigence: Mapping[Scoring, Metric] = field(default_factory=dict)
    courses: Mapping[tuple[int, int], Course] = field(default_factory=dict)
    stability: Mapping[Scoring, Mapping[str, Metric]] = field(default_factory=dict)

    @property
    def seeds_used(self) -> int:
        """Seeds whose last stage is evaluated."""
        return self.numbers["strict"].metrics["AvgAcc"].seeds

    def headline(self, scoring: Scoring = "strict") -> dict[str, Metric]:
        """The columns of the headline table. Under tolerant scoring nothing is superficial by construction."""
        found = dict(self.numbers[scoring].metrics)
        found["retention"] = self.numbers[scoring].retention.final
        if scoring in self.intransigence:
            found["intransigence"] = self.intransigence[scoring]
        found |= dict(self.trained_transitions[scoring].items())
        found["lost_since_base"] = self.base_transitions[scoring].lost
        found |= self.stability.get(scoring, {})
        if scoring == "tolerant":
            del found["superficial"]
        return found

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        stages = self.arm.stages.values()
        return {
            "family": self.arm.family,
            "sweep": dict(self.arm.sweep),
            "method": dict(self.arm.method),
            "prompt": self.arm.prompt,
            "seeds": list(self.arm.seeds),
            "stages_planned": len(stages),
            "stages_evaluated": sum(stage.evaluated for stage in stages),
            **{scoring: numbers.as_dict() for scoring, numbers in self.numbers.items()},
            "schedule": self.arm.schedule,
            "intransigence": {scoring: metric.as_dict() for scoring, metric in self.intransigence.items()},
            "transitions": {
                kind: {scoring: _transitions_dict(found[scoring]) for scoring in SCORINGS}
                for kind, found in (
                    ("stage", self.stage_transitions),
                    ("trained", self.trained_transitions),
                    ("base", self.base_transitions),
                    ("general", self.general_transitions),
                )
            },
            "drift": self.drift.as_dict(),
            "stability": {scoring: _named(found) for scoring, found in self.stability.items()},
        }


def summarise_arm(run: RunData, arm: ArmRun, bootstrap: Bootstrap) -> ArmSummary:
    numbers: dict[Scoring, Numbers] = {}
    for scoring in SCORINGS:
        trained = accuracy_matrix(arm.scores, run.tasks, scoring=scoring, bootstrap=bootstrap)
        general = accuracy_matrix(arm.scores, run.tasks, columns=run.general, scoring=scoring, bootstrap=bootstrap)
        imported = accuracy_matrix(
            arm.scores,
            run.tasks,
            columns=tuple(run.imported),
            scoring=scoring,
            bootstrap=bootstrap,
            absent="not imported",
        )
        numbers[scoring] = Numbers(
            *(trained.bare(), general.bare(), metrics(trained), retention(general)),
            *(imported.bare(), retention(imported)),
        )

    def moves(between: Callable[..., Transitions]) -> dict[Scoring, Transitions]:
        return {scoring: between(arm.scores, bootstrap, scoring=scoring) for scoring in SCORINGS}

    measured = {place: stage.drift for place, stage in arm.stages.items()}
    moved = drift(measured, arm.seeds, len(run.tasks), bootstrap)
    if arm.schedule == "joint":  # its one policy stands for the policy after every task
        last = moved.stages[-1]["forward", "new"]
        moved = replace(moved, headline=replace(last, name="drift", definition=HEADLINE))
    return ArmSummary(
        arm,
        numbers,
        moves(stage_transitions),
        moves(trained_transitions),
        moves(base_transitions),
        moves(general_transitions),
        moved,
        courses=(courses := arm.courses(run.tasks)),
        stability=_stability(run, arm, courses, bootstrap),
    )


def _stability(
    run: RunData, arm: ArmRun, courses: Mapping[tuple[int, int], Course], bootstrap: Bootstrap
) -> dict[Scoring, dict[str, Metric]]:
    if not run.evaluated_between_steps:
        return {}
    if arm.schedule != "sequential":
        none = {name: undefined(name, text, "no sequence of tasks") for name, text in STEP_FORMULAS.items()}
        return dict.fromkeys(SCORINGS, none)
    return {scoring: stability(courses, run.tasks, arm.seeds, scoring, bootstrap) for scoring in SCORINGS}


def with_intransigence(arms: tuple[ArmSummary, ...], bootstrap: Bootstrap) -> tuple[ArmSummary, ...]:
    """Add intransigence to every arm if the run has the bound of any method: a joint or single-task arm."""
    bounds: dict[tuple[str, str], ArmSummary] = {}
    for schedule in ("single", "joint"):  # joint, where there are both
        for item in arms:
            if item.arm.schedule == schedule:
                bounds[item.arm.method["type"], item.arm.prompt] = item
    if not bounds:
        return arms
    found = []
    for item in arms:
        bound = bounds.get((item.arm.method["type"], item.arm.prompt))
        by_scoring = {}
        for scoring in SCORINGS:
            own = item.numbers[scoring].metrics["MFT"]
            if bound is None or item.arm.schedule != "sequential":
                reason = "is a bound itself" if item.arm.schedule != "sequential" else "no bound of this method"
                by_scoring[scoring] = undefined("intransigence", DEFINED["intransigence"], reason)
            else:
                best = bound.numbers[scoring].metrics["AvgAcc" if bound.arm.schedule == "joint" else "MFT"]
                by_scoring[scoring] = difference("intransigence", best, own, bootstrap)
        found.append(replace(item, intransigence=by_scoring))
    return tuple(found)


def _matrix_dict(matrix: Matrix) -> dict[str, Any]:
    cells = [[matrix.cell(i, j) for j in range(len(matrix.tasks))] for i in range(matrix.stages + 1)]
    return {
        "tasks": list(matrix.tasks),
        "n": list(matrix.n),
        "rows": ["base", *(f"stage {i}" for i in range(1, matrix.stages + 1))],
        "values": [[cell.value for cell in row] for row in cells],
        "low": [[cell.low for cell in row] for row in cells],
        "high": [[cell.high for cell in row] for row in cells],
    }


def _named(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {name: metric.as_dict() for name, metric in metrics.items()}


def _by_task(tasks: tuple[str, ...], row: tuple[Metric, ...]) -> dict[str, Any]:
    return {task: metric.as_dict() for task, metric in zip(tasks, row, strict=True)}


def _transitions_dict(transitions: Transitions) -> dict[str, Any]:
    return {
        **{name: metric.as_dict() for name, metric in transitions.items()},
        "tasks": {
            task: {name: metric.as_dict() for name, metric in row.items()} for task, row in transitions.by_task.items()
        },
    }
