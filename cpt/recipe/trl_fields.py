"""Which `trainer_args` a recipe may pass through: fields of TRL's config classes, read without importing TRL (10 s)."""

from __future__ import annotations

import ast
import importlib.util
from functools import lru_cache
from pathlib import Path

from cpt.recipe.errors import REFUSED, nearest
from cpt.recipe.methods import BaseMethod

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
    "model_init_kwargs": "set model.dtype and model.trust_remote_code",
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


def refusal(key: str, method: type[BaseMethod], known: frozenset[str]) -> str | None:
    """Why `key` may not stand in `trainer_args` beside this method, or None if it may."""
    if key in method.model_fields:
        return f"set it in the arm's method: {key}"
    if key in REFUSED:
        return REFUSED[key]
    if key in OWNED or key.startswith("vllm_"):
        return f"cpt sets this; {OWNED.get(key, 'set rollout')}"
    if known and key not in known:
        near = nearest(key, sorted(known - OWNED.keys() - REFUSED.keys()))
        return f"unknown argument of TRL's {method.trl_config[1]}{near if 'did you mean' in near else ''}"
    return None
