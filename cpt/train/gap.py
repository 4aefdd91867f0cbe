"""Whether bfloat16 explains what engine and trainer disagree by in a step's rollouts (see `cpt.models.precision`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpt.models.precision import MOST, excess, in_float32, logit_noise
from cpt.train.objective import rollout_batch

_ROWS, _TOKENS = 2, 64  # that the noise is measured on, of a batch and of each completion


def check_rounding(trainer: Any, output: Mapping[str, Any], noise: float) -> float:
    """Compare a step's rollouts as a whole.

    Args:
        trainer: TRL's, with the policy that the rollouts came from.
        output: its rollouts, with the log-probabilities of both.
        noise: as measured before; it is measured again before the verdict, for the weights have moved since.

    Returns:
        The noise that explains the difference.

    Raises:
        ValueError: none does.
    """
    there = output["completion_mask"].bool()
    logps = output["old_per_token_logps"][there]
    difference = logps - output["sampling_per_token_logps"][there]
    if excess(difference, logps, noise) <= MOST:
        return noise
    noise = _noise(trainer, output)
    found = excess(difference, logps, noise)
    if not found <= MOST:
        raise ValueError(
            f"step {trainer.state.global_step + 1}: log-probabilities of engine and trainer differ by {found:.1f} "
            f"times what bfloat16 explains (up to {float(difference.abs().max()):.3g} nats per token), more than "
            f"{MOST:g}; they hold different weights or see different prompts. If the precision explains it, "
            "rollout.max_logprob_gap sets another bound"
        )
    return noise


def _noise(trainer: Any, output: Mapping[str, Any]) -> float:
    import torch

    cut = ("completion_ids", "completion_mask")
    few = {name: output[name][:_ROWS] for name in ("prompt_ids", "prompt_mask", "pictures", *cut)}
    few |= {name: few[name][:, :_TOKENS] for name in cut}
    batch, width = rollout_batch(few), few["completion_ids"].shape[1]
    model = trainer.accelerator.unwrap_model(trainer.model)
    with torch.no_grad():
        with trainer.accelerator.autocast():
            rounded = model(**batch.inputs, logits_to_keep=width + 1).logits[:, :-1]
        with in_float32(model):
            exact = model(**batch.inputs, logits_to_keep=width + 1).logits[:, :-1]
    predicting = few["completion_mask"].bool()
    return logit_noise(rounded[predicting], exact[predicting])
