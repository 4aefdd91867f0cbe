"""A policy in training: a model in memory, and the kind of tuning that says what of it is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.models.tuning.kind import Tuning
from cpt.models.tuning.parts import check_parts

if TYPE_CHECKING:
    import torch
    from torch import nn

KEPT = "adapter"
"""Folder beside a stage's policy: what a tuning that is not merged between stages goes on with."""


@dataclass(frozen=True)
class Policy:
    """What a stage trains.

    Attributes:
        tuning, model: see `cpt.models.tuning.kind.Tuning`.
        peft_config: see `cpt.models.tuning.kind.Attached`; with it the trainer's model is another one than `model`.
    """

    tuning: Tuning
    model: Any
    peft_config: Any = None

    @classmethod
    def load(
        cls,
        tuning: Tuning,
        load: Callable[[Path], Any],
        start: Path,
        base: Path | None = None,
        freeze: Sequence[str] = (),
    ) -> Policy:
        """The policy at a stage's start, ready to be trained.

        Args:
            load: the plain model in a folder, in the precision of `tuning.weights_dtype`.
            start: folder of the policy that the stage starts from.
            base: the base model's folder or Hub id; None where that is the start.
            freeze: parts of the model that are not trained.

        Raises:
            ValueError: a folder is damaged, the model lacks what `tuning` or `freeze` asks for, or nothing is left to
                train.
        """
        kept = None if base is None or tuning.merged_between_stages else start.parent / KEPT
        if kept is not None and not kept.is_dir():
            raise ValueError(f"{kept} is missing, which the stage goes on with; train the stage before it again")
        model = load(start if kept is None or base is None else base)
        check_parts(model, freeze)
        return cls(tuning, *tuning.attach(model, freeze, kept))

    def trained_by(self, trainer: Any) -> Policy:
        """The policy as it is in its trainer, which may have put adapters into the model."""
        return replace(self, model=trainer.accelerator.unwrap_model(trainer.model), peft_config=None)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """For rollout engines; see `cpt.models.tuning.kind.Tuning.tensors`."""
        return self.tuning.tensors(self.model)

    def finish(self, folder: Path) -> Any:
        """The plain model at a stage's end, made in place, for `cpt.models.export.save_policy` to write to `folder`.

        What the next stage goes on with is left beside the folder.
        """
        if not self.tuning.merged_between_stages:
            self.tuning.keep(self.model, folder.parent / KEPT)
        return self.tuning.plain(self.model)


def trainable(model: Any) -> dict[str, nn.Parameter]:
    """What is trained of a model, by its names in memory."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def inner(model: Any) -> Any:
    """The transformers model in what PEFT has wrapped around it, adapters in place."""
    return model.get_base_model() if hasattr(model, "peft_config") else model
