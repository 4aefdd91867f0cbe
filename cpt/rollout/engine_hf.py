"""A Hugging Face engine in this process: no vLLM needed, and on a CPU the faster kind for the built-in model.

It generates by transformers' `generate()`; the built-in model has a loop of its own. Either way every token is picked
by `cpt.rollout.choose`, from a random stream per completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from cpt.models.inputs import ModelInputs, Pictures
from cpt.models.load import load_policy, load_processor
from cpt.rollout.choose import Chooser
from cpt.rollout.engine import Engine, read_vocabulary, request_seed
from cpt.rollout.scoring import Bounds, Part, batches
from cpt.rollout.sync import unpack
from cpt.tasks.world import builtin
from cpt.types import Completion, GenerationRequest, SamplingParams, ScoringRequest

if TYPE_CHECKING:
    from cpt.rollout.sync import Packed

# What is scored in one forward pass: tokens, and numbers in the logits (1 GiB in float32).
_TOKENS = 1 << 14
_LOGITS = 1 << 28


class HFEngine(Engine):
    """transformers behind `cpt.rollout.engine.Engine`, for any image-text model.

    Log-probabilities are those of the distribution that was sampled from: at the request's temperature, with banned
    tokens left out. A completion's random numbers depend on its request's seed and its number alone, so what else is in
    the batch changes a token only where another shape of batch rounds two nearly equal candidates the other way. The
    same calls give the same tokens, bit for bit on a CPU.
    """

    kind, packages = "hf", ("transformers", "torch")

    def _start(self) -> None:
        path, trust = self.settings.model_path, self.settings.trust_remote_code
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        policy = load_policy(
            path, dtype=self.settings.dtype, attention=self.settings.attention, trust_remote_code=trust
        )
        self.model: Any = policy.to(self.device).eval().requires_grad_(False)
        self.processor = load_processor(path, trust_remote_code=trust)
        self.tokenizer = getattr(self.processor, "tokenizer", self.processor)
        self.vocabulary = read_vocabulary(path, self.model.config, self.tokenizer)
        self.inputs = ModelInputs(self.processor, self.model)
        own_limit = int(self.model.config.get_text_config().max_position_embeddings)
        self.max_model_len = self.settings.max_model_len or own_limit

    def _replace(self, tensors: Packed, version: str) -> None:
        """Names may be those of the model in memory or those of its checkpoints."""
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

    def _from_checkpoint_names(self, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The same tensors under the names they have in memory; transformers knows how they differ."""
        from transformers import AutoConfig

        config = AutoConfig.from_pretrained(self.settings.model_path, trust_remote_code=self.settings.trust_remote_code)
        copy, found = type(self.model).from_pretrained(
            None, config=config, state_dict=given, dtype=self.model.dtype, output_loading_info=True
        )
        missing = set(found["missing_keys"])
        return {name: parameter for name, parameter in copy.named_parameters() if name not in missing}

    def _answer(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[list[Completion]]:
        """Prompts of like length share a batch of at most `max_num_seqs` completions."""
        order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt_ids))
        size = max(1, self.settings.max_num_seqs // params.n)
        answers: list[list[Completion]] = [[] for _ in requests]
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            for i, answer in zip(chosen, self._batch([requests[i] for i in chosen], params), strict=True):
                answers[i] = answer
        return answers

    def _score(self, requests: Sequence[ScoringRequest]) -> list[list[float]]:
        """Texts of like length share a forward pass, which keeps the logits of the completions alone."""
        vocabulary = self.model.config.get_text_config().vocab_size
        bounds = Bounds(self.settings.max_num_seqs, _TOKENS, max(2, _LOGITS // vocabulary))
        found: list[list[float]] = [[] for _ in requests]
        for batch in batches(requests, bounds):
            for part, logprobs in zip(batch, self._score_batch(requests, batch), strict=True):
                found[part.request] += logprobs
        return found

    def _score_batch(self, requests: Sequence[ScoringRequest], batch: Sequence[Part]) -> list[list[float]]:
        chosen = [requests[part.request] for part in batch]
        texts = [[*one.prompt_ids, *one.completion_ids][: part.stop] for one, part in zip(chosen, batch, strict=True)]
        pictures = self._pictures(chosen)
        said = [part.stop - part.prompt for part in batch]
        inputs = self.inputs.prompts(texts, pictures, self.device, self.model.dtype, said)
        kept = max(part.scored for part in batch) + 1
        with torch.inference_mode():
            logits = self.model(**inputs, logits_to_keep=kept, use_cache=False).logits
        found = []
        for row, (text, part) in enumerate(zip(texts, batch, strict=True)):
            logprobs = logits[row, -part.scored - 1 : -1].float().log_softmax(-1)
            ids = torch.tensor(text[part.start :], device=logprobs.device)
            found.append(logprobs.gather(1, ids[:, None])[:, 0].tolist())
        return found

    def _batch(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[list[Completion]]:
        seeds = [request_seed(request.seed, k) for request in requests for k in range(params.n)]
        choose = Chooser(seeds, params.temperature, self.vocabulary.banned)
        with torch.inference_mode():
            if builtin.is_accelerated(self.model):
                tokens, logprobs = builtin.generate(
                    self.model,
                    self._inputs(requests),
                    choose,
                    n=params.n,
                    limit=params.max_tokens,
                    stop=self.vocabulary.stop,
                    pad=self.vocabulary.pad,
                )
            else:
                tokens, logprobs = self._generate(self._inputs(requests, params.n), choose, params.max_tokens)
        completions = [self._cut(*row) for row in zip(tokens.tolist(), logprobs.tolist(), strict=True)]
        return [completions[i : i + params.n] for i in range(0, len(completions), params.n)]

    def _inputs(self, requests: Sequence[GenerationRequest], repeats: int = 1) -> dict[str, torch.Tensor]:
        """The model's arguments for prompts, each `repeats` times. ValueError if placeholders don't fit the images."""
        rows = [(request.prompt_ids, own) for request, own in zip(requests, self._pictures(requests), strict=True)]
        prompts, shown = zip(*(row for row in rows for _ in range(repeats)), strict=True)
        return self.inputs.prompts(prompts, shown, self.device, self.model.dtype)

    def _pictures(self, requests: Sequence[GenerationRequest | ScoringRequest]) -> list[Pictures]:
        pictures = self.inputs.pictures([request.images for request in requests])
        for request, own in zip(requests, pictures, strict=True):
            self.inputs.check(request.prompt_ids, own)
        return pictures

    def _generate(
        self, inputs: dict[str, torch.Tensor], choose: Chooser, limit: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and log-probabilities of R completions, each [R, at most limit], by transformers' `generate()`.

        `choose` takes the place of a logits processor: it leaves one candidate a row, which the greedy search takes.
        Prompts and pictures are encoded once for each completion, for how those of a picture are repeated differs from
        family to family.
        """
        from transformers import GenerationConfig, LogitsProcessorList

        said: list[torch.Tensor] = []
        rows = torch.arange(len(inputs["input_ids"]), device=self.device)

        def pick(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            chosen, logprobs = choose(logits, len(said), rows)
            said.append(logprobs)
            return torch.full_like(logits, -torch.inf).scatter(1, chosen[:, None], 0.0)

        # The folder's own settings (penalties, minimal lengths) don't belong in a comparison.
        self.model.generation_config = GenerationConfig(
            do_sample=False,
            max_new_tokens=limit,
            eos_token_id=list(self.vocabulary.stop),
            pad_token_id=self.vocabulary.pad,
        )
        ids = self.model.generate(**inputs, logits_processor=LogitsProcessorList([pick]))
        return ids[:, inputs["input_ids"].shape[1] :], torch.stack(said, dim=1)

    def _cut(self, tokens: list[int], logprobs: list[float]) -> Completion:
        """Without what comes after the end."""
        ends = [i for i, token in enumerate(tokens) if token in self.vocabulary.stop]
        length = ends[0] + 1 if ends else len(tokens)
        return self._completion(tokens[:length], logprobs[:length], stopped=bool(ends))
