"""Composite rewards of published work, under their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewards.answers import exact
from rewards.boxes import iou
from rewards.extract import Read, Template
from rewards.format import format_
from rewards.match import ACCURACY_WEIGHT, FORMAT_WEIGHT
from rewards.maths import maths
from rewards.registry import reward
from rewards.score import Score, Status

Equality = Literal["exact", "maths"]


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


@reward(
    "accuracy-format",
    source="arXiv 2507.05386 and its released code",
    formula="0.9 · accuracy + 0.1 · format",
    family="composite",
)
def accuracy_format(
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
    """The reward of arXiv 2507.05386: a right answer, and a little for the format that was asked for.

    The built-in tasks' own reward. As released, for prompts that ask for a boxed answer: `read: boxed` and `equality:
    maths`, so that a right answer counts in a broken format too.

    Limits: those of `accuracy`; and a wrong answer in the right format earns 0.1.
    """
    right = accuracy(
        completion, gold=gold, template=template, candidates=candidates, question=question, read=read,
        equality=equality, limit=limit,
    )  # fmt: skip
    shape = format_(completion, template=template)
    weights = {"accuracy": ACCURACY_WEIGHT, "format": FORMAT_WEIGHT}
    return _weighted({"accuracy": right, "format": shape}, weights)


@reward(
    "recap-reasoning",
    source="arXiv 2510.21978, table 3: ThinkLite-VL, GeoQA-V, SAT, ScienceQA",
    formula="(accuracy + format)/2",
    family="composite",
)
def recap_reasoning(
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
    """RECAP's objectives of a reasoning domain, accuracy and thinking format, with the equal weights it starts from.

    The paper's prompt asks these domains for `<think> </think> <answer> </answer>`: `prompt: think`. RECAP's own
    reweighting is a method over steps, not part of a reward. How its accuracy term compares answers is not in the
    paper; `equality` is ours.

    Limits: those of `accuracy`; and a wrong answer in the right format earns 0.5.
    """
    right = accuracy(
        completion, gold=gold, template=template, candidates=candidates, question=question, read=read,
        equality=equality, limit=limit,
    )  # fmt: skip
    shape = format_(completion, template=template)
    return _weighted({"accuracy": right, "format": shape}, {"accuracy": 0.5, "format": 0.5})


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
    shape = format_(completion, template=template)
    return _weighted({"iou": overlap, "format": shape}, {"iou": 0.5, "format": 0.5})


def _weighted(scores: Mapping[str, Score], weights: Mapping[str, float]) -> Score:
    """The weighted sum of parts of which the first is the answer's; it fails if one fails."""
    for score in scores.values():
        if score.failed:
            return score
    answer, *_ = scores.values()
    value = sum(weights[name] * score.value for name, score in scores.items())
    statuses: list[Status] = [score.status for score in scores.values() if score.status != "ok"]
    parts = {name: score.value for name, score in scores.items()}
    return Score(min(value, 1.0), parts, answer.extracted, statuses[0] if statuses else "ok")
