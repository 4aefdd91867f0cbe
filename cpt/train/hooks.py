"""What the trainers of all methods have in common: a stopwatch, plug-ins, and checkpoints that can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from cpt.common.files import disk_may_be_full
from cpt.rollout.timing import Phases
from cpt.train.plugin_state import load_states, save_states
from cpt.train.plugin_terms import PluginTerms
from cpt.train.resume import Origin, drop_older, load_trained, save_trained, seal_checkpoint
from cpt.train.weighting import Objectives

if TYPE_CHECKING:
    # The class stands before one of TRL's trainers in a class's bases.
    from transformers import Trainer as _Trainer

    from cpt.methods.plugin import Plugin
else:
    _Trainer = object


class StageTrainer(_Trainer):
    """One of transformers' trainers for one stage. Put it before TRL's in a class's bases.

    Args:
        plugins: what the stage's plug-ins do in a step.
        objectives: whose weights move while it trains; None without.

    Attributes:
        phases: seconds of a step: forward_backward, plugins, optimizer and whatever is measured inside of these.
    """

    def __init__(
        self, *, plugins: PluginTerms | None = None, objectives: Objectives | None = None, **arguments: Any
    ) -> None:
        self.phases, self.plugins, self.objectives = Phases(), plugins or PluginTerms({}), objectives
        super().__init__(**arguments)
        if self.accelerator.num_processes > 1 or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise ValueError("a stage is trained by one process: run without FSDP, DeepSpeed and accelerate launch")
        self.add_callback(AfterStep(self.phases, self.plugins))

    def record(self, metrics: Mapping[str, Any]) -> None:
        """Numbers of this step, logged with TRL's own: floats, or scalar tensors, which are read all at once."""
        pending = {name: value for name, value in metrics.items() if isinstance(value, torch.Tensor)}
        read = torch.stack(list(pending.values())).tolist() if pending else []
        for name, value in {**metrics, **dict(zip(pending, read, strict=True))}.items():
            self._metrics["train"][name].append(value)

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """See `Trainer.training_step`. It has no callback between the last backward pass and the clipping of gradients,
        which is where plug-ins change them."""
        with self.phases.measure("forward_backward"):
            loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:
            if self.plugins:
                with self.phases.measure("plugins"):
                    self.record(self.plugins.after_backward())
            self.phases.begin("optimizer")
        if self.objectives is not None:
            self.record(self.objectives.take_metrics())
        return loss

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """For a checkpoint only what is trained, whatever the kind of tuning: the rest is as the stage found it."""
        assert output_dir is not None
        save_trained(self.accelerator.unwrap_model(self.model), Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """What `save_model` wrote.

        transformers would hand the file's tensors to `load_state_dict(strict=False)`, where a name that the model does
        not have is no more than a warning.
        """
        load_trained(
            self.accelerator.unwrap_model(self.model if model is None else model), Path(resume_from_checkpoint)
        )

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint is for this machine, and the stage's own files say what was trained."""


class AfterStep(TrainerCallback):
    """The end of what `StageTrainer.training_step` begins."""

    def __init__(self, phases: Phases, plugins: PluginTerms) -> None:
        self.phases, self.plugins = phases, plugins

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Loading and resuming belong to no step."""
        self.phases.take()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        """Weights are new."""
        self.phases.end()
        if self.plugins:
            with self.phases.measure("plugins"):
                self.plugins.after_step()


class Checkpoints(TrainerCallback):
    """Completes every checkpoint with the plug-ins' state and its list of digests, and only then drops older ones.

    Args:
        most: checkpoints that are kept.
        resumed: the checkpoint that training goes on from. Plug-ins read it when the policy has its weights again.
    """

    def __init__(self, origin: Origin, plugins: Mapping[str, Plugin], most: int, resumed: Path | None) -> None:
        self.origin, self.plugins, self.most, self.resumed = origin, plugins, most, resumed

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Weights and optimizer have been loaded."""
        if self.resumed is not None:
            load_states(self.plugins, self.resumed)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """transformers has written its part."""
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        with disk_may_be_full(checkpoint):
            if self.plugins:
                save_states(self.plugins, checkpoint)
            seal_checkpoint(checkpoint, state.global_step, self.origin)
        drop_older(checkpoint.parent, self.most)
