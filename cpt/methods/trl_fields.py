"""Which `trainer_args` a recipe may pass through, and why others are refused.

TRL and transformers have some two hundred arguments. Passed through are those in `ALLOWED`, each of which changes the
trainer or the step in cpt's own training, as tests/unit/test_trainer_args.py shows one by one. The others belong to
something that cpt does itself (`OWNED`), to something that it does not do (`ABSENT`), or to nothing here at all: an
argument that would be taken and do nothing is a wrong line in the description of an experiment. The names of all of
them are read from the sources, without importing TRL (10 s), so that a slip of the pen gets its own message.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from cpt.common.keys import nearest, shown
from cpt.common.strict import Strict
from cpt.methods.policy_gradient import PolicyGradient
from cpt.methods.setting import BaseMethod, Count, Factor
from cpt.methods.sft import SFT

TRUNCATED = (
    "training rollouts sample from the whole distribution: truncated sampling makes the trainer's log-probabilities "
    "wrong (vllm#42259); remove it"
)
# Keys that people expect and that are left out on purpose.
REFUSED = {
    "top_p": TRUNCATED,
    "top_k": TRUNCATED,
    "min_p": TRUNCATED,
    "repetition_penalty": TRUNCATED,
    "max_length": "nothing is truncated, because that drops images without a word; remove it",
}
# Arguments that cpt sets itself, and where a recipe has a say in them.
OWNED = {
    "output_dir": "the run folder decides; use --out",
    "run_name": "the run folder decides; use --out",
    "seed": "set seeds at the top of the recipe",
    "data_seed": "set seeds at the top of the recipe",
    "full_determinism": "runs are deterministic by their seeds",
    "bf16": "set model.dtype",
    "fp16": "set model.dtype",
    "use_cpu": "the hardware decides; set resources",
    "model_init_kwargs": "set model.dtype, model.attention and model.trust_remote_code",
    "trust_remote_code": "set model.trust_remote_code",
    "generation_kwargs": "training rollouts sample from the whole distribution, with method.temperature",
    "generation_batch_size": "set method.steps_per_generation",
    "use_vllm": "set rollout.engine",
    "vllm_max_model_length": "set rollout.max_model_len",
    "vllm_gpu_memory_utilization": "set rollout.gpu_memory_utilization",
    "use_transformers_continuous_batching": "set rollout.engine",
    "use_transformers_paged": "set rollout.engine",
    "vllm_importance_sampling_cap": "set method.vllm_importance_sampling_clip_max",
    "shuffle_dataset": "every arm sees the same samples in the same order",
    "train_sampling_strategy": "every arm sees the same samples in the same order",
    "dataloader_drop_last": "every arm sees the same samples in the same order",
    "remove_unused_columns": "rows carry what rewards need",
    "completion_only_loss": "the loss covers the completion only",
    "assistant_only_loss": "the loss covers the completion only",
    "packing": "image rows cannot be packed",
    "auto_find_batch_size": "the batch is part of the comparison; set method.per_device_train_batch_size",
    "save_strategy": "set method.save_steps",
    "save_only_model": "a checkpoint has to be resumable",
    "load_best_model_at_end": "a stage ends with its last step",
    "resume_from_checkpoint": "the same command again resumes",
    "ignore_data_skip": "the same command again resumes",
    "restore_callback_states_from_checkpoint": "the same command again resumes",
    "logging_strategy": "set method.logging_steps",
    "disable_tqdm": "cpt shows the progress",
    "do_train": "a stage always trains",
    "do_eval": "set evaluation",
    "do_predict": "set evaluation",
    "eval_strategy": "set evaluation",
    "eval_steps": "set evaluation",
    "per_device_eval_batch_size": "set evaluation",
    "reward_weights": "the task owns its reward",
    "multi_objective_aggregation": "the task owns its reward",
    "sync_ref_model": "the reference of a KL term is the stage's start",
    "push_to_hub": "cpt publishes nothing",
    "disable_dropout": "engines sample without dropout, and so recipes of such methods have none",
    "report_to": "what it writes would go with the checkpoints; every step is in the run folder's metrics.jsonl",
    "logging_first_step": "set method.logging_steps",
    "logging_nan_inf_filter": "a diverged loss has to show",
    "log_level": "cpt shows the progress",
    "tf32": "it is on for bfloat16 and off for float32, whose bound between engine and trainer it would break; set "
    "model.dtype",
    "router_aux_loss_coef": "it would be a second objective in a comparison",
    "dataloader_pin_memory": "it is on where training runs on a GPU",
    "dataloader_in_order": "every arm sees the same samples in the same order",
    "use_cache": "training caches no keys and values",
    "cache_implementation": "set rollout.engine",
    "chat_template_path": "a model's own chat template is part of it",
    "eos_token": "the model's own tokens are part of it",
    "pad_token": "the model's own tokens are part of it",
}
# What cpt has not, by the beginning of the arguments' names.
ABSENT = {
    "fsdp": "a stage is trained by one process",
    "deepspeed": "a stage is trained by one process",
    "ds3_": "a stage is trained by one process",
    "ddp_": "a stage is trained by one process",
    "accelerator_config": "a stage is trained by one process",
    "parallelism_config": "a stage is trained by one process",
    "average_tokens_across_devices": "a stage is trained by one process",
    "torch_compile": "a compiled model's log-probabilities are not compared with the engine's",
    "use_liger_kernel": "its loss keeps no logits, which plug-ins need",
    "liger_kernel": "its loss keeps no logits, which plug-ins need",
    "activation_offloading": "it acts on GPUs alone, where it was never tried; set gradient_checkpointing: true",
    "cast_lm_head_to_fp32": "the engine does not, so both would disagree; set model.dtype: float32",
    "label_smoothing_factor": "it takes a second forward pass that plug-ins do not see",
    "pad_to_multiple_of": "TRL does not pad rows with pictures so",
    "padding_free": "image rows cannot be packed",
    "optim_target_modules": "it belongs to optimizers that method.optim does not have",
    "use_adaptive_entropy": "its coefficient moves, and a stage that goes on would not find it; set entropy_coef",
    "entropy_": "it belongs to use_adaptive_entropy, which is not supported; set entropy_coef",
    "log_completions": "a run keeps what every policy says to the test questions, in records.parquet",
    "ref_model_": "the reference of a KL term is the stage's start; see kl:",
    "sapo_": "it belongs to a loss that method.loss_type does not have",
    "vespo_": "it belongs to a loss that method.loss_type does not have",
}


def _momentum(text: str) -> str:
    number = r"[0-9.]+(e-?[0-9]+)?"
    one = rf"(momentum|dampening)={number}|nesterov=(true|false)"
    if not re.fullmatch(rf"({one})(, ?({one}))*", text):
        raise ValueError("must be like momentum=0.9, with dampening=… and nesterov=true if wanted")
    return text


class _Reentrant(Strict):
    use_reentrant: bool


class _Cosine(Strict):
    num_cycles: Annotated[float, Field(gt=0, le=1000)]


@dataclass(frozen=True)
class Allowed:
    """An argument that is passed through.

    Attributes:
        kind: type and bounds of its value.
        methods: classes of methods that it acts in.
        needs: what it does nothing without, by the method's settings and the other arguments; None if it acts.
    """

    kind: Any
    methods: tuple[type[BaseMethod], ...] = (BaseMethod,)
    needs: Callable[[Any, Mapping[str, Any]], str | None] = lambda method, others: None


def _beside(key: str, value: str) -> Callable[[Any, Mapping[str, Any]], str | None]:
    """Acts only where another argument is set."""
    return lambda method, others: None if others.get(key) else f"trainer_args.{key}: {value}"


ALLOWED = {
    "gradient_checkpointing": Allowed(bool),
    "gradient_checkpointing_kwargs": Allowed(_Reentrant, needs=_beside("gradient_checkpointing", "true")),
    "lr_scheduler_kwargs": Allowed(
        _Cosine,
        needs=lambda method, _: None if method.lr_scheduler_type == "cosine" else "method.lr_scheduler_type: cosine",
    ),
    "optim_args": Allowed(
        Annotated[str, AfterValidator(_momentum)],
        needs=lambda method, _: None if method.optim == "sgd" else "method.optim: sgd",
    ),
    "torch_empty_cache_steps": Allowed(Count),
    "dataloader_num_workers": Allowed(Annotated[int, Field(ge=0, le=64)]),
    "dataloader_prefetch_factor": Allowed(
        Annotated[int, Field(gt=0, le=64)], needs=_beside("dataloader_num_workers", "1 or more")
    ),
    "dataloader_persistent_workers": Allowed(bool, needs=_beside("dataloader_num_workers", "1 or more")),
    "neftune_noise_alpha": Allowed(Factor, (SFT,)),
    "entropy_coef": Allowed(Annotated[float, Field(ge=-1000, le=1000)], (PolicyGradient,)),
    "top_entropy_quantile": Allowed(Annotated[float, Field(gt=0, le=1)], (PolicyGradient,)),
    "off_policy_mask_threshold": Allowed(Factor, (PolicyGradient,)),
}


@lru_cache(maxsize=4)
def config_fields(module: str, name: str) -> frozenset[str]:
    """Field names of `trl.trainer.<module>.<name>`, inherited ones included; empty where TRL is not installed."""
    trl, transformers = (importlib.util.find_spec(package) for package in ("trl", "transformers"))
    if trl is None or transformers is None or not trl.origin or not transformers.origin:
        return frozenset()
    trainer = Path(trl.origin).parent / "trainer"
    wanted = [
        (trainer / f"{module}.py", name),
        (trainer / "base_config.py", "_BaseConfig"),
        (Path(transformers.origin).parent / "training_args.py", "TrainingArguments"),
    ]
    return frozenset().union(*(_class_fields(path, class_name) for path, class_name in wanted))


def _class_fields(path: Path, class_name: str) -> set[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            annotated = (item.target for item in node.body if isinstance(item, ast.AnnAssign))
            return {target.id for target in annotated if isinstance(target, ast.Name)}
    raise AssertionError(
        f"{path} has no class {class_name}: another version of TRL or transformers than the tested one"
    )


def refusal(key: str, arguments: Mapping[str, Any], method: BaseMethod) -> str | None:
    """Why `key` may not stand in the `trainer_args` that these are, beside this method; None if it may."""
    if key in type(method).model_fields:
        return f"set it in the arm's method: {key}"
    if key in REFUSED:
        return REFUSED[key]
    if key in OWNED or key.startswith("vllm_"):
        return f"cpt sets this; {OWNED.get(key, 'set rollout')}"
    if key in ALLOWED:
        return _in_value(ALLOWED[key], arguments[key], arguments, method)
    for start, reason in ABSENT.items():
        if key.startswith(start):
            return f"is not supported: {reason}"
    known = config_fields(*method.trl_config)
    name = method.trl_config[1]
    if known and key not in known:
        near = nearest(key, sorted(known - OWNED.keys() - REFUSED.keys()))
        return f"unknown argument of TRL's {name}{near if 'did you mean' in near else ''}"
    return f"does nothing in cpt's training; allowed are {', '.join(ALLOWED)}"


def _in_value(allowed: Allowed, value: Any, others: Mapping[str, Any], method: BaseMethod) -> str | None:
    if not isinstance(method, allowed.methods):
        return f"does nothing in {method.title}; set it in the arms that it is for"
    try:
        TypeAdapter(allowed.kind).validate_python(value, strict=True)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        where = "".join(f"{step}: " for step in detail["loc"])
        text = detail["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
        return f"{where}{text}, not {shown(detail['input'])}"
    needed = allowed.needs(method, others)
    return f"does nothing without {needed}" if needed else None
