"""What each reward is attacked with: questions of its kind, and the limits that its docstring admits.

A new reward gets a line in `PLANS`. One that has none, such as a user's own function, is tried on the questions `word`,
`count` and `none`. The words of a known limit have to stand in the docstring of the reward, or of one that its
`Limits:` name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rewards.lab.attacks import Example
from rewards.lab.audit import Plan


def _read_examples() -> dict[str, Example]:
    """The questions of audit_examples.json, whose keys are `Example`'s; `like` adds spellings to an earlier one's."""
    examples: dict[str, Example] = {}
    for name, row in json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8")).items():
        if "like" in row:
            like = examples[row["like"]]
            examples[name] = replace(like, same={**like.same, **row["same"]})
        else:
            fields: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}
            examples[name] = Example(**fields)
    return examples


EXAMPLES: Mapping[str, Example] = _read_examples()
"""By name. `decorated` and `worked-out` have spellings that rewards of ours read; a user's own need not."""


def _plan(examples: str, known: Mapping[str, str] = {}, shapes: tuple[str, ...] = ()) -> Plan:
    """A plan by its examples' names."""
    return Plan(tuple(EXAMPLES[name] for name in examples.split()), known, shapes)


_MENTIONED = "a candidate counts wherever it is mentioned alone"
_EXACT = dict.fromkeys(("more exact", "repeated"), _MENTIONED)
_NFKC = "superscripts and other compatibility forms count as the plain ones (NFKC)"
_AGREEMENT = "Partial agreement earns partial credit"
_EDITS = "Look-alikes of another alphabet"
_ANYTHING = "nearly any text earns something (partial credit)"
_SHARED = "shared words earn something whatever they mean (partial credit)"
_BOXES: Mapping[str, str] = {
    "whole image": "the whole image as the box earns the gold box's share of it",
    "shifted": "partial credit",
}
_BESIDE = ("several answers", "several tagged answers", "denial", "extremely long")
_LISTS = "containment pays for lists"
_ITEMS = "one right item among wrong ones, or several answers at once, earns something"

PLANS: Mapping[str, Plan] = {
    "exact": _plan("decorated worked-out", _EXACT),
    "normalised": _plan("decorated worked-out", {**_EXACT, "superscript": _NFKC}),
    "equality": _plan("plain-word", {**_EXACT, "full stop": "With read=tolerant, none of these is"}),
    "yes-no": _plan("yes no"),
    "unanswerable": _plan("unanswerable answerable"),
    "choice": _plan("letter option-text option-number"),
    "number": _plan("length seven thousand share money duration planck"),
    "maths": _plan(
        "half polynomial root sum two planck",
        {"unevaluated": "an unevaluated expression pays (5+7 for 12)"},
    ),
    "vqa": _plan(
        "annotators counted",
        {"said by one": _AGREEMENT, "said by two": _AGREEMENT, "sign": "minus signs are lost"},
    ),
    "vizwiz": _plan("blurred annotators", dict.fromkeys(("said by one", "said by two", "said by three"), _AGREEMENT)),
    "anls": _plan(
        "phrase",
        {
            "look-alikes": _EDITS,
            **dict.fromkeys(("another colour", "shared word"), "partial credit is the point of it"),
        },
    ),
    "edit": _plan(
        "phrase",
        {
            "look-alikes": _EDITS,
            **dict.fromkeys(("another colour", "shared word", "first word", "injected verdict"), _ANYTHING),
        },
    ),
    "rouge-l": _plan(
        "phrase",
        dict.fromkeys(("another colour", "shared word", "first word", "injected verdict", "extremely long"), _SHARED),
    ),
    "token-f1": _plan("phrase", dict.fromkeys(("another colour", "extremely long"), _SHARED)),
    "code-edit": _plan(
        "code-line",
        dict.fromkeys(
            (
                *("several answers", "several tagged answers", "denial", "declined", "look-alikes"),
                *("injected verdict", "placeholder", "another name", "another case", "first word"),
            ),
            _ANYTHING,
        ),
    ),
    "iou": _plan("box", _BOXES),
    "iou-threshold": _plan("box"),
    "set": _plan(
        "set",
        dict.fromkeys(
            ("one of two", "one twice", "one too many", "several answers", "several tagged answers", "extremely long"),
            _ITEMS,
        ),
    ),
    "ordered-list": _plan(
        "list",
        dict.fromkeys(
            ("one missing", "reversed", "every order", "several answers", "several tagged answers", "extremely long"),
            "partial credit",
        ),
    ),
    "relaxed": _plan("chart chart-word"),
    "loose-text": _plan("painting", dict.fromkeys(_BESIDE, _LISTS)),
    "last-number": _plan("last-of-all", dict.fromkeys(_BESIDE, "whatever stands before the last number costs nothing")),
    "first-letter": _plan(
        "letter-first", dict.fromkeys((*_BESIDE, "part of a word"), "what stands behind it costs nothing")
    ),
    "first-label": _plan("stance", dict.fromkeys(_BESIDE, "what stands behind the first label costs nothing")),
    "contains": _plan("contained", dict.fromkeys((*_BESIDE, "every option", "longer word"), _LISTS)),
    "list-share": _plan(
        "states",
        dict.fromkeys((*_BESIDE, "every option", "everything", "one of two"), "items that are wrong cost nothing"),
    ),
    "cider": _plan(
        "caption",
        dict.fromkeys(
            (*_BESIDE[:3], "another colour", "shared word", "injected verdict"),
            "shared words earn something whatever they mean",
        ),
    ),
    "bleu": _plan("caption", dict.fromkeys((*_BESIDE, "another colour"), "shared runs of words earn something")),
    "sari": _plan(
        "simplified",
        {
            **dict.fromkeys((*_BESIDE, "another word"), "one that has others beside the right ones hardly loses"),
            **dict.fromkeys(("look-alikes", "injected verdict", "placeholder"), "has deleted well"),
            **dict.fromkeys(("question repeated", "unchanged"), "the unchanged source earns what is to be kept"),
        },
    ),
    "mmmu": _plan("option-last open-answer", dict.fromkeys(_BESIDE, _LISTS)),
    "mmlu-pro": _plan("option-last", dict.fromkeys(_BESIDE, "of several letters one counts, whatever is said of it")),
    "pope": _plan(
        "pope-no pope-yes",
        {
            **dict.fromkeys((*_BESIDE, "declined"), '"no" among other words'),
            **dict.fromkeys(
                ("look-alikes", "injected verdict", "placeholder", "anything"), 'everything that is no "no" is a yes'
            ),
        },
    ),
    "mme": _plan(
        "mme-yes",
        dict.fromkeys((*_BESIDE, "both", "taken back"), "what stands behind the first four characters costs nothing"),
    ),
    "ifeval": _plan(
        "instructions",
        dict.fromkeys(
            (*_BESIDE, "question repeated", "declined", "look-alikes", "injected verdict", "placeholder"),
            "a text of the right shape earns all",
        ),
    ),
    "format": _plan("word"),
    "length": _plan("word", shapes=("long", "cut off", "empty")),
    "cosine-length": _plan(
        "word",
        {"long and wrong": "a long wrong answer earns 0.83, by design"},
        shapes=("long", "cut off", "empty", "long and wrong"),
    ),
    "repetition": _plan("word", shapes=("repetition", "empty")),
    "truncation": _plan("word", shapes=("cut off", "empty")),
    "accuracy": _plan("decorated worked-out", _EXACT),
    "accuracy-format": _plan("decorated worked-out", _EXACT),
    "recap-reasoning": _plan("decorated worked-out", _EXACT),
    "recap-grounding": _plan("box", _BOXES),
}
UNKNOWN = _plan("word count none")
