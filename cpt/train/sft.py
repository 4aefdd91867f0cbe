"""Supervised fine-tuning of one stage with TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trl import SFTConfig, SFTTrainer

from cpt.rollout.timing import TimedTrainer
from cpt.train.data import as_dataset, sft_rows, stage_data
from cpt.train.objective import SupervisedPlugins
from cpt.train.objectives import WeighedSources, objectives_of
from cpt.train.resume import Resumable
from cpt.train.settings import config, shared_arguments

if TYPE_CHECKING:
    from cpt.plan import StagePlan
    from cpt.types import Sample


class StageSFTTrainer(SupervisedPlugins, WeighedSources, TimedTrainer, Resumable, SFTTrainer):
    """TRL's trainer with plug-ins, weights of the sources, a stopwatch and checkpoints that resume."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # transformers asks the model's class whether its loss is told of the tokens in the whole optimizer step; the
        # Qwen-VL families say no. But TRL computes the loss itself, and does know. Otherwise every micro-batch would
        # weigh the same, however few tokens it has, and gradient accumulation would change the objective.
        self.model_accepts_loss_kwargs = True


def sft_arguments(stage: StagePlan, checkpoints: Path) -> SFTConfig:
    """SFTConfig of a stage: the loss covers the completion only, and no sequence is ever cut."""
    arguments = shared_arguments(stage, checkpoints) | {
        "train_sampling_strategy": "sequential",
        "max_length": None,
        "completion_only_loss": True,
        "assistant_only_loss": False,
        "packing": False,
        "padding_free": False,
        "dataset_kwargs": None,
        "eos_token": None,
        "chat_template_path": None,
        "activation_offloading": False,
    }
    return config(SFTConfig, arguments, dict(stage.trainer_args))


def sft_trainer(
    stage: StagePlan, own: Sequence[Sample], policy: Any, processor: Any, checkpoints: Path, peft_config: Any = None
) -> StageSFTTrainer:
    """A trainer over `samples`, supervising `stage.method.target_style`.

    Args:
        own: the stage's own samples.
        policy: the model at the stage's start; with `peft_config`, or already with an adapter, only that is trained.
    """
    arguments = sft_arguments(stage, checkpoints)
    assert stage.method.type == "sft"
    data = stage_data(stage, own, arguments.world_size)
    rows = sft_rows(data.samples, stage.prompt, stage.method.target_style)
    trainer = StageSFTTrainer(
        model=policy,
        args=arguments,
        train_dataset=as_dataset(rows, data.order),
        processing_class=processor,
        peft_config=peft_config,
    )
    trainer.weigh(objectives_of(stage))
    return trainer
