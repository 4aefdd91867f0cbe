"""Where an algorithm meets a method's training, whatever the method is.

A plug-in is two classes in one file: a `cpt.methods.setting.Setting`, which is what a recipe says and which imports no
torch, and a `Plugin`, which does it in one stage. It may act before the stage, in the loss (`term`: of this batch's
data; `penalty`: of the parameters alone), after the backward pass, after the optimizer's step, and after the stage.
`cpt.train.plugin_terms` calls it in SFT and in reinforcement learning alike; nothing in a plug-in knows which it is.
Two more points are for methods with rollouts alone: `reward`, and `deviation`, which advantages are divided by.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model together.

    Attributes:
        inputs: the model's keyword arguments: ids and mask [B, L], and what belongs to the pictures.
        labels: [B, L], the ids of the completions and -100 elsewhere.
        shared: model → its logits [N, V] at the `predicting` positions, computed when first asked for. In training it
            is there from the start for the policy, whose logits are those of the method's own forward pass; plug-ins
            that ask one model about one batch then share the pass. None: nothing is kept.
        teacher: the same completions after what a teacher is asked instead; None where the method has no teacher.
    """

    inputs: Mapping[str, Any]
    labels: torch.Tensor
    shared: dict[Any, Callable[[], torch.Tensor]] | None = None
    teacher: Batch | None = None

    @property
    def predicting(self) -> torch.Tensor:
        """bool [B, L - 1]: where the next token is one of a completion; N of them."""
        return self.labels[:, 1:] != -100


@dataclass(frozen=True)
class Stage:
    """What a plug-in may know of the stage it is in.

    Attributes:
        index: 1-based position in the sequence; 1 for a stage that starts from the base model.
        seed: of what is random in this stage: another one in every stage and for every seed of a recipe, the same for
            every arm.
        step: optimizer steps done, in a stage that goes on from a checkpoint; 0 otherwise.
        task: whose samples are trained on.
        samples: how many of them there are.
        finished: the tasks of the stages before with their numbers of training samples, in order.
        model: the policy; at its start's weights before the stage, at its end's after it.
        parameters: what is trained, by name. The same objects as the model's.
        memory: folder that belongs to the plug-in alone, in this stage. What it leaves there the next stage finds.
        earlier: the folder it left in the stage before; None in the first stage.
        batches: `batches(samples, rows)` gives the stage's first training samples with their supervised targets in the
            prompt's format, `rows` at a time, the same ones for every method.
        batch_of: chosen rows, as (a task that the stage may train on, or a finished one; sample number), with the
            targets that the method imitates; in the prompt's format where it imitates none.
        reference: the policy at `stage_start`, the `base` model, or the model in a folder; frozen, called like a model.
            Whoever asks for the same one gets the same object.
    """

    index: int
    seed: int
    step: int
    task: str
    samples: int
    finished: tuple[tuple[str, int], ...]
    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    memory: Path
    earlier: Path | None
    batches: Callable[[int, int], Iterable[Batch]]
    batch_of: Callable[[Sequence[tuple[str, int]]], Batch]
    reference: Callable[[str], nn.Module]

    def leave(self, file: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write tensors that the next stage finds by `left`."""
        from safetensors.torch import save_file

        self.memory.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, self.memory / file)

    def left(self, file: str) -> dict[str, torch.Tensor]:
        """What the stage before left, on the parameters' device; nothing in the first stage."""
        from safetensors.torch import load_file

        device = str(next(iter(self.parameters.values())).device)
        return {} if self.earlier is None else load_file(self.earlier / file, device=device)


class Plugin:
    """One algorithm in one stage. Points that it does not override do nothing.

    Plug-ins are called in the recipe's order, but those that hold parameters still come last: a gradient that another
    one changes after them would move what they hold.
    """

    holds_still: ClassVar[bool] = False  # sets gradients to zero in `after_backward`

    def before_stage(self, stage: Stage) -> None:
        """Read what the stage before left, calibrate, freeze, initialise."""

    def term(self, model: nn.Module, batch: Batch) -> torch.Tensor | None:
        """A term of the loss: scalar, a mean over the rows of this micro-batch."""
        return None

    def reward(self, batch: Batch, logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | None:
        """What to add to the rewards of these rollouts, before advantages are taken: [N], detached.

        Called only where `Setting.changes_reward`, once per micro-batch of a generation.

        Args:
            batch: the rollouts, their completions in the last T columns.
            logps: [N, T], log-probabilities of the completions' tokens under the policy that sampled them.
            mask: [N, T], 1 at the tokens of the completions.
        """
        return None

    def deviation(self, rewards_N: torch.Tensor) -> float | None:
        """What advantages are divided by, in place of the method's own scale; None to leave that as it is.

        Asked for once per generation, of plug-ins that change the reward.

        Args:
            rewards_N: all processes' rewards with what was added to them; NaN where there is none.
        """
        return None

    def penalty(self) -> torch.Tensor | None:
        """A term that does not depend on this batch: scalar, asked for once per optimizer step.

        It may run the model on rows of its own (`Stage.batch_of`), the same ones on every process.
        """
        return None

    def after_backward(self) -> None:
        """Look at or change the gradients of a whole optimizer step, before they are clipped."""

    def after_step(self) -> None:
        """Look at the parameters that an optimizer step has just moved."""

    def after_stage(self, stage: Stage) -> None:
        """Prune, store."""

    def save(self, folder: Path) -> None:
        """Write what changes in the course of a stage into a checkpoint's folder, empty and this plug-in's own."""

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint: after `before_stage`, when the policy has the checkpoint's weights again."""

    def metrics(self) -> dict[str, float]:
        """Numbers of the last step, logged as `plugin/<plug-in>/<metric>`."""
        return {}


class Penalty(Plugin, ABC):
    """A plug-in that is a penalty alone, and logs it."""

    last = 0.0

    @abstractmethod
    def value(self) -> torch.Tensor | None:
        """The penalty, its coefficient included; None where there is nothing to penalise."""

    def penalty(self) -> torch.Tensor | None:
        """See `Plugin.penalty`."""
        loss = self.value()
        if loss is not None:
            self.last = float(loss.detach())
        return loss

    def metrics(self) -> dict[str, float]:
        """The penalty at the last step."""
        return {"penalty": self.last}
