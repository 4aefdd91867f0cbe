"""Evaluation of a policy between the steps of its training.

It is asked the first questions that the finished policy will be asked, by the same engines, and scored the same way.
Nothing of the training depends on it: completions come from streams of their own, and the policy is only read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from cpt.common.files import append_jsonl, read_jsonl
from cpt.evaluate.evaluators.generation import Questions, ask, prepare_questions
from cpt.models.load import load_processor
from cpt.plan.stages import plain
from cpt.recipe import content_hash
from cpt.rollout.timing import EVALUATE, Phases
from cpt.store.records import write_steps
from cpt.tasks import get_task
from cpt.train.log import keep_until
from cpt.types import Record

if TYPE_CHECKING:
    import torch

    from cpt.plan.stages import StagePlan
    from cpt.rollout.sampler import PolicyWeights
    from cpt.store.folder import StageDir


def measured_so_far(stage: StagePlan, out: StageDir) -> Path:
    """Where a stage in training keeps its records, a line for each evaluation; what is asked is part of the name."""
    evaluation = {"limits": stage.evaluation.limits, "temperature": stage.evaluation.temperature}
    asked = content_hash(plain({"during": stage.during, **evaluation}))
    return out.checkpoints / f"during-{asked[:12]}.jsonl"


class During(TrainerCallback):
    """Evaluates the policy before the first thing that happens to it after one of `stage.during.steps`.

    By then the steps before are logged, found finite and saved. A stage that goes on from a checkpoint evaluates once
    more what it was saved after.

    Args:
        file: of `measured_so_far`.
        weights: that push the policy to the engines; under reinforcement learning those of the rollouts, which then
            find them there.
        tensors: of the policy.
        phases: of a step.
    """

    def __init__(
        self,
        stage: StagePlan,
        file: Path,
        weights: PolicyWeights,
        tensors: Callable[[], Iterable[tuple[str, torch.Tensor]]],
        phases: Phases,
    ) -> None:
        self.stage, self.file, self.weights, self.tensors, self.phases = stage, file, weights, tensors, phases
        self._questions: Questions | None = None

    def resume(self, step: int) -> list[str]:
        """Drop what will be measured again when the stage goes on after `step`. What the user should know."""
        keep_until(self.file, step - 1)
        measured = {row["step"] for row in read_jsonl(self.file)}
        gone = [str(one) for one in self.stage.during.steps if one < step and one not in measured]
        told = "trained before evaluation.during was what it is now, and not evaluated"
        return [f"step{'s' if len(gone) > 1 else ''} {', '.join(gone)}: {told}"] if gone else []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """`state.global_step` steps have been made."""
        if state.global_step in self.stage.during.steps:
            with self.phases.measure(EVALUATE):
                records = self._records(self.weights.push(self.tensors(), state.global_step))
                append_jsonl(self.file, {"step": state.global_step, "records": [record.row() for record in records]})

    def _records(self, version: str) -> list[Record]:
        stage = self.stage
        if self._questions is None:
            processor = load_processor(stage.model.path, trust_remote_code=stage.model.trust_remote_code)
            tasks = [get_task(name) for name in stage.during.samples]
            self._questions = prepare_questions(
                processor,
                tasks,
                samples=stage.during.samples,
                prompt=stage.prompt,
                longest=stage.rollout.max_model_len,
            )
        return ask(
            self.weights.pool,
            version,
            self._questions,
            max_tokens=stage.evaluation.limits,
            temperature=stage.evaluation.temperature,
            arm=stage.arm,
            seed=stage.seed,
            stage=stage.index,
        )

    def finish(self, out: Path) -> dict[str, Any]:
        """Write all records, whole or not at all. What the stage's marker is to say: `steps` and `samples`."""
        found = {row["step"]: [Record(**record) for record in row["records"]] for row in read_jsonl(self.file)}
        write_steps(out, found)
        return {"steps": list(found), "samples": dict(self.stage.during.samples)}
