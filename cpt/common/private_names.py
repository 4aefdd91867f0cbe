"""Undocumented names of other libraries that cpt uses.

Any release may drop or change them. tests/unit/test_private_names.py looks for each in the installed versions, and for
names that are used and not listed here. Public are documented modules (`PUBLIC`) and, in them, names without a leading
underscore.
"""

from __future__ import annotations

from dataclasses import dataclass

PUBLIC = frozenset(
    {
        "accelerate",
        "accelerate.utils",
        "peft",
        "ray",
        "ray.exceptions",
        "torch",
        "torch.func",
        "torch.nn",
        "torch.nn.functional",
        "torch.utils.checkpoint",
        "transformers",
        "transformers.cache_utils",
        "transformers.utils",
        "transformers.utils.logging",
        "trl",
        "trl.trainer",
        "trl.data_utils",
        "vllm",
        "vllm.distributed.weight_transfer",  # with `base`, documented for transfers of one's own
        "vllm.distributed.weight_transfer.base",
        "vllm.model_executor.model_loader",  # documented for loaders of one's own
    }
)
"""Modules of these libraries whose names are documented."""


@dataclass(frozen=True)
class PrivateName:
    """One name.

    Attributes:
        module: where it is defined.
        name: of a class, a function or a variable, or `Class.attribute`; empty for the module itself.
        use: what cpt does with it.
        written: the word by which it is used in the sources, if not the last part of `name`.
        without: what cpt does in a version that lacks it; empty where it can't do without.
    """

    module: str
    name: str
    use: str
    written: str = ""
    without: str = ""

    @property
    def word(self) -> str:
        """How the sources speak of it."""
        return self.written or (self.name or self.module).rpartition(".")[2]

    def __str__(self) -> str:
        return ".".join(part for part in (self.module, self.name) if part)


TRAINING = (
    PrivateName("trl.trainer.grpo_trainer", "GRPOTrainer._generate_and_score_completions", "ours takes its place"),
    PrivateName("trl.trainer.grpo_trainer", "GRPOTrainer._compute_loss", "ours takes its place"),
    PrivateName("trl.trainer.grpo_trainer", "GRPOTrainer._metrics", "numbers of a step are logged with TRL's own"),
    PrivateName("trl.trainer.sft_trainer", "SFTTrainer._metrics", "numbers of a step are logged with TRL's own"),
    PrivateName("trl.trainer.utils", "use_adapter", "the reference of a KL term is the policy without its adapter"),
    PrivateName(
        "trl.trainer.utils",
        "add_fused_lm_head",
        "TRL teaches the model's forward to return log-probabilities instead of logits",
        written="fused_lm_head",
        without="log-probabilities are computed from logits, as with TRL before 1.15",
    ),
    PrivateName(
        "transformers.trainer", "Trainer._load_from_checkpoint", "what is trained is loaded by its names in memory"
    ),
)
"""Of TRL and of transformers' trainer."""

_HUB_NAMES = "names of weights on the Hub"
ELSEWHERE = (
    PrivateName("trl.trainer.base_config", "_BaseConfig", "the names of its fields are read from its source"),
    PrivateName("transformers.configuration_utils", "PreTrainedConfig._attn_implementation", "which attention runs"),
    PrivateName("transformers.conversion_mapping", "get_model_conversion_mapping", _HUB_NAMES),
    PrivateName("transformers.core_model_loading", "WeightConverter", _HUB_NAMES),
    PrivateName("transformers.core_model_loading", "WeightRenaming", _HUB_NAMES),
    PrivateName("transformers.core_model_loading", "_weight_conversions", _HUB_NAMES),
    PrivateName("transformers.core_model_loading", "rename_source_key", _HUB_NAMES),
    PrivateName("transformers.modeling_utils", "PreTrainedModel._from_config", "the built-in model with an attention"),
    PrivateName(
        "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
        "Qwen2_5_VLProcessor._get_num_multimodal_tokens",
        "how many tokens a picture becomes, without reading it",
    ),
    PrivateName(
        "transformers.vision_utils", "get_vision_position_ids", "the built-in model's vision tower in one batch"
    ),
    PrivateName(
        "transformers.vision_utils", "get_vision_window_index", "the built-in model's vision tower in one batch"
    ),
    PrivateName(
        "torch.nn.modules.module", "Module._buffers", "weights that are stored in one precision and used in another"
    ),
    PrivateName("torch.nn.modules.module", "Module._parameters", "the same, and the bias that bans tokens"),
    PrivateName("vllm.distributed.weight_transfer.factory", "WeightTransferEngineFactory._registry", "register once"),
    PrivateName("vllm.model_executor.layers.vocab_parallel_embedding", "ParallelLMHead", "a tied head is repacked"),
    PrivateName("vllm.model_executor.model_loader", "_LOAD_FORMAT_TO_MODEL_LOADER", "register once"),
    PrivateName("vllm.model_executor.model_loader.default_loader", "DefaultModelLoader", "ours renames what it reads"),
    PrivateName(
        "vllm.model_executor.model_loader.reload",
        "initialize_layerwise_reload",
        "weights are taken layer by layer",
        "vllm.model_executor.model_loader.reload",
    ),
    PrivateName(
        "vllm.model_executor.model_loader.reload",
        "finalize_layerwise_reload",
        "weights are taken layer by layer",
        "vllm.model_executor.model_loader.reload",
    ),
    PrivateName("vllm.multimodal.processing.processor", "BaseMultiModalProcessor", "prompts come expanded"),
    PrivateName(
        "vllm.multimodal.processing.processor", "BaseMultiModalProcessor._apply_prompt_updates", "prompts come expanded"
    ),
    PrivateName(
        "vllm.multimodal.processing.processor", "BaseMultiModalProcessor._find_mm_placeholders", "prompts come expanded"
    ),
    PrivateName("vllm.platforms", "current_platform", "whether the engine runs on a CPU"),
    PrivateName("ray._raylet", "", "Ray's library reads its settings again", "_raylet"),
    PrivateName("ray._private.worker", "_temp_dir", "Ray's files lie in a folder of the run's own"),
    PrivateName(
        "ray._private.ray_constants",
        "ENABLE_RAY_CLUSTER",
        "a cluster of this machine alone",
        "ray._private.ray_constants",
    ),
)
"""Of models, engines and Ray."""

PRIVATE_NAMES = TRAINING + ELSEWHERE
