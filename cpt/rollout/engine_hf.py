"""A Hugging Face engine in this process: no vLLM needed, and the faster kind for a model of a few million parameters.

The loop is ours rather than `generate()`, for what a rollout needs: a random stream per completion, so that it does not
depend on its neighbours; each prompt and each image encoded once for all its completions; a key-value cache without a
copy per token; finished rows leave the batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cpt.rollout.engine import (
    UNLOADED,
    EngineSettings,
    StaleWeights,
    check_request,
    check_sampling,
    read_vocabulary,
    request_seed,
)
from cpt.rollout.sync import check_fingerprint, unpack
from cpt.types import Completion, GenerationRequest, SamplingParams

if TYPE_CHECKING:
    import torch

    from cpt.rollout.sync import Packed

_NOISE_NUMBERS = 1 << 10  # drawn at a time per completion; what is drawn must not depend on the batch
_COMPACT_BELOW = 0.75  # share of rows still running at which the others are dropped from the batch


class HFEngine:
    """transformers behind `cpt.rollout.engine.Engine`, for any image-text model with 1-D or Qwen's 3-D positions."""

    def __init__(self, settings: EngineSettings) -> None:
        started = time.perf_counter()
        import torch

        from cpt.models.inputs import ModelInputs
        from cpt.models.load import load_policy, load_processor

        self.settings = settings
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        policy = load_policy(settings.model_path, dtype=settings.dtype, trust_remote_code=settings.trust_remote_code)
        self.model: Any = policy.to(self.device).eval().requires_grad_(False)
        self.processor = load_processor(settings.model_path, trust_remote_code=settings.trust_remote_code)
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        self.vocabulary = read_vocabulary(settings.model_path, self.model.config, tokenizer)
        self.inputs = ModelInputs(self.processor, self.model)
        own_limit = int(self.model.config.get_text_config().max_position_embeddings)
        self.max_model_len = settings.max_model_len or own_limit
        self.version = UNLOADED
        self.start_seconds = time.perf_counter() - started

    def load(self, tensors: Packed, version: str, fingerprint: str) -> float:
        """See `Engine.load`. Names may be those of the model in memory or those of its checkpoints."""
        import torch

        started = time.perf_counter()
        check_fingerprint(tensors, fingerprint)
        self.version = UNLOADED  # whatever goes wrong from here on, nobody generates with half of the weights
        given = dict(unpack(tensors))
        own = dict(self.model.named_parameters())
        if not own.keys() <= given.keys():
            given = self._from_checkpoint_names(given)
        missing = sorted(own.keys() - given.keys())
        if missing:
            raise ValueError(f"the push lacks {len(missing)} weights of the engine, the first is {missing[0]}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(given[name])
        self.version = version
        return time.perf_counter() - started

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, version: str
    ) -> list[list[Completion]]:
        """See `Engine.generate`. Prompts of like length share a batch of at most `max_num_seqs` completions."""
        if version != self.version:
            raise StaleWeights(self.version, version)
        check_sampling(params)
        for request in requests:
            check_request(request, self.settings, self.max_model_len, params.max_tokens)
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        size = max(1, self.settings.max_num_seqs // params.n)
        answers: list[list[Completion]] = [[] for _ in requests]
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            for i, answer in zip(chosen, self._batch([requests[i] for i in chosen], params), strict=True):
                answers[i] = answer
        return answers

    def info(self) -> dict[str, Any]:
        """See `Engine.info`."""
        import torch
        import transformers

        return {
            "pid": os.getpid(),
            "engine": "hf",
            "version": self.version,
            "libraries": {"transformers": transformers.__version__, "torch": torch.__version__},
            "threads": torch.get_num_threads(),
            "start_s": self.start_seconds,
        }

    def _from_checkpoint_names(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The same tensors under the names they have in memory; transformers knows how they differ."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.settings.model_path, trust_remote_code=self.settings.trust_remote_code)
        copy, found = type(self.model).from_pretrained(
            None, config=config, state_dict=given, dtype=self.model.dtype, output_loading_info=True
        )
        missing = set(found["missing_keys"])
        return {name: parameter for name, parameter in copy.named_parameters() if name not in missing}

    def _batch(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[list[Completion]]:
        import torch

        seeds = [request_seed(request.seed, k) for request in requests for k in range(params.n)]
        with torch.inference_mode():
            tokens, logprobs = self._sample(self._inputs(requests), params, seeds)
        completions = [self._completion(*row) for row in zip(tokens.tolist(), logprobs.tolist(), strict=True)]
        return [completions[i : i + params.n] for i in range(0, len(completions), params.n)]

    def _inputs(self, requests: Sequence[GenerationRequest]) -> dict[str, torch.Tensor]:
        """The model's arguments for prompts. ValueError if a prompt's placeholders don't fit its images."""
        pictures = self.inputs.pictures([request.images for request in requests])
        for request, own in zip(requests, pictures, strict=True):
            self.inputs.check(request.prompt_ids, own)
        prompts = [request.prompt_ids for request in requests]
        return self.inputs.prompts(prompts, pictures, self.device, self.model.dtype)

    def _sample(
        self, inputs: dict[str, torch.Tensor], params: SamplingParams, seeds: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and log-probabilities of R = B x n completions, [R, max_tokens]; pad and 0 after the end."""
        import torch

        n, limit = params.n, params.max_tokens
        mask = torch.nn.functional.pad(inputs["attention_mask"], (0, limit), value=1).repeat_interleave(n, 0)
        width = inputs["input_ids"].shape[1]
        output = self.model(**inputs, use_cache=True, logits_to_keep=1)
        position = inputs["attention_mask"].sum(1)
        if "position_ids" not in inputs:
            position = position + output.rope_deltas.flatten()
        position = position.repeat_interleave(n)
        cache = roomy(output.past_key_values, n, limit)
        logits = output.logits[:, -1].repeat_interleave(n, 0)

        rows = torch.arange(len(seeds), device=self.device)  # of the completions still in the batch
        running = torch.ones_like(rows, dtype=torch.bool)
        stop = torch.tensor(self.vocabulary.stop, device=self.device)
        tokens = torch.full((len(seeds), limit), self.vocabulary.pad, device=self.device)
        logprobs = torch.zeros(len(seeds), limit, device=self.device)
        noise = Noise(seeds, logits.shape[-1]) if params.temperature else None
        for step in range(limit):
            chosen, logprob = self._choose(logits, params.temperature, noise.at(step, rows) if noise else None)
            tokens[rows[running], step] = chosen[running]
            logprobs[rows[running], step] = logprob[running]
            running = running & ~torch.isin(chosen, stop)
            left = int(running.sum())
            if left == 0 or step + 1 == limit:
                break
            if left <= _COMPACT_BELOW * len(rows):
                kept = running.nonzero().flatten()
                rows, chosen, position, mask = rows[kept], chosen[kept], position[kept], mask[kept]
                cache.batch_select_indices(kept)
                running = running[kept]
            logits = self.model(
                input_ids=chosen[:, None],
                attention_mask=mask[:, : width + step + 1],
                position_ids=(position + step)[:, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        return tokens, logprobs

    def _choose(
        self, logits: torch.Tensor, temperature: float, noise: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Next tokens and their log-probabilities, each [R], from logits [R, vocabulary].

        The token of the largest p_i / e_i with e_i standard exponential is distributed as p (the Gumbel-max trick).
        """
        import torch

        scores = logits.float() / (temperature or 1.0)
        scores[:, list(self.vocabulary.banned)] = -torch.inf
        logprobs = torch.log_softmax(scores, -1)
        chosen = (logprobs if noise is None else logprobs - noise.to(logprobs).log()).argmax(-1)
        return chosen, logprobs.gather(1, chosen[:, None]).squeeze(1)

    def _completion(self, tokens: list[int], logprobs: list[float]) -> Completion:
        ends = [i for i, token in enumerate(tokens) if token in self.vocabulary.stop]
        length = ends[0] + 1 if ends else len(tokens)
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        text = tokenizer.decode(tokens[:length], skip_special_tokens=True)
        return Completion(tokens[:length], logprobs[:length], text, "stop" if ends else "length")


class Noise:
    """Standard exponential numbers, one per vocabulary entry and token, from a stream of its own per completion.

    Args:
        seeds: one per completion.
        vocabulary: numbers per token.
    """

    def __init__(self, seeds: Sequence[int], vocabulary: int) -> None:
        import torch

        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.vocabulary = vocabulary
        self.tokens = max(1, _NOISE_NUMBERS // vocabulary)
        self.drawn: torch.Tensor | None = None

    def at(self, step: int, rows: torch.Tensor) -> torch.Tensor:
        """Numbers [len(rows), vocabulary] of token `step`; ask for steps in order, for rows that never grow."""
        import torch

        place = step % self.tokens
        if place == 0:
            self.drawn = torch.ones(len(self.generators), self.tokens, self.vocabulary)
            for row in rows.tolist():
                torch.rand(self.tokens, self.vocabulary, generator=self.generators[row], out=self.drawn[row])
            self.drawn.log_().neg_()  # seven times as quick as `exponential_`
        assert self.drawn is not None
        return self.drawn[rows.cpu(), place]


def roomy(cache: Any, repeats: int, room: int) -> Any:
    """A key-value cache with every row `repeats` times, neighbours together, and memory for `room` more tokens.

    transformers' own dynamic cache copies all keys and values for each new token.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    class RoomyLayer(DynamicLayer):
        """Keys and values of one layer in a buffer that is longer than they are."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.length = layer.keys.shape[-2]
            self.keys, self.values = (self._widened(old) for old in (layer.keys, layer.values))
            self.dtype, self.device, self.is_initialized = self.keys.dtype, self.keys.device, True

        def _widened(self, old: torch.Tensor) -> torch.Tensor:
            rows, heads, length, size = old.shape
            buffer = old.new_empty(rows * repeats, heads, length + room, size)
            buffer[:, :, :length] = old.repeat_interleave(repeats, 0)
            return buffer

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Append, and return everything so far."""
            start, self.length = self.length, self.length + key_states.shape[-2]
            self.keys[:, :, start : self.length] = key_states
            self.values[:, :, start : self.length] = value_states
            return self.keys[:, :, : self.length], self.values[:, :, : self.length]

        def get_seq_length(self) -> int:
            """Tokens so far."""
            return int(self.length)

    for layer in cache.layers:
        if type(layer) is not DynamicLayer:
            cache.batch_repeat_interleave(repeats)  # sliding windows and the like keep their own ways
            return cache
    result = DynamicCache()
    result.layers = [RoomyLayer(layer) for layer in cache.layers]
    return result
