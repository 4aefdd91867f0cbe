"""Builds report.html and summary.json from a run folder alone; a copy is enough, and no torch, ray or GPU is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cpt.common.files import write_json_atomic, write_text_atomic
from cpt.evaluate.curves import GRID
from cpt.evaluate.intervals import DEFINITION
from cpt.evaluate.matrix import DEFINITIONS, Matrix
from cpt.evaluate.stats import mean_or_nan
from cpt.evaluate.step_curves import MIN_ACC, WC_ACC
from cpt.report import plots
from cpt.report.answer_rules import BASE, answer_rows
from cpt.report.arm_summary import DEFINED, SCORINGS, TITLES
from cpt.report.benchmarks import benchmark_views
from cpt.report.comparison import LEARNED, MATCHED
from cpt.report.drift import drift_figure, drift_view
from cpt.report.during import during_dict, during_view
from cpt.report.figure_style import arm_colours, heat
from cpt.report.filters import FilteredStage, filtered_stages, pass_rates
from cpt.report.judged import JudgedView, judged_views, shortened_reply
from cpt.report.load import RunData, load_run
from cpt.report.objective_plots import objective_weights
from cpt.report.sample_cards import sample_cards
from cpt.report.sanity_checks import caveats, stage_checks, task_checks
from cpt.report.summary import Summary, summarise
from cpt.report.templates import environment
from cpt.report.timing import running_seconds, time_bars
from cpt.report.verdict import WORDS, both_learned, unlearned, verdicts
from cpt.types import RIGHT

# Metrics of the headline table and of the one below it, in percent or points (differences of percentages).
HEADLINE = ("MFT", "AvgAcc", "BWT", "retention", "lost", "superficial", "essential")
FURTHER = ("FM", "MAA", "FWT", "intransigence", "gained", "lost_since_base", MIN_ACC, WC_ACC)
BETWEEN_STEPS = (MIN_ACC, WC_ACC)
SIGNED = {"BWT", "FWT", "intransigence", "retention"}
LOWER_IS_BETTER = {"FM", "intransigence", "lost", "lost_since_base", "superficial", "essential"}


def build_report(run_dir: str | Path, *, trusted: frozenset[str] | None = None) -> Path:
    """Build the page of a run, finished or not, and summary.json. Returns the page's path.

    A run with rewards of its own gets a second page, rewards.html, which the first one links to.

    Args:
        trusted: texts of Python functions that may be executed as rewards; their scores are kept in the folder. Given
            by the process that runs the recipe; with None, nothing from the folder is executed.

    Raises:
        ValueError: not a run folder, or a damaged file in it.
    """
    run = load_run(run_dir)
    summary = summarise(run)
    found = summary.as_dict()
    found["answers"] = [row.as_dict() for row in answer_rows(run)]
    rewards_page = ""
    if run.has_rewards:
        from cpt.report.rewards.page import PAGE, render_study
        from cpt.report.rewards.study import study

        rewards = study(summary, trusted=trusted)
        found["rewards"] = rewards.as_dict()
        rewards_page = PAGE
        write_text_atomic(run.root / PAGE, render_study(rewards))
    if run.evaluated_between_steps:
        found["during"] = during_dict(summary)
    if filtered := filtered_stages(run):
        found["filters"] = [stage.as_dict() for stage in filtered]
    if benchmarks := benchmark_views(run):
        found["benchmarks"] = [view.as_dict() for view in benchmarks]
    if judged := judged_views(run, summary.bootstrap):
        found["judged"] = [view.as_dict() for view in judged]
    write_json_atomic(run.root / "summary.json", found)
    page = run.root / "report.html"
    write_text_atomic(page, render(summary, rewards_page, judged))
    return page


def render(summary: Summary, rewards_page: str = "", judged: Sequence[JudgedView] = ()) -> str:
    """The page: one self-contained HTML text. `rewards_page` is the file of the page on rewards, if there is one."""
    further = {"rewards_page": rewards_page, "judged": judged, "shortened_reply": shortened_reply}
    return environment().get_template("page.html.j2").render(**_view(summary), **further)


def _view(summary: Summary) -> dict[str, Any]:
    """The template's variables. Figures are safe HTML; the template escapes all other texts."""
    run = summary.run
    bars, phase_colours = time_bars(run)
    checks, bases = stage_checks(summary), task_checks(summary)
    filtered = filtered_stages(run)
    answers = answer_rows(run)
    return {
        "run": run,
        "summary": summary,
        "benchmarks": benchmark_views(run),
        "colours": arm_colours(run),
        "scorings": SCORINGS,
        "headline": HEADLINE,
        "further": [name for name in FURTHER if name in summary.arms[0].headline()],
        "titles": TITLES,
        "definitions": DEFINED,
        "definitions_short": {*BETWEEN_STEPS, *(definition.name for definition in DEFINITIONS)},
        "signed": SIGNED,
        "lower": LOWER_IS_BETTER,
        "matched_points": MATCHED * 100,
        "alongs": summary.along if summary.run.style_counts else [a for a in summary.along if a.scoring == "strict"],
        "grid": GRID,
        "words": WORDS,
        "intervals": DEFINITION,
        "right": RIGHT,
        "scores_named": _named(run),
        "thresholds": _thresholds(run),
        "caveats": caveats(run),
        "verdicts": verdicts(summary),
        "pairs": [(pair, both_learned(pair, checks), unlearned(pair, checks)) for pair in summary.pairs],
        "flags": sum(bool(check.flags) for check in checks)
        + sum(bool(check.flag) for check in bases)
        + sum(bool(row.answers.rule) for row in answers if row.after),
        "stage_checks": checks,
        "task_checks": bases,
        "answers": answers,
        "base_answers": {row.task: row.answers for row in answers if row.arm == BASE},
        "learned_points": LEARNED * 100,
        "bases": _bases(summary),
        "imported": _imported(summary),
        "heatmaps": {scoring: _heatmaps(summary, scoring) for scoring in SCORINGS},
        "drift": drift_view(summary),
        "during": during_view(summary) if run.evaluated_between_steps else None,
        "figures": _figures(summary, bars, phase_colours, filtered),
        "filtered": filtered,
        "cards": sample_cards(summary),
        "samples_per_task": sorted({len(ids) for arm in run.arms for ids in arm.scores.sample_ids.values() if ids}),
        "copies": _copies(run),
        "seconds": running_seconds(run),
        "finished": all(arm.finished for arm in run.arms),
    }


def _named(run: RunData) -> dict[str, list[str]]:
    """What tasks call their scores → those tasks, of the tasks that say it."""
    found: dict[str, list[str]] = {}
    for task, metric in {task: metric for arm in run.arms for task, metric in arm.scores.metric.items()}.items():
        if metric:
            found.setdefault(metric, []).append(task)
    return found


def _thresholds(run: RunData) -> dict[str, float]:
    """From where on a sample counts as right, of the tasks that say otherwise than `RIGHT`."""
    found = {task: right_from for arm in run.arms for task, right_from in arm.scores.right_from.items()}
    return {task: right_from for task, right_from in found.items() if right_from != RIGHT}


def _figures(
    summary: Summary, bars: Any, phase_colours: dict[str, str], filtered: list[FilteredStage]
) -> dict[str, Any]:
    twice = ("tradeoff", "stages", "retention", "drift")  # drawn under both scorings if these differ
    drawn = dict.fromkeys((f"{name}_tolerant" for name in twice), "")
    for scoring in SCORINGS if summary.run.style_counts else SCORINGS[:1]:
        drawn[f"tradeoff_{scoring}"] = plots.tradeoff(summary, scoring)
        drawn[f"stages_{scoring}"] = plots.accuracy_by_stage(summary, scoring)
        drawn[f"retention_{scoring}"] = plots.retention_by_stage(summary, scoring)
        drawn[f"drift_{scoring}"] = drift_figure(summary, scoring)
    drawn["learning"] = plots.learning_curves(summary.run)
    drawn["objectives"] = objective_weights(summary.run)
    drawn["filter"] = pass_rates(summary.run, filtered)
    drawn["gap"] = plots.logprob_gap(summary.run)
    drawn["time"] = plots.time_budget(bars, phase_colours)
    return {name: Markup(svg) for name, svg in drawn.items()}


def _bases(summary: Summary) -> list[dict[str, Any]]:
    """Mean strict scores of the base model, per prompt style in use."""
    found: dict[str, dict[str, Any]] = {}
    for item in summary.arms:
        numbers = item.numbers["strict"]
        trained, general = (mean_or_nan(matrix.values[0]) for matrix in (numbers.trained, numbers.general))
        if not math.isnan(trained):
            has_general = None if math.isnan(general) else general
            found.setdefault(item.arm.prompt, {"prompt": item.arm.prompt, "trained": trained, "general": has_general})
    return list(found.values())


def _imported(summary: Summary) -> list[dict[str, Any]]:
    """Tasks that were scored elsewhere: by what, and of every arm the base model's score, the last and the change."""
    rows = []
    for column, (task, source) in enumerate(summary.run.imported.items()):
        arms = []
        for item in summary.arms:
            numbers = item.numbers["strict"]
            change = numbers.imported_change.by_task[-1][column]
            ends = [numbers.imported.cell(stage, column) for stage in (0, numbers.imported.stages)]
            arms.append({"arm": item.arm, "base": ends[0], "last": ends[1], "change": change})
        metric = next((item.arm.scores.metric[task] for item in summary.arms if item.arm.scores.metric[task]), "")
        rows.append({"task": task, "source": source, "metric": metric, "arms": arms})
    return rows


def _heatmaps(summary: Summary, scoring: Any) -> list[dict[str, Any]]:
    """One table per arm: rows are stages, cells carry value, interval and colours; `own` is the stage's own task."""
    tables = []
    for arm_summary in summary.arms:
        numbers = arm_summary.numbers[scoring]
        rows = []
        for stage in range(numbers.trained.stages + 1):
            trained = [_heat_cell(numbers.trained, stage, j, own=j + 1 == stage) for j in range(len(summary.run.tasks))]
            general = [_heat_cell(numbers.general, stage, j) for j in range(len(summary.run.general))]
            elsewhere = [_heat_cell(numbers.imported, stage, j) for j in range(len(summary.run.imported))]
            label = "base" if stage == 0 else f"{stage}"
            rows.append({"label": label, "trained": trained, "general": general, "imported": elsewhere})
        tables.append({"arm": arm_summary.arm, "rows": rows})
    return tables


def _heat_cell(matrix: Matrix, stage: int, column: int, *, own: bool = False) -> dict[str, Any]:
    metric = matrix.cell(stage, column)
    background, ink = heat(metric.value)
    return {"metric": metric, "background": background, "ink": ink, "own": own}


def _copies(run: RunData) -> dict[str, tuple[int, int]]:
    """Tasks whose test samples ask some question more than once: (questions, samples)."""
    found = {}
    for arm in run.arms:
        for task, questions in arm.scores.questions.items():
            if len(questions) and (different := int(questions.max()) + 1) < len(questions):
                found[task] = (different, len(questions))
    return found
