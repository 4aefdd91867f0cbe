"""Evaluation by free generation: the same test samples and prompts for every arm and stage, scored by their tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.evaluate.evaluators.base import Engines, Subject, measured_key
from cpt.models.load import load_processor
from cpt.plan.stages import plain
from cpt.rollout.encode import encode_prompts, render_prompts
from cpt.rollout.engine import request_seed
from cpt.store.folder import GENERATION, StageDir
from cpt.store.records import write_records
from cpt.tasks import get_task
from cpt.tasks.metric import scale_of
from cpt.types import GenerationRequest, PromptStyle, Record, Sample, SamplingParams, Task

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Questions:
    """Test samples ready to be asked: tokenised once, asked after every stage.

    Attributes:
        items: task and sample of each of N prompts, task by task.
        texts: N prompts as the model is shown them, one placeholder per image.
        prompt_ids: N lists of token ids, images expanded.
        ids: N digests of text and pictures (`Record.question_id`).
    """

    prompt: PromptStyle
    items: list[tuple[Task, Sample]]
    texts: list[str]
    prompt_ids: list[list[int]]
    ids: list[str]


def prepare_questions(
    processor: Any, tasks: Sequence[Task], *, samples: int | Mapping[str, int], prompt: PromptStyle
) -> Questions:
    """The first test samples of every task, as prompts.

    Args:
        processor: the policy's Hugging Face processor.
        samples: number per task; a mapping gives each task its own.

    Raises:
        ValueError: fewer than one sample, or more than a task has.
    """
    items: list[tuple[Task, Sample]] = []
    for task in tasks:
        n = samples if isinstance(samples, int) else samples[task.name]
        if n < 1:
            raise ValueError(f"evaluation of {task.name}: {n} samples; at least 1 is needed")
        items += [(task, sample) for sample in task.samples("test", n)]
    chats = [task.messages(sample, prompt) for task, sample in items]
    pictures = [sample.images for _, sample in items]
    texts = render_prompts(processor, chats)
    ids = [question_digest(text, images) for text, images in zip(texts, pictures, strict=True)]
    return Questions(prompt, items, texts, encode_prompts(processor, chats, pictures), ids)


def question_digest(text: str, images: Sequence[Image]) -> str:
    """Of all that the model is shown."""
    found = hashlib.blake2b(text.encode(), digest_size=12)
    for image in images:
        found.update(f"/{image.mode}/{image.size}/".encode() + image.tobytes())
    return found.hexdigest()


def ask(
    pool: Engines,
    version: str,
    questions: Questions,
    *,
    max_tokens: int,
    arm: str,
    seed: int,
    stage: int,
    temperature: float = 0.0,
) -> list[Record]:
    """Generate one completion per question in a single call and score it.

    Args:
        version: of the weights the pool must hold.
        max_tokens: limit of a completion; longer ones end with finish_reason `length`.
        arm, seed, stage: what the records are labelled with; stage 0 is the base model.
        temperature: 0 is greedy; above, each request samples from its own stream of (seed, stage, sample).

    Raises:
        ValueError: a task gave a score that is not a number from 0 to 1 (task and sample are named), or says what can't
            be of its scores (`scale_of`).
    """
    requests = [
        GenerationRequest(ids, tuple(sample.images), request_seed("evaluation", seed, stage, sample.id))
        for ids, (_, sample) in zip(questions.prompt_ids, questions.items, strict=True)
    ]
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature)
    answers = pool.generate(requests, params, version=version)
    scales = {task.name: scale_of(task) for task, _ in questions.items}
    records = []
    shown = zip(questions.items, questions.texts, questions.ids, answers, strict=True)
    for (task, sample), text, question_id, answer in shown:
        completion = answer[0]
        score = task.score(sample, completion.text, questions.prompt)
        records.append(
            Record(
                arm=arm,
                seed=seed,
                stage=stage,
                task=task.name,
                sample_id=sample.id,
                prompt=text,
                completion=completion.text,
                finish_reason=completion.finish_reason,
                extracted=score.extracted,
                gold=list(sample.gold),
                score=float(score.parts["strict"]),
                tolerant=float(score.parts["tolerant"]),
                n_tokens=len(completion.token_ids),
                question_id=question_id,
                metric=scales[task.name].metric,
                right_from=scales[task.name].right_from,
                group=str(sample.meta.get("group", "")),
            )
        )
    return records


class GenerationEvaluator:
    """One completion for every test sample of every task, scored by its task: records.parquet.

    Everything else that cpt says of accuracy is made from these records.
    """

    name = GENERATION
    version = 1
    phase = "evaluate"
    needs_engines = True
    needs_model = False

    def __init__(self) -> None:
        self._questions: dict[tuple[Any, ...], Questions] = {}
        self._base: dict[tuple[str, str | None], list[Record]] = {}

    def measures(self, subject: Subject) -> dict[str, Any]:
        """Which samples, how many tokens, and how their scores are to be read."""
        evaluation = subject.evaluation
        return {
            "evaluation": plain(evaluation),
            "scales": {name: asdict(scale_of(get_task(name))) for name in evaluation.samples},
            "seed": subject.seed if evaluation.temperature else None,
        }

    def files(self, out: StageDir) -> list[Path]:
        """See `Evaluator.files`."""
        return [out.records]

    def run(self, subject: Subject, pool: Engines) -> dict[str, Any]:
        """See `Evaluator.run`."""
        records = self.records(subject, pool)
        write_records(subject.out.records, records)
        return {"records": len(records)}

    def records(self, subject: Subject, pool: Engines) -> list[Record]:
        """One record per test sample. Greedy answers of the base model are those of every seed, and asked once."""
        asked = (subject.key, measured_key(self, subject))
        if asked in self._base:
            return [replace(record, seed=subject.seed) for record in self._base[asked]]
        records = ask(
            pool,
            subject.version,
            self._asked(subject),
            max_tokens=subject.evaluation.max_tokens,
            temperature=subject.evaluation.temperature,
            arm=subject.arm,
            seed=subject.seed,
            stage=subject.stage,
        )
        if subject.stage == 0:
            self._base[asked] = records
        return records

    def _asked(self, subject: Subject) -> Questions:
        """The test samples as prompts, tokenised once for all policies of a model."""
        model, samples = subject.model, subject.evaluation.samples
        asked = (model.path, subject.prompt, *samples.items())
        if asked not in self._questions:
            processor = load_processor(model.path, trust_remote_code=model.trust_remote_code)
            tasks = [get_task(name) for name in samples]
            self._questions[asked] = prepare_questions(processor, tasks, samples=samples, prompt=subject.prompt)
        return self._questions[asked]
