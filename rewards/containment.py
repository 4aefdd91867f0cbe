"""Whether gold stands somewhere in the answer: the containment scores of released streams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from rewards.extract import Extraction, Read, Template, read_text
from rewards.match import accepted, bad_gold, unrewarded
from rewards.registry import reward
from rewards.score import Score

Bounds = Literal["none", "one", "both"]

_DECLINED = "unanswerable"


@reward(
    "contains",
    source="the released scoring of MLLM-CL and UCIT (github.com/Ghy0501/MCITlib) and CoIN (github.com/zackschen/CoIN)",
    formula="1 if a gold answer stands in the answer, else 0",
)
def contains(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    bounds: Bounds = "none",
    either: bool = False,
    without: str = "",
    **_: object,
) -> Score:
    """Whether the answer has a gold one in it, in any case. An answer that says "unanswerable" has none but that.

    `bounds` is where: `none`, anywhere, also within a word (medicine); `both`, as whole words; `one`, as released for
    remote sensing and driving: several words anywhere, and so one word if the answer is a single word, else one word
    behind a space or before a space, a full stop or a comma (so "redness of skin" does not have red, but "a redness"
    has). `either` takes an answer that stands in gold as well (CoIN's ImageNet). `without` are characters that are left
    out on both sides: " \\n." for visual perception. CoIN's script minds the case.

    Limits: containment pays for lists: the gold answer among any others (several answers, several tagged answers in
    one, every option, the question repeated, a denial, an extremely long text) earns all of it, and without `bounds` so
    does a longer word. With `either` a single letter of gold is right. As a reward it is gamed at once: use `exact` or
    `choice` there.
    """
    answers = [plain for answer in accepted(gold) if (plain := _plain(answer, without))]
    if not answers:
        return bad_gold("the row has no gold answer")
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    text = _plain(said.raw, without)
    if not text:
        return unrewarded(Extraction("", "no_answer"), "match")
    if _DECLINED in text:
        answers = [answer for answer in answers if _DECLINED in answer]
    value = float(any(_stands_in(answer, text, bounds) or (either and text in answer) for answer in answers))
    return Score(value, {"match": value}, said.answer)


def _plain(text: str, without: str) -> str:
    return text.lower().translate(dict.fromkeys(map(ord, without))).strip()


def _stands_in(gold: str, text: str, bounds: Bounds) -> bool:
    if bounds == "both":
        return re.search(rf"(?<!\w){re.escape(gold)}(?!\w)", text) is not None
    if bounds == "none" or " " in gold or " " not in text.strip():
        return gold in text
    word = gold.replace(".", "")
    return any(bounded in text for bounded in (f" {word}", f"{word} ", f"{word}.", f"{word},"))


@reward(
    "list-share",
    source="MLLM-CL, arXiv 2506.05453, released scoring of MapQA's questions (github.com/Ghy0501/MCITlib)",
    formula="items of gold that are in the answer's list / items of gold; for other questions 1 if gold is contained",
)
def list_share(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    asks: str = "Which states",
    **_: object,
) -> Score:
    """The share of gold's list that the answer's list has, where the question asks for a list; else containment.

    A question asks for a list if it has the words of `asks` ("" for all of them). Items stand between commas, in any
    case; spaces around them do not count (in the released script "Iowa, Ohio" and "Iowa,Ohio" share one item). Best
    over the gold answers.

    Limits: items that are wrong cost nothing: a list of all states earns everything (several answers, several tagged
    answers in one, every option, everything), and one right item its share (one of two). For other questions it is
    containment: the gold answer among any others (the question repeated, a denial, an extremely long text) earns all of
    it. As a reward use `set`, which counts wrong items.
    """
    answers = [plain for answer in accepted(gold) if (plain := _plain(answer, ""))]
    if not answers or not all(map(_items, answers)):
        return bad_gold(f"every gold answer has to have an item, not {list(gold)!r}")
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "share")
    text = _plain(said.raw, "")
    if asks.lower() in question.lower():
        items = set(_items(text))
        value = max(sum(item in items for item in _items(answer)) / len(_items(answer)) for answer in answers)
    else:
        value = float(any(answer in text for answer in answers))
    return Score(value, {"share": value}, said.answer)


def _items(text: str) -> list[str]:
    return [item for part in text.split(",") if (item := " ".join(part.split()))]
