"""Sanity checks: headroom of each task; steps, learning, log-probability gap and truncation of each stage."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from cpt.evaluate.stats import Metric, mean_or_nan
from cpt.plan.epochs import unequal
from cpt.report.answer_rules import rule_caveats
from cpt.report.arm_summary import ArmSummary
from cpt.report.comparison import LEARNED
from cpt.report.load import RunData, StageRun
from cpt.report.summary import Summary

HEADROOM = 0.10  # a task with less left to learn is flagged
NO_SKILL = 0.02  # below this, on-policy methods have nothing to reinforce
GENERAL_SKILL = 0.50  # below this, a general task has little that could be forgotten
TRUNCATED = 0.05


@dataclass(frozen=True)
class TaskCheck:
    """The base model on one task. `flag` is empty if nothing is wrong."""

    task: str
    role: str
    n: int
    strict: Metric
    tolerant: Metric
    flag: str

    @property
    def headroom(self) -> float | None:
        """1 − strict score: what is left to learn."""
        return None if self.strict.value is None else 1 - self.strict.value


@dataclass(frozen=True)
class StageCheck:
    """One trained stage of one seed.

    Attributes:
        state: `complete`, `trained` (not evaluated yet), `training` or `waiting`.
        gain_strict, gain_tolerant: score on the stage's task after it, minus the base model's.
        gap: largest log-probability gap; it may not exceed `bound`.
        truncated: share of the evaluation's completions cut off at the token limit.
        tokens: mean length of these completions.
        flags: what is wrong, in words.
    """

    arm: str
    seed: int
    index: int
    task: str
    state: str
    steps: int
    planned: int
    gain_strict: float | None
    gain_tolerant: float | None
    gap: float | None
    bound: float
    truncated: float | None
    tokens: float | None
    flags: tuple[str, ...]


def task_checks(summary: Summary) -> list[TaskCheck]:
    """Base scores with their flags, from the first arm that has them."""
    run = summary.run
    found = []
    for role, tasks in (("trained", run.tasks), ("general", run.general)):
        for column, task in enumerate(tasks):
            cells = [_base_cells(a, role, column) for a in summary.arms]
            strict, tolerant = next((c for c in cells if c[0].value is not None), cells[0])
            n = len(summary.arms[0].arm.scores.sample_ids[task])
            found.append(TaskCheck(task, role, n, strict, tolerant, _task_flag(role, strict.value)))
    return found


def _base_cells(summary: ArmSummary, role: str, column: int) -> tuple[Metric, Metric]:
    matrices = (n.trained if role == "trained" else n.general for n in summary.numbers.values())
    strict, tolerant = (matrix.cell(0, column) for matrix in matrices)
    return strict, tolerant


def _task_flag(role: str, base: float | None) -> str:
    if base is None:
        return "not evaluated"
    if role == "trained" and base > 1 - HEADROOM:
        return "hardly any headroom: the base already knows it"
    if role == "trained" and base < NO_SKILL:
        return "the base is never right: an on-policy method has nothing to reinforce"
    if role == "general" and base < GENERAL_SKILL:
        return "the base can't do it: little that could be forgotten"
    return ""


def stage_checks(summary: Summary) -> list[StageCheck]:
    """Every planned stage with its flags."""
    found = []
    for arm_summary in summary.arms:
        for (seed, index), stage in sorted(arm_summary.arm.stages.items()):
            found.append(_stage_check(arm_summary, seed, index, stage))
    return found


def _stage_check(summary: ArmSummary, seed: int, index: int, stage: StageRun) -> StageCheck:
    arm, task = summary.arm, str(stage.plan["task"])
    planned, bound = int(stage.plan["steps"]), float(stage.plan["max_logprob_gap"])
    at = arm.scores.seeds.index(seed)
    gains = []
    for numbers in summary.numbers.values():
        rows_by_task = numbers.trained.per_seed[at]
        own = rows_by_task.mean(axis=1) if arm.schedule == "joint" else rows_by_task[:, index - 1]
        gain = float(own[index] - own[0])
        gains.append(None if gain != gain else gain)
    rows = [record for (s, i, _), record in arm.records.items() if (s, i) == (seed, index)]
    truncated = sum(record.finish_reason == "length" for record in rows) / len(rows) if rows else None
    tokens = mean_or_nan([record.n_tokens for record in rows]) if rows else None
    state = (
        "complete" if stage.evaluated else "trained" if stage.trained else "training" if stage.metrics else "waiting"
    )
    flags = []
    if stage.trained and stage.last_step != planned:
        flags.append(f"metrics of {stage.last_step} of {planned} steps")
    if stage.max_gap is not None and stage.max_gap > bound:
        flags.append("log-probability gap above its bound")
    if gains[0] is not None and gains[1] is not None and max(gains[0], gains[1]) < LEARNED:
        flags.append(f"not learned: less than {LEARNED * 100:.0f} points over the base")
    if truncated is not None and truncated > TRUNCATED:
        flags.append(f"{truncated:.0%} of completions cut off")
    return StageCheck(
        arm=arm.label,
        seed=seed,
        index=index,
        task=task,
        state=state,
        steps=planned if stage.trained else stage.last_step,
        planned=planned,
        gain_strict=gains[0],
        gain_tolerant=gains[1],
        gap=stage.max_gap,
        bound=bound,
        truncated=truncated,
        tokens=tokens,
        flags=tuple(flags),
    )


def caveats(run: RunData) -> list[str]:
    """What a reader must know before any number."""
    found = list(run.notes)
    if len(run.seeds) == 1:
        found.append(
            "One seed: the intervals cover the choice of test samples only, not the variance between training runs. "
            "Differences are between these policies, not between the methods: leads, not results."
        )
    elif len(run.seeds) < 5:
        found.append(
            f"{len(run.seeds)} seeds: the intervals cover the variance between seeds, and are wide with so few."
        )
    found += rule_caveats(run)
    if told := _unequal_data(run):
        found.append(f"{told[0].upper()}{told[1:]}.")
    for arm in run.arms:
        replay = next(iter(arm.stages.values())).plan.get("replay") or {}
        trained = [name for name in replay.get("tasks", ()) if name in run.general]
        if trained:
            found.append(f"{arm.label} replays {', '.join(trained)}: its retention there is not of untrained tasks.")
    unfinished = [arm.label for arm in run.arms if not arm.finished]
    if unfinished:
        found.append(f"Unfinished: {', '.join(unfinished)}. What needs their missing evaluations is n/a.")
    return found


def _unequal_data(run: RunData) -> str:
    epochs = {}
    for arm in run.arms:
        own = [stage.plan for (seed, _), stage in sorted(arm.stages.items()) if seed == arm.seeds[0]]
        planned = [plan.get("epochs", plan.get("passes")) for plan in own]  # older versions wrote `passes`, or neither
        if None in planned:
            return ""
        epochs[arm.label] = [Fraction(one) for one in planned]
    return unequal(epochs) if epochs else ""
