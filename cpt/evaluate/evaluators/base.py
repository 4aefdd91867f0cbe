"""What an evaluator is, and what it is told of a policy.

Evaluators run after training, each on its own: what they measure is no part of a stage's key, so that one can be added
to a finished run, whose stages are then not trained again. All of them find the policy's weights in the engines: the
first one that needs them pushes, and a push of weights that are there already sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cpt.plan.stages import BasePlan, DriftPlan, EvaluationPlan, ModelPlan, StagePlan, finished_version
from cpt.recipe import content_hash
from cpt.store.folder import StageDir
from cpt.types import Completion, GenerationRequest, PromptStyle, SamplingParams, ScoringRequest


class Engines(Protocol):
    """What evaluators need of the rollout pool."""

    def push_folder(self, folder: str | Path, version: str) -> str:
        """See `cpt.rollout.pool.RolloutPool.push_folder`."""
        ...

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, *, version: str
    ) -> list[list[Completion]]:
        """Completions per request, `params.n` each, made with the weights of `version`."""
        ...

    def loglikelihood(self, requests: Sequence[ScoringRequest], *, version: str) -> list[list[float]]:
        """Log-probabilities of given completions' tokens (see `cpt.rollout.engine.Engine.loglikelihood`)."""
        ...


@dataclass(frozen=True)
class Subject:
    """A finished policy, or the base model: a row of the matrix. Plain data: can be sent to another process.

    Attributes:
        plan: what was planned for it.
        folder: a Hugging Face folder, adapters merged; for the base model perhaps an id on the Hub.
        out: where results go.
    """

    plan: StagePlan | BasePlan
    folder: str
    out: StageDir

    @classmethod
    def of_stage(cls, stage: StagePlan, out: StageDir) -> Subject:
        """The policy that a stage leaves in its folder `out`."""
        return cls(stage, str(out.policy), out)

    @classmethod
    def of_base(cls, base: BasePlan, out: StageDir) -> Subject:
        """The base model in one prompt style."""
        return cls(base, base.model.path, out)

    @property
    def key(self) -> str:
        """Identity of the weights and of the prompts' style."""
        return self.plan.key

    @property
    def version(self) -> str:
        """Of the weights in the engines."""
        return finished_version(self.key)

    @property
    def arm(self) -> str:
        """As records are labelled."""
        return self.plan.arm if isinstance(self.plan, StagePlan) else "base"

    @property
    def seed(self) -> int:
        return self.plan.seed

    @property
    def stage(self) -> int:
        """Position of the last stage that trained the policy; 0 for the base model."""
        return self.plan.index if isinstance(self.plan, StagePlan) else 0

    @property
    def task(self) -> str:
        """What the stage trained on; empty for the base model."""
        return self.plan.task if isinstance(self.plan, StagePlan) else ""

    @property
    def label(self) -> str:
        """How errors name it."""
        return self.plan.label if isinstance(self.plan, StagePlan) else f"the base model, prompt {self.plan.prompt}"

    @property
    def prompt(self) -> PromptStyle:
        return self.plan.prompt

    @property
    def model(self) -> ModelPlan:
        """The base model."""
        return self.plan.model

    @property
    def evaluation(self) -> EvaluationPlan:
        return self.plan.evaluation

    @property
    def drift(self) -> DriftPlan:
        """Nothing is asked of the base model, which has not moved."""
        return self.plan.drift if isinstance(self.plan, StagePlan) else DriftPlan()


class Evaluator(Protocol):
    """One kind of measurement on finished policies.

    Attributes:
        name: of its marker, `evaluated/<name>.json` in the stage's folder, and in the registry.
        version: raised whenever it gives other numbers than before: what older versions measured is measured again.
        phase: what progress and events call its work.
        needs_engines: whether the policy's weights must be in the engines.
        needs_model: whether it loads models itself: then it runs in a training process, which has their device.
    """

    name: str
    version: int
    phase: str
    needs_engines: bool
    needs_model: bool

    def measures(self, subject: Subject) -> dict[str, Any] | None:
        """All that its numbers depend on beside the policy, as plain data; None where nothing is asked of this one."""
        ...

    def files(self, out: StageDir) -> list[Path]:
        """What it writes. `evaluated/<name>.parquet` (`StageDir.evaluated`) is a good place."""
        ...

    def run(self, subject: Subject, pool: Engines) -> dict[str, Any]:
        """Measure and write `files`, each whole or not at all. What its marker is to say beside their digests.

        Where it needs engines they hold the weights `subject.version`. It may push others and leave them there.
        """
        ...


def measured_key(evaluator: Evaluator, subject: Subject) -> str | None:
    """Identity of what an evaluator measures on a policy of given weights; None where nothing is asked of it."""
    content = evaluator.measures(subject)
    if content is None:
        return None
    return content_hash({"evaluator": evaluator.name, "version": evaluator.version, **content})
