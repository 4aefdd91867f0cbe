"""Everything the rewards' page shows: per reward set reward and accuracy, exploits, and what the audit predicted.

A run has this page if one of its arms has a `reward:`. Every arm with rollouts is on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpt.common.digests import differing, listing
from cpt.common.files import read_json, write_json_atomic
from cpt.evaluate.stats import format_number
from cpt.report.arm_summary import ArmSummary
from cpt.report.load import REWARD, ArmRun, RunData, StageRun
from cpt.report.rewards import rescoring
from cpt.report.rewards.audit import Prediction, example_of, predict
from cpt.report.rewards.exploits import Exploits, Scored, find_exploits
from cpt.report.rewards.plots import STRICT
from cpt.report.rewards.reward_vs_accuracy import HeldOut, held_out_in_stage, mean_of_stages
from cpt.report.summary import Summary
from cpt.store.schemas import Audits
from cpt.types import Sample

FILE = "rewards.json"
UNTRUSTED = "the reward is Python text in the run folder, which cpt report does not execute"
OTHER_SAMPLES = "this installation's tasks make other samples than the run's"


@dataclass(frozen=True)
class RewardStage:
    """One stage under one reward set. A joint stage has one for each task, from the base model to its end.

    Attributes:
        held_out: its own task on held-out samples, before and after.
        training: reward and accuracy of the rollouts, first and last tenth of the steps, in words.
        before, after: exploits among the held-out completions of the task; None if not known.
        audit: the audit's result; if None, `unaudited` is the reason.
    """

    held_out: HeldOut
    training: str
    before: Exploits | None
    after: Exploits | None
    audit: Prediction | None
    unaudited: str = ""

    @property
    def predicted(self) -> bool | None:
        """Whether the audit predicts the most frequent kind of exploit; None if there is none, or it is not known."""
        if self.after is None or self.audit is None or not self.after.texts:
            return None
        return self.audit.predicts(next(iter(self.after.kinds)))


@dataclass(frozen=True)
class BeforeAfter:
    """A share of completions before and after a stage, mean over stages."""

    before: float
    after: float


@dataclass(frozen=True)
class RewardSet:
    """One arm of the study.

    Attributes:
        reward: in words; one text per different reward over the stages.
        overall: `held_out`, mean over stages.
    """

    summary: ArmSummary
    reward: tuple[str, ...]
    stages: tuple[RewardStage, ...]
    overall: HeldOut

    @property
    def arm(self) -> ArmRun:
        """The arm."""
        return self.summary.arm

    @property
    def headline(self) -> Mapping[str, Any]:
        """BWT, retention and so on, strict."""
        return self.summary.headline()

    @property
    def hacked(self) -> bool:
        """Whether any stage is flagged."""
        return any(stage.held_out.hacked for stage in self.stages)

    @property
    def wrong_rewarded(self) -> BeforeAfter | None:
        """Share that is wrong but rewarded; None where no stage is known."""
        known = [(s.before, s.after) for s in self.stages if s.before and s.after and s.before.total and s.after.total]
        if not known:
            return None
        shares = [(before.count / before.total, after.count / after.total) for before, after in known]
        return BeforeAfter(*(sum(column) / len(column) for column in zip(*shares, strict=True)))

    def as_dict(self) -> dict[str, Any]:
        """For summary.json."""
        stages = []
        for index, stage in enumerate(self.stages, start=1):
            parts = {"before": stage.before, "after": stage.after, "audit": stage.audit}
            plain = {name: None if part is None else part.as_dict() for name, part in parts.items()}
            stages.append({"stage": index, "predicted": stage.predicted, "held_out": stage.held_out.as_dict(), **plain})
        return {
            "reward": list(self.reward),
            "hacked": self.hacked,
            "held_out": self.overall.as_dict(),
            "stages": stages,
        }


@dataclass(frozen=True)
class Study:
    """All reward sets of a run."""

    summary: Summary
    sets: tuple[RewardSet, ...]

    def as_dict(self) -> dict[str, Any]:
        """For summary.json, under `rewards`."""
        return {one.arm.name: one.as_dict() for one in self.sets}


def study(summary: Summary, *, trusted: frozenset[str] | None) -> Study:
    """Rescore, compare, audit.

    Rewards whose code is among `trusted` are executed and their scores kept in the folder; with None, those are read.
    """
    run = summary.run
    audits = _kept_audits(run)  # first: nothing parses rewards.parquet before its digest is known to be right
    kept = {} if trusted is not None else rescoring.read_scores(run.root)
    rescored: dict[str, rescoring.Rescored] = {}
    predictions: dict[str, dict[str, Any]] = {}
    sets = []
    for item in summary.arms:
        has_rollouts = any(REWARD in row for stage in item.arm.stages.values() for row in stage.metrics)
        if not has_rollouts and not run.rewards_arm(item.arm):
            continue
        rescored[item.arm.name] = rescoring.rescore(run, item.arm, trusted=trusted, kept=kept)
        sets.append(_set(summary, item, rescored[item.arm.name], audits, trusted))
        for stage, key in zip(sets[-1].stages, _keys(item.arm, run.tasks), strict=True):
            if stage.audit is not None:
                predictions[key] = stage.audit.as_dict()
    if trusted is not None:
        rescoring.write_scores(run.root, run, rescored)
        scores = [path for path in (run.root / rescoring.FILE,) if path.exists()]
        files = listing(run.root, scores)
        write_json_atomic(run.root / FILE, {"audits": predictions, "files": files}, sealed=True)
    return Study(summary, tuple(sets))


def _kept_audits(run: RunData) -> Mapping[str, Any]:
    """The audits that the run kept. ValueError if rewards.json or rewards.parquet is not what the run wrote."""
    path, sealed = run.root / FILE, run.manifest["format_version"] >= 2
    if not path.exists():
        return {}
    advice = "delete it, and the run's own command makes it again"
    kept = {"files": {}, **read_json(path, Audits, sealed=sealed, advice=advice)}
    there = {name: digest for name, digest in kept["files"].items() if (run.root / name).exists()}
    if problem := differing(run.root, there):
        raise ValueError(f"{problem}; {advice}")
    audits: Mapping[str, Any] = kept["audits"]
    return audits


def _keys(arm: ArmRun, tasks: Sequence[str]) -> list[str]:
    """For every task the key of its audit: that of its stage, which changes with the reward."""
    if arm.schedule == "joint":  # one stage on all of them
        return [f"{arm.stages[arm.seeds[0], len(tasks)].plan['key']}/{task}" for task in tasks]
    return [str(arm.stages[arm.seeds[0], index].plan["key"]) for index in range(1, len(tasks) + 1)]


def _set(
    summary: Summary,
    item: ArmSummary,
    rescored: rescoring.Rescored,
    audits: Mapping[str, Any],
    trusted: frozenset[str] | None,
) -> RewardSet:
    arm, run = item.arm, summary.run
    stages = []
    words: dict[str, None] = {}
    for index, (task, key) in enumerate(zip(run.tasks, _keys(arm, run.tasks), strict=True), start=1):
        rows = arm.rows(index)
        first = arm.stages[arm.seeds[0], rows[1]]
        spec = rescoring.spec_of(arm, index, task)
        words["the task's own" if spec is None else spec.describe()] = None
        held_out = held_out_in_stage(
            arm.records, rescored.scores, task=task, rows=rows, seeds=arm.seeds, bootstrap=summary.bootstrap
        )
        samples = [sample for sample in rescored.samples.values() if sample.task == task]
        audit, reason = None, "" if samples else OTHER_SAMPLES if first.evaluated else "not evaluated yet"
        if samples and rescoring.may_run(spec, trusted):
            audit = predict(spec, task, samples, first.plan["prompt"])
        elif samples and key in audits:
            audit = Prediction.from_dict(audits[key])
        elif samples:
            reason = UNTRUSTED
        before, after = (_exploits(arm, rescored, samples, task, row) for row in rows)
        training = "; ".join(_training(arm.stages[seed, rows[1]]) for seed in arm.seeds)
        stages.append(RewardStage(held_out, training, before, after, audit, reason))
    overall = mean_of_stages([stage.held_out for stage in stages], summary.bootstrap)
    return RewardSet(item, tuple(words), tuple(stages), overall)


def _exploits(arm: ArmRun, rescored: rescoring.Rescored, samples: list[Sample], task: str, row: int) -> Exploits | None:
    found = [
        Scored(record, rescored.samples[record.sample_id], rescored.scores[key])
        for key, record in arm.records.items()
        if key[1] == row and record.task == task and key in rescored.scores and record.sample_id in rescored.samples
    ]
    if not found:
        return None
    return find_exploits(found, arm.prompt, lambda sample: example_of(sample, samples))  # type: ignore[arg-type]


def _training(stage: StageRun) -> str:
    """`reward 61.2 → 80.4, strict 52.0 → 31.7`: rollouts of the first and of the last tenth of the steps."""
    rows = stage.metrics
    tenth = max(1, len(rows) // 10)
    parts = []
    for key, name in ((REWARD, "reward"), (STRICT, "strict")):
        ends = [[float(row[key]) for row in some if row.get(key) is not None] for some in (rows[:tenth], rows[-tenth:])]
        if all(ends):
            first, last = (format_number(100 * sum(end) / len(end)) for end in ends)
            parts.append(f"{name} {first} → {last}")
    return ", ".join(parts) or "n/a"
