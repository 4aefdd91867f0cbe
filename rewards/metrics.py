"""Which rewards are metrics of an evaluation, and what each needs of a row: asked before anything starts.

Every reward for answers is a metric, under its own name: evaluation calls it with read=strict and with read=tolerant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from rewards.ifeval import KWARGS
from rewards.match import accepted
from rewards.registry import Entry, get, make, names, nearest

SIZE = "the picture's width and height"
DOCUMENT_FREQUENCIES = "document frequencies"
"""Needs that no column meets."""

Row = Mapping[str, Any]
"""The keywords that a reward is called with (`rewards.registry.COLUMNS`)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: the reward's.
        about: one line.
        needs: what a row has to have beside a gold answer, in a user's words; empty for most.
        gold_is_full: whether a gold answer scores 1. Not so where gold is a consensus (VQA), where the other references
            count too (CIDEr, SARI), or where a short text can't have all of it (BLEU, CIDEr).
        columns: of a row that go into `meta` as they stand, under their names.
    """

    name: str
    about: str
    needs: tuple[str, ...] = ()
    gold_is_full: bool = True
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Need:
    """What a row may lack: whether it does, with these parameters of the metric, and what to do about it."""

    what: str
    remedy: str
    lacks: Callable[[Row, Mapping[str, Any]], bool]


_CHOICES = _Need(
    "choices",
    "name their column under data.columns.choices",
    lambda row, _: not row.get("choices") and not all(map(_is_letter, accepted(row["gold"]))),
)
_LABELS = _Need(
    "labels",
    "set labels under metric_options, or name their column under data.columns.choices",
    lambda row, parameters: not (parameters.get("labels") or row.get("choices") or row.get("candidates")),
)
_SIZE = _Need(
    SIZE,
    "its coordinates are measured on the picture, so every row needs one",
    lambda row, parameters: parameters.get("coordinates", "same") != "same" and not _meta(row, "width", "height"),
)
_FREQUENCIES = _Need(
    DOCUMENT_FREQUENCIES,
    "hand in those of all rows' answers (rewards.captions.document_frequencies)",
    lambda row, _: not _meta(row, "document_frequencies"),
)
_SOURCE = _Need(
    "the text to be simplified",
    "name its column under data.columns.question",
    lambda row, _: not (row.get("question") or _meta(row, "source")),
)
_KWARGS = _Need(
    "instructions' arguments",
    f"their column has to be called {KWARGS}, one for each of the instructions that data.columns.answer names",
    lambda row, _: not _meta(row, KWARGS),
)
_NEEDS: Mapping[str, _Need] = {
    **dict.fromkeys(("choice", "mmlu-pro"), _CHOICES),
    **dict.fromkeys(("iou", "iou-threshold"), _SIZE),
    "first-label": _LABELS,
    "cider": _FREQUENCIES,
    "sari": _SOURCE,
    "ifeval": _KWARGS,
}
_COLUMNS: Mapping[str, tuple[str, ...]] = {"ifeval": (KWARGS,)}
_GOLD_BELOW_1 = frozenset(("vqa", "vizwiz", "cider", "bleu", "sari", "ifeval"))


def metric_names() -> list[str]:
    """Every metric's name, in the registry's order."""
    return [name for name in names() if _is_metric(get(name))]


@cache
def metric(name: str) -> Metric:
    """The metric of this name.

    Raises:
        ValueError: there is none; the nearest name is told, or that the reward of this name is no metric.
    """
    if name not in names():
        raise ValueError(f"there is no metric called {name!r}{nearest(name, metric_names())}")
    if not _is_metric(get(name)):
        told = f"reward {name} is no metric, it does not say whether an answer is right"
        raise ValueError(told + nearest(name, metric_names()))
    need = _NEEDS.get(name)
    needs, columns = (need.what,) if need else (), _COLUMNS.get(name, ())
    return Metric(name, get(name).summary, needs, name not in _GOLD_BELOW_1, columns)


def misfit(name: str, row: Row, **parameters: Any) -> str:
    """Why a metric can't score a row, in one line; empty if it can.

    What is missing comes first ("metric choice needs choices: name their column under data.columns.choices"), then what
    is wrong with the gold answers, as the metric itself says it.

    Args:
        row: of one sample, as evaluation gives it to the metric.
        parameters: of the metric.

    Raises:
        ValueError: there is no such metric or parameter, or a parameter has a value that it can't have.
    """
    known, reward = metric(name), make(name, **parameters)
    if not any(one is not None and str(one).strip() for one in row.get("gold") or ()):
        return f"metric {known.name} needs an answer: name the column under data.columns.answer"
    need = _NEEDS.get(name)
    if need and need.lacks(row, parameters):
        return f"metric {known.name} needs {need.what}: {need.remedy}"
    # Gold answers that a metric can't use make it fail, whatever the completion.
    score = reward("no answer", **row)
    return f"metric {known.name}: {score.detail}" if score.failed else ""


def _is_metric(entry: Entry) -> bool:
    return entry.family == "answer"


def _is_letter(text: str) -> bool:
    text = text.strip()
    return len(text) == 1 and text.isalpha()


def _meta(row: Row, *keys: str) -> bool:
    """Whether the row's meta has all of these."""
    meta = row.get("meta") or {}
    return all(meta.get(key) for key in keys)
