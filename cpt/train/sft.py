"""Supervised fine-tuning of one stage with TRL's SFTTrainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trl import SFTConfig, SFTTrainer

from cpt.methods.plugin import Batch
from cpt.models.inputs import ModelInputs
from cpt.train.data import as_dataset, sft_rows, stage_data
from cpt.train.hidden import caught_outputs
from cpt.train.hooks import StageTrainer
from cpt.train.output_layer import from_outputs
from cpt.train.settings import config, shared_arguments
from cpt.train.supervised import AnswerCollator
from cpt.train.targets import NumberedRows, TargetRows, target_rows
from cpt.train.weighting import SourceWeights

if TYPE_CHECKING:
    import torch

    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.store.folder import StageDir
    from cpt.train.plugin_terms import PluginTerms
    from cpt.train.weighting import Objectives
    from cpt.types import Sample

_NO_MODEL_INPUT = {"labels", "use_cache", "output_router_logits"}


class StageSFTTrainer(StageTrainer, SFTTrainer):
    """TRL's trainer with plug-ins, weights of tasks, and targets that are sampled on the way.

    Args:
        collate: rows to a batch.
        targets: makes the rows to train on, in place of those of `NumberedRows` with the same numbers, of the trainer
            whose policy may have to sample them; None for the rows of the data set.
    """

    def __init__(
        self,
        *,
        collate: Callable[[list[dict[str, Any]]], dict[str, Any]],
        targets: Callable[[Any], TargetRows] | None = None,
        **arguments: Any,
    ) -> None:
        objectives: Objectives | None = arguments.get("objectives")
        self.weights = None if objectives is None else SourceWeights(objectives)
        self._collate = collate if self.weights is None else self.weights.collator(collate)
        # The data loader is a batch ahead of the training: what it would collate may be sampled only after this step.
        super().__init__(data_collator=self._collate if targets is None else list, **arguments)
        self.targets = None if targets is None else targets(self)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Any]:
        """The batches of one optimizer step. Overridden because nobody else is told of all of them before it is made:
        targets that are sampled on the way are collated here, and the weights of tasks follow from all losses."""
        if self.targets is not None:
            rows = self.targets
            epoch_iterator = (self._collate([rows[one["number"]] for one in some]) for some in epoch_iterator)
        batches, tokens = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.targets is not None:
            self.record(self.targets.take_metrics())
        if self.weights is not None:
            self.weights.tell(self.model, batches, self.state.global_step)
        return batches, tokens

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """TRL's loss, with what weights of tasks and plug-ins add."""
        source, policy, labels = inputs.pop("source", None), self.accelerator.unwrap_model(model), inputs["labels"]
        weighing: AbstractContextManager[list[Any]] = nullcontext([])
        if self.weights is not None:
            weighing = caught_outputs(model)
        with self.plugins.catching(policy) as hidden, weighing as outputs:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
        if self.weights is not None:
            tokens = kwargs.get("num_items_in_batch")
            loss = loss + self.weights.more(from_outputs(outputs[0], labels), source, tokens, self.state.global_step)
        if not self.plugins:
            return loss
        with self.phases.measure("plugins"):
            batch = Batch({key: inputs[key] for key in inputs.keys() - _NO_MODEL_INPUT}, labels)
            terms = self.plugins.term(model, policy, batch, hidden, self.accelerator.autocast)
            return loss + terms / self.current_gradient_accumulation_steps


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
    plugins: PluginTerms | None = None,
    objectives: Objectives | None = None,
) -> StageSFTTrainer:
    """A trainer over the stage's samples, supervising what `stage.method.data` says.

    Args:
        own: the stage's own samples.
        policy: the model at the stage's start; with `peft_config`, or already with an adapter, only that is trained.
        out, pool: the stage's folder, and engines, for sampled completions.
        plugins, objectives: of the stage.
    """
    arguments = sft_arguments(stage, checkpoints)
    assert stage.method.type == "sft"
    data = stage_data(stage, own, arguments.world_size)
    rows = sft_rows(data.samples, stage.prompt, stage.method.target_style)
    numbered = NumberedRows(rows, data.order)

    def targets(trainer: Any) -> TargetRows:
        assert out is not None
        return target_rows(stage, own, data, rows, out=out, pool=pool, trainer=trainer)

    # transformers asks the model whether its loss is told of the tokens in the whole optimizer step; the Qwen-VL
    # families say no. But TRL computes the loss itself, and does know. Otherwise every micro-batch would weigh the
    # same, however few tokens it has, and gradient accumulation would change the objective.
    policy.accepts_loss_kwargs = True
    gold = stage.method.data.type == "gold"
    return StageSFTTrainer(
        collate=AnswerCollator(ModelInputs(processor, policy)),
        targets=None if gold else targets,
        plugins=plugins,
        objectives=objectives,
        model=policy,
        args=arguments,
        train_dataset=as_dataset(rows, data.order) if gold else as_dataset(numbered, range(len(numbered))),
        processing_class=processor,
        peft_config=peft_config,
    )
