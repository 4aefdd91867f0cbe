"""Evaluators over the policies of a run: what is still to be measured, and measuring it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cpt.common.console import counted
from cpt.evaluate.evaluators.base import Evaluator, Subject, measured_key
from cpt.evaluate.evaluators.registry import evaluators
from cpt.evaluate.responses import FILE, remembering
from cpt.plan.run_plan import RunPlan
from cpt.plan.stages import BasePlan, StagePlan
from cpt.run.worker import run_evaluator
from cpt.store.run_store import RunStore

if TYPE_CHECKING:
    from cpt.rollout.pool import RolloutPool


@dataclass
class Evaluations:
    """What the plan asks of every evaluator, and what the run folder has of it.

    Attributes:
        note: is told of what a user should know.
    """

    store: RunStore
    evaluators: tuple[Evaluator, ...] = field(default_factory=evaluators)
    note: Callable[[str], None] = print

    def of_stage(self, stage: StagePlan) -> Subject:
        """The policy that a stage leaves."""
        return Subject.of_stage(stage, self.store.stage(stage))

    def of_base(self, base: BasePlan) -> Subject:
        """The base model."""
        return Subject.of_base(base, self.store.base_dir(base.seed, base.prompt))

    def subjects(self, plan: RunPlan) -> list[Subject]:
        """All policies of a run: the base model's rows, then the stages'."""
        return [*map(self.of_base, plan.bases), *map(self.of_stage, plan.stages)]

    def missing(self, subject: Subject) -> list[Evaluator]:
        """The evaluators that have not measured what the plan asks of them."""
        asked = [(one, measured_key(one, subject)) for one in self.evaluators]
        return [
            one
            for one, measures in asked
            if measures is not None and not self.store.is_measured(subject.out, one.name, subject.key, measures)
        ]

    def all_measured(self, plan: RunPlan) -> bool:
        """Whether nothing is left to measure."""
        return not any(map(self.missing, self.subjects(plan)))

    def forget_changed(self, plan: RunPlan) -> dict[str, int]:
        """Take the markers from results of which something else is asked now; by evaluator, how many.

        All at once, before anything is measured: what is reported until then has never two kinds of results in it.
        """
        found: dict[str, int] = {}
        for subject in self.subjects(plan):
            for one in self.missing(subject):
                if self.store.is_measured(subject.out, one.name, subject.key):
                    self.store.forget(subject.out, one.name)
                    found[one.name] = found.get(one.name, 0) + 1
        return found

    def measure(self, evaluator: Evaluator, subject: Subject, pool: RolloutPool, worker: Callable[[], Any]) -> None:
        """Let one evaluator measure one policy, then mark that it has. What the policy has answered is not asked again.

        Args:
            worker: gives a training process, for an evaluator that loads models.
        """
        self.store.forget(subject.out, evaluator.name)
        with self.store.phase(evaluator.phase, arm=subject.arm, seed=subject.seed, stage=subject.stage):
            if evaluator.needs_engines:
                pool.push_folder(subject.folder, subject.version)
            file = subject.out.evaluated / FILE
            engines = remembering(pool, subject, engine=pool.engine, file=file, note=self.note)
            if evaluator.needs_model:
                notes = run_evaluator(worker(), evaluator, subject, engines)
            else:
                notes = evaluator.run(subject, engines)
        measures = measured_key(evaluator, subject)
        assert measures is not None
        files = evaluator.files(subject.out)
        self.store.mark_measured(subject.out, evaluator.name, subject.key, measures, files, **notes)


def during_notes(store: RunStore, plan: RunPlan) -> list[str]:
    """That stages were trained before they were to be evaluated in their training as they are now, if there are any."""
    late = [
        stage
        for stage in plan.stages
        if stage.during.steps
        and store.is_trained(stage)
        and store.measured_during(stage) != {"steps": list(stage.during.steps), "samples": dict(stage.during.samples)}
    ]
    if not late:
        return []
    return [
        f"evaluation.during: {counted(len(late), 'stage')} of {len(plan.stages)} were trained without it, or with "
        "another, and stay as they are: policies in training can't be evaluated afterwards"
    ]
