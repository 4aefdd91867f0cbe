"""Whether engine and trainer mean the same policy: what their log-probabilities differ by in a step's rollouts.

In float32 a bound on the largest difference is enough. In bfloat16 the differences as a whole must be what rounding
explains (`cpt.models.precision`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from cpt.models.precision import MOST, excess, in_float32, logit_noise
from cpt.rollout.engine import check_gap
from cpt.train.batch import PolicyBatch
from cpt.train.scoring import Autocast, policy_inputs

LARGEST = "sampling/sampling_logp_difference/max"
"""The metric that the bound is on (`cpt.methods.engine_weights`)."""
_ROWS, _TOKENS = 2, 64  # that the noise is measured on, of a batch and of each completion


class GapCheck:
    """Of one stage.

    Args:
        bound: on |engine - trainer|, in nats per token.
        by_rounding: whether they may differ by what bfloat16 explains, and not by more.
    """

    def __init__(self, bound: float, *, by_rounding: bool) -> None:
        self.bound, self.by_rounding = bound, by_rounding
        self.noise = 0.0  # not measured yet

    def largest(self, metrics: Mapping[str, Any], step: int) -> None:
        """Whether the largest difference keeps the bound.

        Args:
            metrics: of `cpt.methods.engine_weights`.
            step: that the rollouts are for.

        Raises:
            ValueError: it does not.
        """
        check_gap(float(metrics[LARGEST]), self.bound, f"step {step}")

    def rounding(self, batch: PolicyBatch, logps_BT: torch.Tensor, model: Any, autocast: Autocast, step: int) -> None:
        """Whether bfloat16 explains the differences as a whole, where that is asked for.

        Args:
            logps_BT: the trainer's.
            model: the policy, without wrappers. What rounding does to it is measured when what was measured before does
                not explain the differences: the weights have moved since.

        Raises:
            ValueError: it does not.
        """
        if not self.by_rounding:
            return
        there = batch.completion_mask.bool()
        logps = logps_BT[there]
        difference = logps - batch.engine_logps[there]
        if excess(difference, logps, self.noise) <= MOST:
            return
        self.noise = measured_noise(batch, model, autocast)
        found = excess(difference, logps, self.noise)
        if not found <= MOST:
            raise ValueError(
                f"step {step}: log-probabilities of engine and trainer differ by {found:.1f} times what bfloat16 "
                f"explains (up to {float(difference.abs().max()):.3g} nats per token), more than {MOST:g}; they hold "
                "different weights or see different prompts. If the precision explains it, rollout.max_logprob_gap "
                "sets another bound"
            )


def measured_noise(batch: PolicyBatch, model: Any, autocast: Autocast) -> float:
    """What rounding does to the model's logits on a few tokens of the batch."""
    first = int(batch.completion_mask.any(dim=1).int().argmax())  # completions may be masked out
    few = batch.rows(slice(first, first + _ROWS))
    few = replace(few, completion_ids=few.completion_ids[:, :_TOKENS], completion_mask=few.completion_mask[:, :_TOKENS])
    inputs, width = policy_inputs(few).inputs, few.completion_ids.shape[1]
    with torch.no_grad():
        with autocast():
            rounded = model(**inputs, logits_to_keep=width + 1).logits[:, :-1]
        with in_float32(model):
            exact = model(**inputs, logits_to_keep=width + 1).logits[:, :-1]
    predicting = few.completion_mask.bool()
    return logit_noise(rounded[predicting], exact[predicting])
