"""Log-probabilities and entropies of a batch's labels, in place of logits.

From TRL 1.15 on its trainers teach the model's forward pass to project hidden states in tiles, so that logits are never
formed. With older ones they are, and what follows from them is computed here, under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from trl import trainer

from cpt.train.supervised import IGNORED

IN_TILES = hasattr(trainer, "add_fused_lm_head")


@dataclass(frozen=True)
class LabelScores:
    """A model's outputs with labels [B, L]: for each but a row's first, [B, L - 1], and 0 where there is none.

    Attributes:
        log_probs: log-probability of the label.
        entropy: of the distribution that it is from.
        label_mask: bool, where there is a label.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor
    label_mask: torch.Tensor


def label_scores(model: Any, labels: torch.Tensor, temperature: float = 1.0, **given: Any) -> Any:
    """`LabelScores`, or TRL's object with the same attributes, of a forward pass of a model in one of TRL's trainers.

    Args:
        labels: [B, L], -100 where there is none.
        temperature: the trainer's, which logits are divided by; of SFT 1.
        given: the model's other arguments.
    """
    if IN_TILES:
        return model(**given, labels=labels, fused_lm_head=True)
    return from_outputs(model(**given), labels, temperature)


def from_outputs(outputs: Any, labels: torch.Tensor, temperature: float = 1.0) -> Any:
    """The same of outputs that are there already: of `label_scores`, or of TRL's own loss."""
    if getattr(outputs, "log_probs", None) is not None:
        return outputs
    targets, logits = labels[:, 1:], outputs.logits[:, :-1]
    mask = targets != IGNORED
    logps_NV = torch.log_softmax(logits[mask].float() / temperature, dim=-1)  # of the N labels alone
    found = logps_NV.gather(1, targets[mask][:, None])[:, 0], -(logps_NV.exp() * logps_NV).sum(dim=1)
    log_probs, entropy = (one.new_zeros(mask.shape).masked_scatter(mask, one) for one in found)
    return LabelScores(log_probs, entropy, mask)
