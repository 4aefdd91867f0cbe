"""What a policy's own rollouts are worth by the task's scoring, whatever reward it is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpt.tasks import get_task
from cpt.tasks.metric import scale_of
from cpt.types import PromptStyle, Sample


def strictly_right(sample: Sample, text: str, prompt: PromptStyle) -> bool:
    """Strict scoring's verdict on one completion, whatever it was paid."""
    task = get_task(sample.task)
    return task.score(sample, text, prompt).parts["strict"] >= scale_of(task).right_from


def truth(
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
        `true/strict` and `true/tolerant`, mean scores; `length/right` and `length/wrong`, mean tokens of the
        completions that strict scoring counts as right and of the others, absent where there are none.
    """
    pairs = zip(samples, texts, strict=True)
    scores = [get_task(sample.task).score(sample, text, prompt).parts for sample, text in pairs]
    found = {f"true/{name}": _mean([parts[name] for parts in scores]) for name in ("strict", "tolerant")}
    if tokens is not None:
        bars = [scale_of(get_task(sample.task)).right_from for sample in samples]
        right = [parts["strict"] >= bar for parts, bar in zip(scores, bars, strict=True)]
        for name, wanted in (("right", True), ("wrong", False)):
            lengths = [n for found_right, n in zip(right, tokens, strict=True) if found_right is wanted]
            if lengths:
                found[f"length/{name}"] = _mean(lengths)
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
