"""Every setting of TRL's trainers that could influence a comparison, written out: no default of theirs decides."""

from __future__ import annotations

import hashlib
import math
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan


def stage_seed(stage: StagePlan) -> int:
    """Seed of what is random in a stage (adapter initialisation, dropout), the same for every arm; in [0, 2^31)."""
    digest = hashlib.blake2b(stage.stream.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> 1


def shared_arguments(stage: StagePlan, checkpoints: Path) -> dict[str, Any]:
    """What every trainer is given: the plan's settings, reproducibility, silence; on CUDA also checkpointing."""
    cuda = torch.cuda.is_available()
    arguments = stage.method.trl_arguments()
    arguments |= {
        "output_dir": str(checkpoints),
        "max_steps": stage.steps,
        "seed": stage_seed(stage),
        "data_seed": stage_seed(stage),
        "use_cpu": not cuda,
        "bf16": stage.model.dtype == "bfloat16",
        "fp16": False,
        "tf32": False if cuda and stage.model.dtype == "float32" else None,
        "gradient_checkpointing": cuda,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if cuda else None,
        "lr_scheduler_kwargs": None,
        "optim_args": None,
        "neftune_noise_alpha": None,
        "label_smoothing_factor": 0.0,
        "torch_compile": False,
        "use_liger_kernel": False,
        "average_tokens_across_devices": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": cuda,
        "dataloader_drop_last": False,
        "remove_unused_columns": False,
        "logging_strategy": "steps",
        "logging_nan_inf_filter": False,  # a diverged loss has to show
        "eval_strategy": "no",
        "save_only_model": False,
        "save_total_limit": None,  # `cpt.train.hooks.Checkpoints` drops old ones, when the new one is complete
        "restore_callback_states_from_checkpoint": False,
        "ignore_data_skip": False,
        "disable_tqdm": True,
        "report_to": "none",
        "push_to_hub": False,
        "model_init_kwargs": None,  # the model is given, not named
        "trust_remote_code": stage.model.trust_remote_code,
        "router_aux_loss_coef": 0.0,  # of mixture-of-experts models: no second objective in a comparison
        "shuffle_dataset": False,  # `cpt.train.data` has done it
        "pad_to_multiple_of": None,
    }
    if stage.method.save_steps is not None:
        # Only where no sampled completions are left over can a new process go on exactly as the old one would have.
        whole = stage.method.batch().steps
        arguments["save_steps"] = math.ceil(stage.method.save_steps / whole) * whole
    return arguments


def config(cls: Any, arguments: dict[str, Any], passed_through: dict[str, Any]) -> Any:
    """TRL's config object from our arguments and the recipe's `trainer_args`.

    Raises:
        ValueError: `trainer_args` names a field that the config lacks.
    """
    known = {field.name for field in fields(cls)}
    unknown = sorted(set(passed_through) - known)
    if unknown:
        raise ValueError(f"trainer_args: {cls.__name__} has no argument {', '.join(unknown)}")
    assert set(arguments) <= known, f"{cls.__name__} no longer has {sorted(set(arguments) - known)}"
    return cls(**{**arguments, **passed_through})
