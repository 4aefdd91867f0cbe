"""A vLLM engine in this process: the fast kind for models that fill a GPU, and the same code on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cpt.models.lean import lean_imports
from cpt.models.names import HubNames
from cpt.rollout.engine import BAN, Engine, EngineSettings, check_expansion, read_vocabulary
from cpt.rollout.scoring import in_calls
from cpt.rollout.sync import BACKEND, register_vllm_backend
from cpt.rollout.vllm_hooks import LOADER, register_loader, take_expanded_prompts
from cpt.types import Completion, GenerationRequest, SamplingParams, ScoringRequest

if TYPE_CHECKING:
    from cpt.rollout.sync import Packed

_CPU_KV_CACHE_BYTES = 1 << 30
_CPU_PREFILL_TOKENS = 8192  # in one forward pass
_SCORED_TOKENS = 1 << 17  # in one call: vLLM makes an object for every token, of a prompt too


class VLLMEngine(Engine):
    """vLLM behind `cpt.rollout.engine.Engine`. The process's environment must be that of `threads.engine_env`.

    Log-probabilities are those of the distribution that was sampled from: at the request's temperature, with banned
    tokens left out.

    The same calls in the same order give the same tokens, bit for bit on a CPU: scheduling depends on the requests
    alone, and caches whose contents could change a rounding (key-value prefixes, encoded images) are emptied before
    every call, not only after every push. So a call that is repeated after an engine's death or a resumed run does not
    depend on what the engine had computed before.
    """

    kind, packages = "vllm", ("vllm", "torch")

    def _start(self) -> None:
        settings = self.settings
        with lean_imports("transformers"):
            register_vllm_backend()
            register_loader()
            from vllm import LLM
            from vllm.platforms import current_platform

        self.llm = LLM(
            model=settings.model_path,
            load_format=LOADER,
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
            max_model_len=settings.max_model_len,
            max_num_seqs=settings.max_num_seqs,
            limit_mm_per_prompt={"image": settings.limit_images, "video": 0},
            seed=settings.seed,
            generation_config="vllm",  # the folder's sampling defaults (top-p, penalties) don't belong in a comparison
            logprobs_mode="processed_logprobs",
            weight_transfer_config={"backend": BACKEND},
            disable_log_stats=True,
            **(_cpu_options(settings) if current_platform.is_cpu() else _gpu_options(settings)),
        )
        self.tokenizer: Any = self.llm.get_tokenizer()
        self.max_model_len = int(self.llm.model_config.max_model_len)
        self.vocabulary = read_vocabulary(settings.model_path, self.llm.model_config.hf_config, self.tokenizer)
        take_expanded_prompts()
        self.names = HubNames(settings.model_path, trust_remote_code=settings.trust_remote_code)

    def _replace(self, tensors: Packed, version: str) -> None:
        self.llm.start_weight_update()
        self.llm.update_weights({"update_info": {"weights": self.names(tensors)}})
        self.llm.finish_weight_update(version)
        self.llm.reset_mm_cache()
        self._forget()

    def _answer(self, requests: Sequence[GenerationRequest], params: SamplingParams) -> list[list[Completion]]:
        self._forget()
        prompts = [self._prompt(request) for request in requests]
        outputs = self.llm.generate(prompts, [self._sampling(request, params) for request in requests], use_tqdm=False)
        for request, output in zip(requests, outputs, strict=True):
            check_expansion(output.prompt_token_ids, request.prompt_ids, self.vocabulary.image)
        return [[self._read(one) for one in output.outputs] for output in outputs]

    def _score(self, requests: Sequence[ScoringRequest]) -> list[list[float]]:
        """From the log-probabilities that vLLM gives of a prompt, with the completion as its end.

        Where vLLM caches prefixes it does not read them for such requests: of cached tokens it has no logits. It makes
        the logits of a whole prompt in one piece, beside the memory that it has planned for: 2.5 GB in float32 for
        4,096 tokens of a vocabulary of 152,000, and a small multiple of that for a moment.
        """
        from vllm import SamplingParams as Sampling

        params = Sampling(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        found: list[list[float]] = []
        for chosen in in_calls(requests, _SCORED_TOKENS):
            self._forget()
            texts = [GenerationRequest([*one.prompt_ids, *one.completion_ids], one.images, 0) for one in chosen]
            outputs = self.llm.generate([self._prompt(text) for text in texts], params, use_tqdm=False)
            for request, text, output in zip(chosen, texts, outputs, strict=True):
                check_expansion(output.prompt_token_ids, text.prompt_ids, self.vocabulary.image)
                first = len(request.prompt_ids)
                steps = output.prompt_logprobs[first:]
                found.append([step[token].logprob for token, step in zip(request.completion_ids, steps, strict=True)])
        return found

    def _forget(self) -> None:
        """Empty the caches that hold results of the weights."""
        self.llm.reset_prefix_cache()
        self.llm.llm_engine.reset_encoder_cache()

    def _prompt(self, request: GenerationRequest) -> Any:
        ids = {"prompt_token_ids": list(request.prompt_ids)}
        return ids | ({"multi_modal_data": {"image": list(request.images)}} if request.images else {})

    def _sampling(self, request: GenerationRequest, params: SamplingParams) -> Any:
        from vllm import SamplingParams as Sampling

        return Sampling(
            n=params.n,
            temperature=params.temperature,
            max_tokens=params.max_tokens,
            seed=request.seed,
            logprobs=0,  # of the sampled token alone
            logit_bias=dict.fromkeys(self.vocabulary.banned, BAN),
            stop_token_ids=list(self.vocabulary.stop),
            detokenize=False,
        )

    def _read(self, output: Any) -> Completion:
        ids = list(output.token_ids)
        logprobs = [step[token].logprob for token, step in zip(ids, output.logprobs, strict=True)]
        return self._completion(ids, logprobs, stopped=output.finish_reason == "stop")


def _gpu_options(settings: EngineSettings) -> dict[str, Any]:
    return {"gpu_memory_utilization": settings.gpu_memory_utilization, "enable_prefix_caching": True}


def _cpu_options(settings: EngineSettings) -> dict[str, Any]:
    """Prompts are prefilled whole: vLLM rewinds the random stream of a seeded request whose prefill it interrupts.

    A CPU's generators can't be rewound: RuntimeError "CPU Generator does not use offset" (vLLM 0.31).
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(settings.model_path, trust_remote_code=settings.trust_remote_code)
    longest = settings.max_model_len or config.get_text_config().max_position_embeddings
    return {
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(_CPU_PREFILL_TOKENS, longest),
        # Blocks of 128 tokens hold most prompts whole, and equal prompts are sampled in one request anyway.
        "enable_prefix_caching": False,
        "kv_cache_memory_bytes": _CPU_KV_CACHE_BYTES,
    }
