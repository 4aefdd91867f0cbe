"""Supervised fine-tuning of one stage with TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trl import SFTConfig, SFTTrainer

from cpt.models.inputs import ModelInputs
from cpt.rollout.timing import TimedTrainer
from cpt.train.data import as_dataset, sft_rows, stage_data
from cpt.train.objective import SupervisedPlugins
from cpt.train.objectives import WeighedSources, objectives_of
from cpt.train.resume import Resumable
from cpt.train.settings import config, shared_arguments
from cpt.train.supervised import AnswerCollator
from cpt.train.targets import NumberedRows, TargetRows, target_rows

if TYPE_CHECKING:
    import torch

    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.store.folder import StageDir
    from cpt.types import Sample


class StageSFTTrainer(SupervisedPlugins, WeighedSources, TimedTrainer, Resumable, SFTTrainer):
    """TRL's trainer with plug-ins, weights of sources, a stopwatch, checkpoints that resume, and targets that are
    sampled on the way."""

    targets: TargetRows | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # transformers asks the model's class whether its loss is told of the tokens in the whole optimizer step; the
        # Qwen-VL families say no. But TRL computes the loss itself, and does know. Otherwise every micro-batch would
        # weigh the same, however few tokens it has, and gradient accumulation would change the objective.
        self.model_accepts_loss_kwargs = True

    def imitate(self, targets: TargetRows) -> None:
        """Train on these rows, in place of those of `NumberedRows` with the same numbers. Before training starts."""
        if self.accelerator.num_processes > 1:
            raise ValueError("method.data: sampled completions are imitated by one process alone; train with one")
        trainer: Any = self
        self.targets, self._collate = targets, trainer.data_collator
        trainer.data_collator = list

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimizer step; targets that are sampled on the way are collated here.

        The data loader is a batch ahead of the training: what it collates may be sampled only after the next step.
        """
        found, tokens = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.targets is None:
            self.tell(found)
            return found, tokens
        batches = [self._collate([self.targets[row["number"]] for row in rows]) for rows in found]
        for name, value in self.targets.take_metrics().items():
            self._metrics["train"][name].append(value)
        self.tell(batches)
        return batches, self._get_num_items_in_batch(batches, device)


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
    stage: StagePlan,
    own: Sequence[Sample],
    policy: Any,
    processor: Any,
    checkpoints: Path,
    peft_config: Any = None,
    *,
    out: StageDir | None = None,
    pool: RolloutPool | None = None,
) -> StageSFTTrainer:
    """A trainer over the stage's samples, supervising what `stage.method.data` says.

    Args:
        own: the stage's own samples.
        policy: the model at the stage's start; with `peft_config`, or already with an adapter, only that is trained.
        out, pool: the stage's folder, and engines, for sampled completions.
    """
    arguments = sft_arguments(stage, checkpoints)
    assert stage.method.type == "sft"
    data = stage_data(stage, own, arguments.world_size)
    rows = sft_rows(data.samples, stage.prompt, stage.method.target_style)
    gold = stage.method.data.type == "gold"
    numbered = NumberedRows(rows, data.order)
    trainer = StageSFTTrainer(
        model=policy,
        args=arguments,
        train_dataset=as_dataset(rows, data.order) if gold else as_dataset(numbered, range(len(numbered))),
        processing_class=processor,
        data_collator=AnswerCollator(ModelInputs(processor, policy)),
        peft_config=peft_config,
    )
    trainer.weigh(objectives_of(stage))
    if not gold:
        assert out is not None
        trainer.imitate(target_rows(stage, own, data, rows, out=out, pool=pool, trainer=trainer))
    return trainer
