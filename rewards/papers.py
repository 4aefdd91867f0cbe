"""Composite rewards of published work, under their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from rewards.answers import exact
from rewards.boxes import iou
from rewards.extract import Read, Template
from rewards.format import format_
from rewards.maths import maths
from rewards.registry import reward
from rewards.score import Score, Status

Equality = Literal["exact", "maths"]
_F = TypeVar("_F", bound=Callable[..., Score])


@reward("accuracy", source="arXiv 2507.05386 (accuracy term)", formula="exact, or maths with equality: maths")
def accuracy(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    equality: Equality = "exact",
    limit: float = 5.0,
    **_: object,
) -> Score:
    """Whether the answer is right: the accuracy term of composites.

    `equality`: `exact` compares text, `maths` as the reward of that name does, with `limit` seconds for an answer. The
    paper's variant without reasoning grades the whole output: `read: whole`, and no format term.

    Limits: those of `exact`, or of `maths`.
    """
    columns: dict[str, Any] = {"gold": gold, "template": template, "candidates": candidates, "question": question}
    if equality == "maths":
        return maths(completion, read=read, limit=limit, **columns)
    return exact(completion, read=read, **columns)


def _with_the_keywords_of(model: Callable[..., Score]) -> Callable[[_F], _F]:
    """What the registry sees of a reward that hands its row on: the keywords of the one that it hands it to."""

    def declare(function: _F) -> _F:
        function.__annotations__ = model.__annotations__
        setattr(function, "__signature__", inspect.signature(model))  # noqa: B010  mypy knows no such attribute
        return function

    return declare


@reward(
    "accuracy-format",
    source="arXiv 2507.05386 and its released code",
    formula="0.9 · accuracy + 0.1 · format",
    family="composite",
)
@_with_the_keywords_of(accuracy)
def accuracy_format(completion: str, **row: Any) -> Score:
    """The central paper's reward: a right answer, and a little for the asked-for format.

    The built-in tasks' own reward. As released, for prompts that ask for a boxed answer: `read: boxed` and `equality:
    maths`, so that a right answer counts in a broken format too.

    Limits: those of `accuracy`; and a wrong answer in the right format earns 0.1.
    """
    return _weighted(accuracy=(0.9, accuracy(completion, **row)), format=(0.1, format_(completion, **row)))


@reward(
    "recap-reasoning",
    source="arXiv 2510.21978, table 3: ThinkLite-VL, GeoQA-V, SAT, ScienceQA",
    formula="(accuracy + format)/2",
    family="composite",
)
@_with_the_keywords_of(accuracy)
def recap_reasoning(completion: str, **row: Any) -> Score:
    """RECAP's objectives of a reasoning domain, accuracy and thinking format, with the equal weights it starts from.

    The paper's prompt asks these domains for `<think> </think> <answer> </answer>`: `prompt: think`. RECAP's own
    reweighting is a method over steps, not part of a reward. How its accuracy term compares answers is not in the
    paper; `equality` is ours.

    Limits: those of `accuracy`; and a wrong answer in the right format earns 0.5.
    """
    return _weighted(accuracy=(0.5, accuracy(completion, **row)), format=(0.5, format_(completion, **row)))


@reward(
    "recap-grounding",
    source="arXiv 2510.21978, table 3: RefCOCO (answer format), LISA (thinking format)",
    formula="(IoU + format)/2",
    family="composite",
)
def recap_grounding(
    completion: str,
    *,
    gold: Sequence[str],
    meta: Mapping[str, Any] | None = None,
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """RECAP's objectives of a referring domain, IoU and format, with the equal weights it starts from.

    The format is what the prompt asks for: the paper has RefCOCO answered directly in `<answer> </answer>` and LISA
    with thinking. Whether its IoU term has a threshold is not in the paper; this one is continuous (`iou`).

    Limits: those of `iou`; and a wrong box in the right format earns 0.5.
    """
    overlap = iou(completion, gold=gold, meta=meta, template=template, question=question, read=read)
    return _weighted(iou=(0.5, overlap), format=(0.5, format_(completion, template=template)))


def _weighted(**terms: tuple[float, Score]) -> Score:
    """The sum of weight · score, of which the first is the answer's; it fails if one fails."""
    scores = {name: score for name, (_, score) in terms.items()}
    for score in scores.values():
        if score.failed:
            return score
    answer, *_ = scores.values()
    value = sum(weight * score.value for weight, score in terms.values())
    statuses: list[Status] = [score.status for score in scores.values() if score.status != "ok"]
    parts = {name: score.value for name, score in scores.items()}
    return Score(min(value, 1.0), parts, answer.extracted, statuses[0] if statuses else "ok")
