"""The nouns of cpt: what travels between tasks, rollouts, training, evaluation and the report.

Nothing here imports torch, trl, vllm or ray: the science that rests on these types is tested in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from cpt.common.pictures import prepared_pictures
from cpt.common.stored_pictures import StoredPictures
from rewards.score import Score

if TYPE_CHECKING:
    from PIL.Image import Image

Split = Literal["base", "train", "test"]
PromptStyle = Literal["direct", "think"]
TargetStyle = Literal["dataset", "policy", "think"]
AnsweredBy = Literal["generation", "likelihood"]
FinishReason = Literal["stop", "length"]


# Scores are graded, from 0 to 1. Where samples are counted as right or wrong, one is right from this score on, unless
# its task says otherwise (`Task`).
RIGHT = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One question with its pictures and every answer that counts as right.

    Attributes:
        id: unique and stable, ``task/split/number``.
        question: the user's words without the instruction that asks for a format.
        images: pictures in the order the prompt shows them; empty for a text-only question. Whatever PIL pictures are
            given, those that are kept are upright, opaque and RGB (`cpt.common.pictures.prepared`).
            `StoredPictures` are read, and prepared, each time they are looked at.
        gold: accepted answers; ``gold[0]`` is the one a supervised target uses.
        reasoning: a worked solution, the text of `think` targets.
        meta: what the task's own scoring needs beyond `gold`.
    """

    id: str
    task: str
    question: str
    images: Sequence[Image]
    gold: tuple[str, ...]
    reasoning: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Here, where every picture comes by, it becomes the one that engines and trainers all see.

        Raises:
            ValueError: a picture can't be used; sample and remedy are named.
        """
        if self.images and not isinstance(self.images, StoredPictures):
            object.__setattr__(self, "images", prepared_pictures(self.images, f"sample {self.id}"))


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled or greedy answer of a policy.

    Attributes:
        token_ids: generated ids, the end-of-turn token included when it was produced.
        logprobs: natural-log probability of each id under the engine's sampling distribution; same length.
        text: decoded without special tokens.
        finish_reason: `length` when the token limit cut it off.
    """

    token_ids: list[int]
    logprobs: list[float]
    text: str
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Record:
    """One evaluated sample: a row of records.parquet, the only input of every matrix and metric.

    `stage` is 0 for the base model and k after the k-th stage; `prompt` is the whole text the model was shown.
    `question_id` is a digest of prompt and pictures: samples that share it are one question, asked twice. Empty where
    the file does not say.

    Attributes:
        score, tolerant: from 0 to 1, as the task gave them: the answer in the format asked for, and in any style.
        metric: what the task calls its score; empty where the file does not say.
        right_from: the score from which the sample counts as right.
        group: what the sample's benchmark counts it with: a subject, a category, a picture. Empty where there is none.

    Raises:
        ValueError: a score that is not a number from 0 to 1.
    """

    arm: str
    seed: int
    stage: int
    task: str
    sample_id: str
    prompt: str
    completion: str
    finish_reason: str
    extracted: str
    gold: list[str]
    score: float
    tolerant: float
    n_tokens: int
    question_id: str = ""
    metric: str = ""
    right_from: float = RIGHT
    group: str = ""

    def __post_init__(self) -> None:
        for name, score in (("strict", self.score), ("tolerant", self.tolerant)):
            if not 0 <= score <= 1:  # of NaN neither holds
                raise ValueError(
                    f"task {self.task}, sample {self.sample_id}: its {name} score is {score}; scores are numbers from "
                    "0 to 1"
                )

    @property
    def right(self) -> bool:
        """Whether it counts as right in the format asked for."""
        return self.score >= self.right_from

    @property
    def right_in_any_style(self) -> bool:
        """Whether it counts as right under tolerant scoring."""
        return self.tolerant >= self.right_from

    def row(self) -> dict[str, Any]:
        """The record as one parquet row."""
        return asdict(self)


@runtime_checkable
class Task(Protocol):
    """Data, scoring and reward of one task, in one object.

    A task may also have a method `fingerprint`, which tells whether its data are still the same without reading them
    (see `cpt.tasks.fingerprint`), and three attributes: `metric`, what its score is called, `right_from`, the score
    from which a sample counts as right (see `cpt.tasks.metric`), and `answered_by` (see `cpt.tasks.likelihood`).
    """

    name: str
    family: str
    role: Literal["stage", "general"]
    about: str

    def samples(self, split: Split, n: int, seed: int = 0) -> list[Sample]:
        """The first `n` samples of a split, the same for the same arguments. ValueError if there are not as many."""
        ...

    def messages(self, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
        """The chat that asks the question: a user turn of image placeholders and text, without a gold answer."""
        ...

    def target(self, sample: Sample, style: TargetStyle, prompt: PromptStyle) -> str:
        """The assistant's text that supervised fine-tuning imitates."""
        ...

    def score(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """Evaluation. `parts` holds `strict`, `tolerant` and `format`, each from 0 to 1; `value` is `strict`."""
        ...

    def reward(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """Training signal in [0, 1]; `parts` are its components."""
        ...


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to sample. Nothing truncates the distribution: with top-p or top-k, log-probabilities would be wrong."""

    max_tokens: int
    temperature: float = 0.0
    n: int = 1


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One prompt for the rollout pool.

    Attributes:
        prompt_ids: token ids with every image already expanded to its run of placeholders, as the trainer sees them.
        images: RGB pictures in order.
        seed: of this request's own random stream; the result does not depend on what else is in the batch.
    """

    prompt_ids: Sequence[int]
    images: tuple[Image, ...]
    seed: int


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A text that somebody else wrote, whose probability after a prompt is asked for.

    Attributes:
        prompt_ids, images: see `GenerationRequest`; at least one token.
        completion_ids: what is scored, at least one token.
    """

    prompt_ids: Sequence[int]
    images: tuple[Image, ...]
    completion_ids: Sequence[int]
