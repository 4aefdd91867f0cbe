"""How accurate a policy's own rollouts are by the task's scoring, whatever reward it is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpt.tasks import get_task
from cpt.types import RIGHT, PromptStyle, Sample


def strictly_right(sample: Sample, text: str, prompt: PromptStyle) -> bool:
    """Strict scoring's verdict on one completion, whatever its reward was."""
    return get_task(sample.task).score(sample, text, prompt).parts["strict"] >= RIGHT


def accuracy(
    samples: Sequence[Sample],
    texts: Sequence[str],
    prompt: PromptStyle,
    tokens: Sequence[int] | None = None,
) -> Mapping[str, float]:
    """Means over the completions of one step, to stand beside the reward that the policy saw.

    Args:
        texts: one completion per sample.
        tokens: their lengths; None if not known.

    Returns:
        `true/strict` and `true/tolerant`, shares of right answers; `length/right` and `length/wrong`, mean tokens of
        the completions that strict scoring counts as right and of the others, absent where there are none.
    """
    pairs = zip(samples, texts, strict=True)
    scores = [get_task(sample.task).score(sample, text, prompt).parts for sample, text in pairs]
    found = {f"true/{name}": _mean([parts[name] for parts in scores]) for name in ("strict", "tolerant")}
    if tokens is not None:
        for name, wanted in (("right", True), ("wrong", False)):
            lengths = [n for parts, n in zip(scores, tokens, strict=True) if (parts["strict"] >= RIGHT) is wanted]
            if lengths:
                found[f"length/{name}"] = _mean(lengths)
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
