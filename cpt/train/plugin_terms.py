"""What plug-ins add to a training step: terms of the loss, penalties, rewards, and changes of the gradients.

The same for SFT and reinforcement learning. Scaling, so that four micro-batches of a quarter give the update of one
whole batch: a `term` is a mean over the rows of a micro-batch and is divided by the number of micro-batches; a
`penalty` is asked for and differentiated once per optimizer step, after its last backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from cpt.methods.plugin import Batch, Plugin
from cpt.train.batch import PolicyBatch
from cpt.train.hidden import caught_hidden, logits_of
from cpt.train.scoring import as_model_inputs

if TYPE_CHECKING:
    import torch


class PluginTerms:
    """The plug-ins of a stage, by name, in the order in which each of their points is called.

    Args:
        rewarding: names of those that change the reward.
    """

    def __init__(self, plugins: Mapping[str, Plugin], rewarding: frozenset[str] = frozenset()) -> None:
        self.plugins = plugins
        self._rewarding = [plugins[name] for name in sorted(rewarding)]

    def __bool__(self) -> bool:
        return bool(self.plugins)

    def catching(self, policy: Any) -> AbstractContextManager[list[torch.Tensor]]:
        """See `caught_hidden`; nothing is caught where nobody could ask for it."""
        return caught_hidden(policy) if self.plugins else nullcontext([])

    def term(
        self, model: Any, policy: Any, batch: Batch, hidden: Sequence[torch.Tensor], autocast: Callable[[], Any]
    ) -> Any:
        """Sum of the terms of the loss, before it is divided by the number of micro-batches.

        Args:
            model: what plug-ins are given; `policy` is the same without wrappers.
            hidden: its hidden states of this batch; empty where its own forward pass could not be used.
        """
        if hidden:
            logits = partial(logits_of, policy, hidden, batch.predicting, autocast)
            batch = replace(batch, shared={model: cache(logits)})
        return sum(term for plugin in self.plugins.values() if (term := plugin.term(model, batch)) is not None)

    @property
    def change_rewards(self) -> bool:
        """Whether one of them does."""
        return bool(self._rewarding)

    def added_reward(self, rollouts: PolicyBatch) -> torch.Tensor:
        """What they add to the rewards of these rows, [B]; see `Plugin.reward`."""
        logps, mask = rollouts.old_logps, rollouts.completion_mask
        assert logps is not None, "the policy that sampled has not been asked for log-probabilities"
        batch = replace(as_model_inputs(rollouts), shared={})
        total = logps.new_zeros(len(logps))
        for plugin in self._rewarding:
            added = plugin.reward(batch, logps, mask)
            total = total if added is None else total + added
        return total

    def deviation(self, rewards: torch.Tensor) -> float | None:
        """Of the plug-in that says what advantages are divided by; recipes refuse two. None if none does."""
        found = [plugin.deviation(rewards) for plugin in self._rewarding]
        return next((one for one in found if one is not None), None)

    def after_backward(self) -> dict[str, float]:
        """Penalties and gradients of an optimizer step; returns what the plug-ins tell of it."""
        penalties = [penalty for plugin in self.plugins.values() if (penalty := plugin.penalty()) is not None]
        if penalties:
            total: Any = sum(penalties)
            total.backward()
        found: dict[str, float] = {}
        for name, plugin in self.plugins.items():
            plugin.after_backward()
            found |= {f"plugin/{name}/{key}": value for key, value in plugin.metrics().items()}
        return found

    def after_step(self) -> None:
        """Weights are new."""
        for plugin in self.plugins.values():
            plugin.after_step()
