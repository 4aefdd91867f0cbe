"""Evaluation of answers: the same test samples and prompts for every arm and stage, scored by their tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.evaluate.evaluators.asking import Answer, Prompt, Texts, complete, score_texts
from cpt.evaluate.evaluators.base import Engines, Subject, measured_key
from cpt.evaluate.evaluators.likelihood import Pair, judge, option_pairs, text_pairs
from cpt.models.load import load_processor
from cpt.plan.stages import plain
from cpt.rollout.chunks import in_chunks
from cpt.rollout.encode import encode_texts, render_prompts
from cpt.rollout.engine import request_seed
from cpt.store.folder import GENERATION, StageDir
from cpt.store.records import write_records
from cpt.tasks import get_task
from cpt.tasks.chat import check_blocks
from cpt.tasks.likelihood import answered_by, has_prompt, text_of
from cpt.tasks.metric import scale_of
from cpt.types import Completion, PromptStyle, Record, Sample, Task

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Question:
    """A test sample ready to be asked.

    Attributes:
        text: the prompt as the model is shown it, one placeholder per image; or the text that is scored.
        id: digest of text and pictures (`Record.question_id`).
        prompt_ids: token ids of the prompt, images expanded; empty where a text is scored.
        pairs: what is scored there (`cpt.evaluate.evaluators.likelihood`).
    """

    task: Task
    sample: Sample
    text: str
    id: str
    prompt_ids: list[int]
    pairs: list[Pair]


@dataclass(frozen=True)
class Questions:
    """Test samples, task by task: tokenised once, asked after every stage. Their pictures are not kept."""

    prompt: PromptStyle
    items: list[Question]


def prepare_questions(
    processor: Any,
    tasks: Sequence[Task],
    *,
    samples: int | Mapping[str, int],
    prompt: PromptStyle,
    longest: int | None = None,
) -> Questions:
    """The first test samples of every task, as prompts.

    Args:
        processor: the policy's Hugging Face processor.
        samples: number per task; a mapping gives each task its own.
        longest: most tokens that the engines take at once, where it is not the model's own limit.

    Raises:
        ValueError: fewer than one sample, or more than a task has; or a sample has nothing to be scored by.
    """
    items: list[tuple[Task, Sample]] = []
    for task in tasks:
        n = samples if isinstance(samples, int) else samples[task.name]
        if n < 1:
            raise ValueError(f"evaluation of {task.name}: {n} samples; at least 1 is needed")
        items += [(task, sample) for sample in task.samples("test", n)]
    found: list[Question] = []
    for pictures in in_chunks(sample.images for _, sample in items):
        chunk = items[len(found) : len(found) + len(pictures)]
        asked = [number for number, (task, _) in enumerate(chunk) if has_prompt(task)]
        prompted = iter(_prompted(processor, [chunk[n] for n in asked], [pictures[n] for n in asked], prompt))
        for task, sample in chunk:
            found.append(next(prompted) if has_prompt(task) else _text(processor, task, sample, longest))
    return Questions(prompt, found)


def _prompted(
    processor: Any, items: Sequence[tuple[Task, Sample]], pictures: Sequence[tuple[Image, ...]], prompt: PromptStyle
) -> list[Question]:
    """Of samples with a prompt, whose pictures have been read."""
    chats = [task.messages(sample, prompt) for task, sample in items]
    for (_, sample), chat in zip(items, chats, strict=True):
        check_blocks(sample, chat)
    texts, scored = render_prompts(processor, chats), [answered_by(task) == "likelihood" for task, _ in items]
    before = [text.rstrip() if options else text for text, options in zip(texts, scored, strict=True)]
    encoded = encode_texts(processor, before, pictures)
    found = []
    for (task, sample), text, ids, shown, options in zip(items, texts, encoded, pictures, scored, strict=True):
        pairs = option_pairs(processor, sample, text, ids) if options else []
        found.append(Question(task, sample, text, question_digest(text, shown), ids, pairs))
    return found


def _text(processor: Any, task: Task, sample: Sample, longest: int | None) -> Question:
    """Of a sample whose text is scored."""
    text = text_of(sample)
    return Question(task, sample, text, question_digest(text, ()), [], text_pairs(processor, sample, longest))


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
    max_tokens: int | Mapping[str, int],
    arm: str,
    seed: int,
    stage: int,
    temperature: float = 0.0,
) -> list[Record]:
    """Generate one completion per question and score it, or score the texts of those answered by likelihood.

    All completions with one limit are asked for in a single call, as long as their pictures fit a chunk
    (`cpt.rollout.chunks`).

    Args:
        version: of the weights the pool must hold.
        max_tokens: limit of a completion, for all tasks or by task; longer ones end with finish_reason `length`.
        arm, seed, stage: what the records are labelled with; stage 0 is the base model.
        temperature: 0 is greedy; above, each request samples from its own stream of (seed, stage, sample).

    Raises:
        ValueError: a task gave a score that is not a number from 0 to 1 (task and sample are named), or says what can't
            be of its scores (`scale_of`); or no gold answer is an option of a question that is answered by likelihood.
    """
    asked = [one for one in questions.items if not one.pairs]
    scored = [one for one in questions.items if one.pairs]
    prompts = [
        Prompt(
            one.prompt_ids,
            one.sample.images,
            max_tokens if isinstance(max_tokens, int) else max_tokens[one.task.name],
            request_seed("evaluation", seed, stage, one.sample.id),
        )
        for one in asked
    ]
    said = iter(complete(pool, version, prompts, temperature))
    texts = [Texts(one.pairs, one.sample.images if one.prompt_ids else ()) for one in scored]
    logprobs = iter(score_texts(pool, version, texts))
    answers = [
        judge(one.task, one.sample, next(logprobs)) if one.pairs else _read(one, next(said), questions.prompt)
        for one in questions.items
    ]
    return [
        _record(one, answer, arm=arm, seed=seed, stage=stage)
        for one, answer in zip(questions.items, answers, strict=True)
    ]


def _read(one: Question, said: Completion, prompt: PromptStyle) -> Answer:
    """What its task says of a completion."""
    score = one.task.score(one.sample, said.text, prompt)
    strict, tolerant = (float(score.parts[name]) for name in ("strict", "tolerant"))
    return Answer(said.text, said.finish_reason, score.extracted, strict, tolerant, len(said.token_ids))


def _record(one: Question, answer: Answer, *, arm: str, seed: int, stage: int) -> Record:
    scale = scale_of(one.task)
    return Record(
        arm=arm,
        seed=seed,
        stage=stage,
        task=one.task.name,
        sample_id=one.sample.id,
        prompt=one.text,
        completion=answer.text,
        finish_reason=answer.finish_reason,
        extracted=answer.extracted,
        gold=list(one.sample.gold),
        score=answer.score,
        tolerant=answer.tolerant,
        n_tokens=answer.n_tokens,
        question_id=one.id,
        metric=scale.metric,
        right_from=scale.right_from,
        group=str(one.sample.meta.get("group", "")),
    )


class GenerationEvaluator:
    """One answer to every test sample of every task, and its score: records.parquet.

    An answer is a completion, or what log-probabilities say where the task is answered by them
    (`cpt.tasks.likelihood`). Everything else that cpt says of accuracy is made from these records.
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
        tasks = [get_task(name) for name in evaluation.samples]
        scored = [task.name for task in tasks if answered_by(task) == "likelihood"]
        texts = not all(map(has_prompt, tasks))
        return {
            "evaluation": plain(evaluation),
            "scales": {task.name: asdict(scale_of(task)) for task in tasks},
            "seed": subject.seed if evaluation.temperature else None,
            **({"by_likelihood": scored} if scored else {}),
            **({"longest": subject.plan.rollout.max_model_len} if texts else {}),
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
            max_tokens=subject.evaluation.limits,
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
            self._questions[asked] = prepare_questions(
                processor, tasks, samples=samples, prompt=subject.prompt, longest=subject.plan.rollout.max_model_len
            )
        return self._questions[asked]
