"""Sampled completions that a stage may imitate: where they come from, and which one it is for each prompt."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.common.files import jsonl_line, read_jsonl, write_text_atomic
from cpt.methods.targets import Candidate, SavedRollouts, SelfSampled, choose
from cpt.rollout.engine import request_seed
from cpt.train.accuracy import strictly_right
from cpt.train.requests import sampled
from cpt.types import Completion, Sample, SamplingParams

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool


@dataclass(frozen=True)
class Answers:
    """The completions of one prompt, and which of them is imitated; None: none may be."""

    sample_id: str
    candidates: tuple[Candidate, ...]
    chosen: int | None


class SavedAnswers:
    """What another arm's stage sampled.

    Args:
        rollouts: its completions by sample.
    """

    def __init__(self, stage: StagePlan, rollouts: Mapping[str, Sequence[Candidate]]) -> None:
        self.stage, self.rollouts = stage, rollouts

    def __call__(self, epoch: int, samples: Sequence[Sample], new: bool) -> list[Answers]:
        """See `cpt.train.targets.AnswerSource`."""
        found = [(sample.id, tuple(self.rollouts.get(sample.id, ()))) for sample in samples]
        return [Answers(one, candidates, _choice(self.stage, epoch, one, candidates)) for one, candidates in found]


class OwnAnswers:
    """What the policy itself says, sampled by the rollout pool and kept in a file for each epoch.

    Args:
        folder: holds the files.
        trainer: of the policy. The pool is left with the weights that sampled last.
    """

    def __init__(self, stage: StagePlan, folder: Path, pool: RolloutPool, trainer: Any) -> None:
        self.stage, self.folder, self.pool, self.trainer = stage, folder, pool, trainer
        setting = sampled_by(stage)
        assert isinstance(setting, SelfSampled)
        self.setting = setting
        self._prompt_ids: dict[str, list[int]] = {}

    def __call__(self, epoch: int, samples: Sequence[Sample], new: bool) -> list[Answers]:
        """See `cpt.train.targets.AnswerSource`.

        Raises:
            ValueError: the file of an epoch that is half over is missing, or holds other samples.
        """
        path = self.file(epoch)
        if path.exists():
            found = read_answers(path)
            if [one.sample_id for one in found] != [sample.id for sample in samples]:
                raise ValueError(f"{path}: answers to other samples; delete the stage's folder, and it starts anew")
            return found
        if not new:
            raise ValueError(
                f"{path}: missing, and the policy that it was sampled from has moved on; delete the stage's folder, "
                "and it starts anew"
            )
        found = [self._answers(epoch, *one) for one in zip(samples, self._sample(epoch, samples), strict=True)]
        write_answers(path, found)
        return found

    def file(self, epoch: int) -> Path:
        """Where an epoch's answers are kept; epochs are counted from 0."""
        return self.folder / ("stage.jsonl" if self.setting.refresh == "stage" else f"epoch-{epoch}.jsonl")

    def _sample(self, epoch: int, samples: Sequence[Sample]) -> list[list[Completion]]:
        assert self.stage.max_completion_length is not None
        version = f"{self.stage.key}:own-{epoch}:{uuid.uuid4().hex[:8]}"
        policy = self.trainer.accelerator.unwrap_model(self.trainer.model)
        with self.trainer.phases.measure("push"):
            self.pool.push(self.stage.tuning.tensors(policy), version)
        with self.trainer.phases.measure("rollout"):
            params = SamplingParams(self.stage.max_completion_length, self.setting.temperature, self.setting.rollouts)
            seeds = [request_seed("own", self.stage.seed, self.stage.index, epoch, sample.id) for sample in samples]
            processor = self.trainer.processing_class
            known = self._prompt_ids
            return sampled(self.pool, params, version, samples, seeds, self.stage.prompt, processor, known)

    def _answers(self, epoch: int, sample: Sample, completions: Sequence[Completion]) -> Answers:
        prompt = self.stage.prompt
        candidates = tuple(
            Candidate(one.text, strictly_right(sample, one.text, prompt), one.finish_reason == "stop")
            for one in completions
        )
        return Answers(sample.id, candidates, _choice(self.stage, epoch, sample.id, candidates))


def write_answers(path: Path, found: Sequence[Answers]) -> None:
    """One line per prompt; `chosen` is a position among `completions`."""
    lines = [
        jsonl_line(
            {
                "sample_id": answers.sample_id,
                "completions": [one.text for one in answers.candidates],
                "right": [one.right for one in answers.candidates],
                "whole": [one.whole for one in answers.candidates],
                "chosen": answers.chosen,
            }
        )
        for answers in found
    ]
    write_text_atomic(path, "".join(lines))


def read_answers(path: Path) -> list[Answers]:
    """What `write_answers` wrote."""
    return [
        Answers(
            row["sample_id"],
            tuple(map(Candidate, row["completions"], row["right"], row["whole"])),
            row["chosen"],
        )
        for row in read_jsonl(path, advice=f"delete {path.parent.parent}, and the same command trains the stage again")
    ]


def sampled_by(stage: StagePlan) -> SelfSampled | SavedRollouts:
    """What the recipe says of the completions that the stage imitates."""
    setting = getattr(stage.method, "data", None)
    assert isinstance(setting, SelfSampled | SavedRollouts)
    return setting


def _choice(stage: StagePlan, epoch: int, sample_id: str, candidates: Sequence[Candidate]) -> int | None:
    return choose(candidates, sampled_by(stage).keep, f"{stage.seed}/{stage.index}/{epoch}/{sample_id}")
