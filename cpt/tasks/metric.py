"""What a task's score is called, and from where on a sample counts as right."""

from __future__ import annotations

from dataclasses import dataclass

from cpt.types import RIGHT, Task

UNNAMED = "score"


@dataclass(frozen=True)
class Scale:
    """How a task's scores are to be read.

    Attributes:
        metric: the score's name, such as `exact` or `vqa`.
        right_from: the score from which a sample counts as right: where samples are counted as lost or gained, and in
            pass rates. Means are of the scores themselves.
    """

    metric: str = UNNAMED
    right_from: float = RIGHT


def scale_of(task: Task) -> Scale:
    """What a task says of its scores by its attributes `metric` and `right_from`, both of which it may leave out.

    Raises:
        ValueError: the threshold is not above 0 and at most 1, or the name is no text; the task is named.
    """
    metric, right_from = getattr(task, "metric", UNNAMED), getattr(task, "right_from", RIGHT)
    if isinstance(right_from, bool) or not isinstance(right_from, int | float) or not 0 < right_from <= 1:
        raise ValueError(f"task {task.name}: right_from is {right_from!r}; set a number above 0 and at most 1")
    if not isinstance(metric, str) or not metric:
        raise ValueError(f"task {task.name}: metric is {metric!r}; set the name of its score, such as 'vqa'")
    return Scale(metric, float(right_from))
