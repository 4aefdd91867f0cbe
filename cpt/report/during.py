"""What stages do between their first step and their last: a figure, and a table of arms at equal learning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cpt.evaluate.drift import GROUPS
from cpt.evaluate.scores import Scoring
from cpt.evaluate.stats import Bootstrap, Metric, difference, format_number
from cpt.evaluate.step_curves import MIN_ACC, Course, Matched, learned, matched
from cpt.report.arm_summary import SCORINGS, ArmSummary
from cpt.report.figure_style import arm_colours, arms_below, new_figure, plotting, to_svg
from cpt.report.load import ArmRun, RunData
from cpt.report.plots import at_least
from cpt.report.summary import Summary

LABELS = {"new": "new task (%)", "prior": "earlier tasks (%)", "general": "general tasks (%)"}
SEQUENTIAL = "sequential"
_NAMED = 4  # arms in the terminal's line


@dataclass(frozen=True)
class AtEqual:
    """The arms of one stage where they have learned as much.

    Attributes:
        arms: in the recipe's order; the first one is what the others are compared with.
        gaps: of every other arm by name, its scores and its changes minus the first one's: see `_gaps`.
        unlearned: arms left out, because they end the stage no better at its task than they began it.
    """

    scoring: Scoring
    stage: int
    task: str
    arms: Mapping[str, Matched]
    gaps: Mapping[str, Mapping[str, Metric]]
    unlearned: Sequence[ArmRun]

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return {
            "scoring": self.scoring,
            "stage": self.stage,
            "target": next(iter(self.arms.values())).target,
            "unlearned": [arm.name for arm in self.unlearned],
            "arms": {
                name: {
                    "steps": {str(seed): step for seed, step in found.steps.items()},
                    "scores": {group: metric.as_dict() for group, metric in found.scores.items()},
                    "changes": {group: metric.as_dict() for group, metric in found.changes.items()},
                }
                for name, found in self.arms.items()
            },
            "differences": {
                name: {group: gap.as_dict() for group, gap in found.items()} for name, found in self.gaps.items()
            },
        }


def groups_of(run: RunData, schedule: str, index: int) -> dict[str, tuple[str, ...]]:
    """The tasks that a stage trains on, those of the stages before, and those that no stage trains on."""
    new = run.tasks if schedule == "joint" else (run.tasks[index - 1],)
    return {"new": new, "prior": run.tasks[: index - 1] if schedule == SEQUENTIAL else (), "general": run.general}


def at_equal(summary: Summary, scoring: Scoring) -> list[AtEqual]:
    """Stage by stage, where two sequential arms or more were evaluated during it and at its end."""
    found = []
    for index, task in enumerate(summary.run.tasks, start=1):
        groups = groups_of(summary.run, SEQUENTIAL, index)
        asked = [(item.arm, _finished(item, index)) for item in summary.arms if item.arm.schedule == SEQUENTIAL]
        unlearned = [arm for arm, own in asked if own and not learned(own, groups["new"], scoring)]
        arms = {arm.name: own for arm, own in asked if own and arm not in unlearned}
        at = matched(arms, groups, scoring, summary.bootstrap) if len(arms) > 1 else {}
        if len(at) > 1:
            found.append(AtEqual(scoring, index, task, at, _gaps(at, summary.bootstrap), unlearned))
    return found


def _finished(item: ArmSummary, index: int) -> dict[int, Course]:
    return {seed: one for (seed, stage), one in item.courses.items() if stage == index and one.finished}


def _gaps(at: Mapping[str, Matched], bootstrap: Bootstrap) -> dict[str, dict[str, Metric]]:
    """By group of tasks the difference of scores, and as `new change` and so on that of changes."""
    first, *others = at
    found: dict[str, dict[str, Metric]] = {}
    for name in others:
        pairs = {group: (metric, at[first].scores[group]) for group, metric in at[name].scores.items()}
        pairs |= {f"{group} change": (metric, at[first].changes[group]) for group, metric in at[name].changes.items()}
        found[name] = {kind: difference(f"Δ {kind}", *pair, bootstrap) for kind, pair in pairs.items()}
    return found


def during_dict(summary: Summary) -> dict[str, Any]:
    """For summary.json."""
    return {
        "arms": {
            item.arm.name: [
                {
                    "seed": seed,
                    "stage": stage,
                    "steps": list(one.steps),
                    "samples": {task: len(ids) for task, ids in one.ids.items()},
                    **{
                        scoring: {task: one.curve(scoring, [task]).tolist() for task in one.ids} for scoring in SCORINGS
                    },
                }
                for (seed, stage), one in sorted(item.courses.items())
            ]
            for item in summary.arms
        },
        "at_equal_accuracy": [one.as_dict() for scoring in SCORINGS for one in at_equal(summary, scoring)],
    }


def during_view(summary: Summary) -> dict[str, Any]:
    """The template's variables; None where nothing was measured."""
    courses = [one for item in summary.arms for one in item.courses.values()]
    samples = sorted({len(ids) for one in courses for ids in one.ids.values()})
    labels = {item.arm.name: item.arm for item in summary.arms}
    return {
        "samples": samples,
        "figure": step_curves(summary, "strict"),
        "at_equal": [
            {
                "stage": one.stage,
                "task": one.task,
                "target": next(iter(one.arms.values())).target,
                "unlearned": one.unlearned,
                "rows": [
                    {
                        "arm": labels[name],
                        "step": _steps(found),
                        "scores": found.scores,
                        "changes": found.changes,
                        "gaps": one.gaps.get(name),
                    }
                    for name, found in one.arms.items()
                ],
            }
            for one in at_equal(summary, "strict")
        ],
    }


def _steps(found: Matched) -> str:
    shown = ["not reached" if step is None else str(step) for step in found.steps.values()]
    return ", ".join(shown) if len({*shown}) > 1 else shown[0]


def step_curves(summary: Summary, scoring: Scoring) -> str:
    """Scores by step, a row per group of tasks and a column per stage; "" if nothing was measured."""
    run = summary.run
    rows = {group: drawn for group in GROUPS if (drawn := list(_curves(summary, group, scoring)))}
    if not rows:
        return ""
    colours = arm_colours(run)
    with plotting():
        figure = new_figure(2.3 * len(rows))
        for number, (group, drawn) in enumerate(rows.items()):
            first = None
            for column, task in enumerate(run.tasks, start=1):
                own = [(arm, steps, values) for arm, stage, steps, values in drawn if stage == column]
                if not own:
                    continue
                place = number * len(run.tasks) + column
                axes = figure.add_subplot(len(rows), len(run.tasks), place, sharey=first)
                for arm, steps, values in own:
                    axes.plot(steps, 100 * values, color=colours[arm.name], marker="o", ms=3, lw=1.2)
                axes.locator_params(axis="x", integer=True, nbins=7)
                axes.set_ylim(at_least(axes.get_ylim(), 10.0))
                if number == 0:
                    axes.set_title(f"{column}  {task}")
                if first is None:
                    axes.set_ylabel(LABELS[group])
                if number == len(rows) - 1:
                    axes.set_xlabel("step of the stage")
                first = first or axes
        arms_below(figure, run, [item.arm for item in summary.arms if item.courses])
        return to_svg(figure, f"during-{scoring}")


def _curves(
    summary: Summary, group: str, scoring: Scoring
) -> Iterator[tuple[ArmRun, int, Sequence[int], np.ndarray[Any, Any]]]:
    """Arm, stage, steps and mean scores on a group of tasks, of every seed."""
    for item in summary.arms:
        for (_, stage), one in sorted(item.courses.items()):
            values = one.curve(scoring, groups_of(summary.run, item.arm.schedule, stage)[group])
            if not np.isnan(values).any():
                yield item.arm, stage, one.steps, values


def during_line(summary: Summary) -> str:
    """For the terminal: the lowest points between the steps; "" where none is known."""
    found = [(item.arm.label, item.headline().get(MIN_ACC)) for item in summary.arms]
    known = [(label, 100 * metric.value) for label, metric in found if metric is not None and metric.value is not None]
    if not known:
        return ""
    between = ", "
    if len(known) > _NAMED:
        known, between = [pick(known, key=lambda one: one[1]) for pick in (min, max)], " to "
    shown = between.join(f"{label} {format_number(value)}" for label, value in known)
    return f"{MIN_ACC}, finished tasks at their lowest evaluated step: {shown}"
