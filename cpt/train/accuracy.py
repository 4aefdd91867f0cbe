"""How accurate a policy's own rollouts are by the task's scoring, whatever reward it is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpt.tasks import get_task
from cpt.tasks.metric import scale_of
from cpt.types import PromptStyle, Sample, Task


def strictly_right(sample: Sample, text: str, prompt: PromptStyle) -> bool:
    """Strict scoring's verdict on one completion, whatever its reward was."""
    task = get_task(sample.task)
    return _is_right(task, task.score(sample, text, prompt).parts)


def _is_right(task: Task, parts: Mapping[str, float]) -> bool:
    return parts["strict"] >= scale_of(task).right_from


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
        `true/strict` and `true/tolerant`, mean scores; `length/right` and `length/wrong`, mean tokens of the
        completions that strict scoring counts as right and of the others, absent where there are none.
    """
    tasks = [get_task(sample.task) for sample in samples]
    asked = zip(tasks, samples, texts, strict=True)
    scores = [task.score(sample, text, prompt).parts for task, sample, text in asked]
    found = {f"true/{name}": _mean([parts[name] for parts in scores]) for name in ("strict", "tolerant")}
    if tokens is not None:
        right = map(_is_right, tasks, scores)
        scored = list(zip(right, tokens, strict=True))
        for name, wanted in (("right", True), ("wrong", False)):
            lengths = [n for is_right, n in scored if is_right is wanted]
            if lengths:
                found[f"length/{name}"] = _mean(lengths)
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
