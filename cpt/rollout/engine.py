"""What an inference engine is to cpt, and what all kinds of engine share: versions, seeds, bans, checks of prompts."""

from __future__ import annotations

import hashlib
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from cpt.methods.setting import MAX_TEMPERATURE
from cpt.models.inputs import wrong_pictures
from cpt.rollout.sync import check_fingerprint
from cpt.types import Completion, GenerationRequest, SamplingParams, ScoringRequest

if TYPE_CHECKING:
    from cpt.rollout.sync import Packed

UNLOADED = "none"
"""Version of an engine that nothing has been pushed to since it started."""

BAN = -100.0
"""A banned token's bias: the lowest that vLLM takes; e^-100 is 0 beside any float32 probability."""


class StaleWeights(RuntimeError):
    """The engine holds other weights than the caller expects."""

    def __init__(self, held: str, wanted: str) -> None:
        super().__init__(held, wanted)
        self.held, self.wanted = held, wanted

    def __str__(self) -> str:
        return f"the engine holds weights {self.held!r}, the caller expects {self.wanted!r}; push them first"


@dataclass(frozen=True)
class EngineSettings:
    """How every engine of a pool is built.

    Attributes:
        model_path: Hugging Face folder or Hub id: architecture, processor, initial weights.
        dtype: of weights and activations: float32 or bfloat16.
        attention: `model.attention` of the recipe; vLLM has its own.
        max_model_len: tokens of prompt and completion together; None for the model's own limit.
        limit_images: most images of one prompt.
        max_num_seqs: completions in progress at once.
        gpu_memory_utilization: share of a GPU's memory for weights, activations and key-value cache; vLLM only.
        seed: of vLLM's global random state, which no sampled token depends on.
    """

    model_path: str
    dtype: str = "float32"
    attention: str = "auto"
    max_model_len: int | None = None
    limit_images: int = 4
    max_num_seqs: int = 256
    gpu_memory_utilization: float = 0.4
    seed: int = 0
    trust_remote_code: bool = False


class Engine(ABC):
    """One inference engine. Weights come in with a version; every request names the version it expects.

    A kind of engine starts in `_start` and says how it replaces its weights and how it answers; what must hold of every
    kind is here.

    Attributes:
        kind: its name in recipes.
        packages: whose versions `info` states.
        vocabulary, tokenizer, max_model_len: set by `_start`.
    """

    kind: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]
    vocabulary: Vocabulary
    tokenizer: Any
    max_model_len: int

    def __init__(self, settings: EngineSettings) -> None:
        started = time.perf_counter()
        self.settings = settings
        self.version = UNLOADED
        self._start()
        self.start_seconds = time.perf_counter() - started

    @abstractmethod
    def _start(self) -> None:
        """Load the model that the settings name."""

    @abstractmethod
    def _replace(self, tensors: Packed, version: str) -> None:
        """Take these weights, and forget everything computed with the old ones."""

    @abstractmethod
    def _answer(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[list[Completion]]:
        """`params.n` completions for each of these requests, which fit."""

    @abstractmethod
    def _score(self, requests: Sequence[ScoringRequest]) -> list[list[float]]:
        """Log-probabilities of the completions' tokens, for requests that fit."""

    def load(self, tensors: Packed, version: str, fingerprint: str) -> float:
        """Replace all weights and forget everything computed with the old ones. Seconds it took.

        Raises:
            ValueError: the tensors are not those that were sent, or not all of the model's.
        """
        started = time.perf_counter()
        check_fingerprint(tensors, fingerprint)
        self.version = UNLOADED  # whatever goes wrong from here on, nobody generates with half of the weights
        self._replace(tensors, version)
        self.version = version
        return time.perf_counter() - started

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, version: str
    ) -> list[list[Completion]]:
        """`params.n` completions per request.

        Raises:
            StaleWeights: the engine holds another version.
            ValueError: a prompt does not fit, or its placeholders don't match its images.
        """
        if version != self.version:
            raise StaleWeights(self.version, version)
        check_sampling(params)
        for request in requests:
            check_request(request, self.settings, self.max_model_len, params.max_tokens)
        return self._answer(requests, params)

    def loglikelihood(self, requests: Sequence[ScoringRequest], version: str) -> list[list[float]]:
        """Natural-log probability of every token of every completion, given all that stands before it.

        Of the model's plain distribution: softmax over the whole vocabulary at temperature 1. Tokens that are banned in
        sampling are not left out, so for a completion of `generate` these numbers are lower than its own by what the
        model puts on banned tokens.

        Raises:
            StaleWeights: the engine holds another version.
            ValueError: a text does not fit, has no tokens, or its placeholders don't match its images.
        """
        if version != self.version:
            raise StaleWeights(self.version, version)
        for request in requests:
            check_scoring(request, self.settings, self.max_model_len)
        return self._score(requests)

    def info(self) -> dict[str, Any]:
        """Process id, version of the weights, kind of engine, versions of its libraries, start-up seconds."""
        import torch

        return {
            "pid": os.getpid(),
            "engine": self.kind,
            "version": self.version,
            "libraries": {name: import_module(name).__version__ for name in self.packages},
            "threads": torch.get_num_threads(),
            "start_s": self.start_seconds,
        }

    def _completion(self, ids: list[int], logprobs: list[float], *, stopped: bool) -> Completion:
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Completion(ids, logprobs, text, "stop" if stopped else "length")


@dataclass(frozen=True)
class Vocabulary:
    """Token ids with a meaning to the engines.

    Attributes:
        image: placeholder of an image; None for a text-only model.
        banned: never sampled: ids that stand for images and videos.
        stop: end a completion.
        pad: fills rows; never part of a completion.
    """

    image: int | None
    banned: tuple[int, ...]
    stop: tuple[int, ...]
    pad: int


def banned_tokens(config: Any) -> tuple[int, ...]:
    """Ids that a policy must not produce, since the model would look for an image or video behind them.

    Args:
        config: a model's Hugging Face config.
    """
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return tuple(sorted({value for name in names if isinstance(value := getattr(config, name, None), int)}))


def read_vocabulary(model_path: str, config: Any, tokenizer: Any) -> Vocabulary:
    """The special ids of a model: its generation config's and tokenizer's ends of text, its image placeholder."""
    from transformers import GenerationConfig
    from transformers.utils import cached_file

    stop = {tokenizer.eos_token_id} - {None}
    if cached_file(model_path, "generation_config.json", _raise_exceptions_for_missing_entries=False):
        ends = GenerationConfig.from_pretrained(model_path).eos_token_id
        stop |= set(ends if isinstance(ends, list) else [ends]) - {None}
    if not stop:
        raise ValueError(f"{model_path} names no end-of-text token; set eos_token_id in generation_config.json")
    pad = tokenizer.pad_token_id
    return Vocabulary(
        image=getattr(config, "image_token_id", None),
        banned=banned_tokens(config),
        stop=tuple(sorted(stop)),
        pad=min(stop) if pad is None else pad,
    )


def request_seed(*parts: object) -> int:
    """Seed of one request's random stream from what identifies it (run seed, stage, step, rank, row). In [0, 2^31).

    A request draws the same tokens whatever else is in its batch and however many engines there are, up to rounding in
    the logits; and again when it is repeated after an engine's death or a resumed run.
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


def check_expansion(engine: Sequence[int], trainer: Sequence[int], image: int | None) -> None:
    """Whether the engine's own expansion of a prompt is the trainer's.

    Raises:
        ValueError: it is not; the message says why not.
    """
    if list(engine) == list(trainer):
        return
    ours, theirs = (sum(token == image for token in ids) for ids in (engine, trainer))
    if ours != theirs:
        raise ValueError(wrong_pictures(ours, theirs))
    raise ValueError(f"the engine read a prompt as {len(engine)} other token ids than the trainer's {len(trainer)}")


def check_request(request: GenerationRequest, settings: EngineSettings, max_model_len: int, max_tokens: int) -> None:
    """Whether a request fits the engine. ValueError if not."""
    _check_images(request, settings)
    length = len(request.prompt_ids) + max_tokens
    if length > max_model_len:
        raise ValueError(
            f"a prompt of {len(request.prompt_ids)} tokens and {max_tokens} new ones exceed the engines' limit of "
            f"{max_model_len} tokens; lower max_completion_length or raise rollout.max_model_len"
        )


def check_scoring(request: ScoringRequest, settings: EngineSettings, max_model_len: int) -> None:
    """Whether a text can be scored. ValueError if not.

    vLLM generates a token after every prompt, so a text has to leave room for one; both kinds of engine ask for it.
    """
    _check_images(request, settings)
    if not request.prompt_ids or not request.completion_ids:
        raise ValueError("a text that is scored needs a token before it, and at least one of its own")
    length = len(request.prompt_ids) + len(request.completion_ids)
    if length >= max_model_len:
        raise ValueError(
            f"a text of {length} tokens, its prompt included, is too long to be scored: the engines take less than "
            f"{max_model_len}; raise rollout.max_model_len"
        )


def _check_images(request: GenerationRequest | ScoringRequest, settings: EngineSettings) -> None:
    if len(request.images) > settings.limit_images:
        raise ValueError(f"a prompt has {len(request.images)} images; the engines allow {settings.limit_images}")


def check_sampling(params: SamplingParams) -> None:
    """Whether sampling parameters make sense. ValueError if not."""
    if params.max_tokens < 1 or params.n < 1 or not 0 <= params.temperature <= MAX_TEMPERATURE:
        raise ValueError(f"max_tokens and n must be at least 1, temperature between 0 and {MAX_TEMPERATURE}: {params}")
    if params.temperature == 0 and params.n > 1:
        raise ValueError(f"greedy generation (temperature 0) has one completion per prompt; n is {params.n}")


def check_gap(gap: float, bound: float, where: str) -> None:
    """Whether engine and trainer agree on log-probabilities.

    Raises:
        ValueError: they don't; the message names the place and both numbers.
    """
    if not gap <= bound:
        raise ValueError(
            f"{where}: log-probabilities of engine and trainer differ by {gap:.3g} nats per token, more than "
            f"rollout.max_logprob_gap {bound:g}; they hold different weights or see different prompts, or the bound is "
            "too tight for the precision"
        )
