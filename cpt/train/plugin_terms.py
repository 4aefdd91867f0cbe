"""Plug-ins in a trainer: their terms in the loss, their penalties and their hands on the gradients.

One mixin for SFT and reinforcement learning. Scaling, so that four micro-batches of a quarter give the update of one
whole batch: a `term` is a mean over the rows of a micro-batch and is divided by the number of micro-batches; a
`penalty` is asked for and differentiated once per optimizer step, after its last backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.plugin import Batch, Plugin
from cpt.train.hidden import caught_hidden, logits_of
from cpt.train.plugin_state import load_states, save_states

if TYPE_CHECKING:
    import torch

    # The mixin stands before one of TRL's trainers in a class's bases.
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

_NO_MODEL_INPUT = {"labels", "use_cache", "output_router_logits"}


class PluginMixin(_Trainer):
    """Calls `plugins`, by name, at the points of a step and with every checkpoint. Without any, nothing is done."""

    plugins: Mapping[str, Plugin] = {}  # set once by `attach`, before training
    paying: frozenset[str] = frozenset()

    def attach(self, plugins: Mapping[str, Plugin], paying: frozenset[str] = frozenset()) -> None:
        """Take these plug-ins along. ValueError where parameters are in shards, which penalties can't read.

        Args:
            paying: names of those that change the reward.
        """
        if plugins and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError("regularisers and SDFT need whole parameters: run without FSDP and DeepSpeed")
        self.plugins, self.paying = plugins, paying
        if plugins:
            self.add_callback(_step_callback(self))

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        """See `Trainer.training_step`; after the last micro-batch of an optimizer step come penalties and gradients."""
        loss = super().training_step(*args, **kwargs)
        if self.plugins and self.accelerator.sync_gradients:
            with self.phases.measure("plugins"):
                self._finish_gradients()
        return loss

    def _finish_gradients(self) -> None:
        penalties = [penalty for plugin in self.plugins.values() if (penalty := plugin.penalty()) is not None]
        if penalties:
            total: Any = sum(penalties)
            total.backward()
        for name, plugin in self.plugins.items():
            plugin.after_backward()
            for key, value in plugin.metrics().items():
                self._metrics["train"][f"plugin/{name}/{key}"].append(value)

    def _caught(self, model: Any) -> AbstractContextManager[list[torch.Tensor]]:
        """See `caught_hidden`; nothing is caught where nobody could ask for it."""
        return caught_hidden(self.accelerator.unwrap_model(model)) if self.plugins else nullcontext([])

    def _terms(self, model: Any, batch: Batch, hidden: Sequence[torch.Tensor]) -> Any:
        """Sum of the plug-ins' terms, scaled for gradient accumulation.

        Args:
            hidden: the policy's hidden states of this batch; empty where its own forward pass could not be used.
        """
        policy = self.accelerator.unwrap_model(model)
        if hidden:
            logits = partial(logits_of, policy, hidden, batch.predicting, self.accelerator.autocast)
            batch = replace(batch, shared={model: cache(logits)})
        with self.phases.measure("plugins"):
            terms = [term for plugin in self.plugins.values() if (term := plugin.term(model, batch)) is not None]
            return sum(terms) / self.current_gradient_accumulation_steps

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Plug-ins write beside the optimizer: before trainer_state.json, which says that a checkpoint is whole.

        `TrainerCallback.on_save` would be too late: it comes after that file.
        """
        super()._save_optimizer_and_scheduler(output_dir)
        if self.plugins and self.args.should_save:
            save_states(self.plugins, Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Plug-ins go on with the optimizer, when the policy's weights are there."""
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            load_states(self.plugins, Path(checkpoint))


def _step_callback(trainer: PluginMixin) -> Any:
    from transformers import TrainerCallback

    class AfterStep(TrainerCallback):
        """The optimizer has no hook of its own in the trainer."""

        def on_optimizer_step(self, *_: Any, **__: Any) -> None:
            """Weights are new."""
            with trainer.phases.measure("plugins"):
                for plugin in trainer.plugins.values():
                    plugin.after_step()

    return AfterStep()


class SupervisedPlugins(PluginMixin):
    """For SFTTrainer, whose loss is a sum over the tokens of the whole optimizer step."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The trainer's loss and the plug-ins' terms."""
        if not self.plugins or not model.training:
            return super().compute_loss(model, inputs, *args, **kwargs)
        with self._caught(model) as hidden:
            loss = super().compute_loss(model, inputs, *args, **kwargs)
        kept = {key: value for key, value in inputs.items() if key not in _NO_MODEL_INPUT}
        return loss + self._terms(model, Batch(kept, inputs["labels"]), hidden)


class PolicyPlugins(PluginMixin):
    """For GRPOTrainer, which scales its own loss and takes what this returns as it is.

    Attributes:
        hidden: of the forward pass that the next loss takes over from the rollouts' scoring; empty if it runs its own.
    """

    hidden: Sequence[torch.Tensor] = ()

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        if not self.plugins:
            return super()._compute_loss(model, inputs)
        with self._caught(model) as caught:
            loss = super()._compute_loss(model, inputs)
        hidden, self.hidden = caught or self.hidden, ()
        return loss + self._terms(model, rollout_batch(inputs), hidden)

    def _added_reward(self, output: Mapping[str, Any]) -> torch.Tensor | None:
        """What the plug-ins add to the rewards of this process's rollouts [N]; None where none does.

        The rollouts go through the plug-ins' references in micro-batches, cut as TRL cuts them for the loss.
        """
        import torch
        from trl.trainer.utils import split_tensor_dict

        if not self.paying:
            return None
        parts = split_tensor_dict(dict(output), self.args.steps_per_generation)
        with self.phases.measure("plugins"):
            return torch.cat([self._added_to(part) for part in parts])

    def _deviation(self) -> float | None:
        """Of the plug-in that has one; recipes refuse two."""
        found = [self.plugins[name].deviation(self._rewards_N) for name in sorted(self.paying)]
        return next((one for one in found if one is not None), None)

    def _added_to(self, rollouts: Mapping[str, Any]) -> torch.Tensor:
        batch = replace(rollout_batch(rollouts), shared={})
        logps, mask = rollouts["old_per_token_logps"], rollouts["completion_mask"]
        total: torch.Tensor = logps.new_zeros(len(logps))
        for name in sorted(self.paying):
            added = self.plugins[name].reward(batch, logps, mask)
            total = total if added is None else total + added
        return total


def rollout_batch(inputs: Mapping[str, Any]) -> Batch:
    """Prompts (padded on the left) and completions (on the right) of TRL's policy trainers as one batch.

    Args:
        inputs: TRL's, with the `pictures` of each row (`cpt.train.pictures`).
    """
    rows = inputs.get("pictures") or ()
    vision = rows[0].made_by.vision(rows, inputs["prompt_ids"].device) if rows else {}
    own = _after_prompts(inputs, vision)
    if "teacher_prompt_ids" not in inputs:
        return own
    return replace(own, teacher=_after_prompts(inputs, vision, "teacher_"))


def _after_prompts(inputs: Mapping[str, Any], vision: Mapping[str, Any], whose: str = "") -> Batch:
    """The completions after one kind of prompts. What belongs to the pictures is the same for all."""
    import torch

    prompt_ids, prompt_mask = inputs[f"{whose}prompt_ids"], inputs[f"{whose}prompt_mask"]
    ids = torch.cat([prompt_ids, inputs["completion_ids"]], dim=1)
    mask = torch.cat([prompt_mask, inputs["completion_mask"]], dim=1)
    completion = inputs["completion_mask"].bool()
    said = torch.where(completion, inputs["completion_ids"], -100)
    labels = torch.cat([torch.full_like(prompt_ids, -100), said], dim=1)
    rows = inputs.get("pictures")
    if not rows:
        return Batch({"input_ids": ids, "attention_mask": mask}, labels)
    after = torch.arange(ids.shape[1], device=ids.device).ge(prompt_ids.shape[1]).expand(ids.shape)
    return Batch(rows[0].made_by.batch(ids, mask, vision, after), labels)
