"""How far engines and trainer are apart."""

from __future__ import annotations

from collections.abc import Sequence


def logprob_gap(engine: Sequence[Sequence[float]], trainer: Sequence[Sequence[float]]) -> float:
    """Largest |engine − trainer| log-probability over all tokens of all completions, in nats; 0 without tokens.

    On the same weights only rounding may tell them apart: more means that engine and trainer hold different weights or
    see different prompts, and that policy gradients are off-policy without knowing it.

    Args:
        engine: per completion, the log-probability of each of its tokens as the engine reported it.
        trainer: the same by the trainer's forward pass.
    """
    gap = 0.0
    for ours, theirs in zip(engine, trainer, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            if not abs(a - b) <= gap:  # also for nan
                gap = abs(a - b)
    return gap
