"""Whether the whole completion has the format that was asked for."""

from __future__ import annotations

import re
from typing import Literal, get_args

from rewards.extract import Extraction, Template, normalise, read_answer
from rewards.registry import reward
from rewards.score import Score

FormatTemplate = Literal[
    "direct", "think", "think_boxed", "boxed", "plain", "think_plain", "answer", "think_answer", "no_think"
]
"""The formats a prompt can ask for, `answer` and `think_answer` as plainer names of two of them, and `no_think`."""

_ASKED_FOR: dict[str, Template] = {name: name for name in get_args(Template)}
_ASKED_FOR |= {"answer": "direct", "think_answer": "think"}
_ANY_TAG = re.compile(r"</?(?:think|answer)>|\\boxed", re.IGNORECASE)


@reward(
    "format",
    source="arXiv 2507.05386 (format term)",
    formula="1 if the whole completion has the template, else 0",
    family="format",
)
def format_(completion: str, *, template: FormatTemplate = "direct", **_: object) -> Score:
    """Whether the whole completion is in the asked-for format, with an answer that is not empty.

    `answer` (`direct`): `<answer> x </answer>`. `boxed`: `\\boxed{x}`. `think_answer` (`think`), `think_boxed` and
    `think_plain`: a `<think> … </think>` before that, or before a bare answer. `no_think` (`plain`): a bare answer
    without any of these tags. Tags are balanced, in this order, and never inside one another; white space may stand
    around and between, nothing else. The same rule as the
    reading `strict`, so the two never disagree.

    Limits: it never looks at what is said: a format with a wrong answer, or with reasoning that is empty or nonsense,
    earns all of it. Weigh it low, or gate it.
    """
    if template == "no_think":
        read = _bare(completion)
    else:
        if template not in _ASKED_FOR:
            raise ValueError(f"template {template!r} is not known; known: {', '.join(get_args(FormatTemplate))}")
        read = read_answer(completion, "strict", _ASKED_FOR[template])
    if read.status == "ok" and not any(sign.isprintable() and not sign.isspace() for sign in read.answer):
        read = Extraction("", "no_answer")  # zero-width characters are no answer
    return Score(float(read.status == "ok"), {}, read.answer, read.status)


def _bare(completion: str) -> Extraction:
    if _ANY_TAG.search(completion):
        return Extraction("", "malformed")
    answer = normalise(completion)
    return Extraction(answer, "ok" if answer else "no_answer", completion.strip())
