"""Several things as one answer: sets and ordered lists, with partial credit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from rewards import prose
from rewards.extract import Extraction, Read, Template, normalise, read_answer
from rewards.match import accepted, bad_gold, unpaid
from rewards.registry import reward
from rewards.score import Score

MAX_ITEMS = 1_000
"""A longer list is malformed."""

_BETWEEN = re.compile(r"[,;\n|]|(?<=\s)(?:and|&)(?=\s)", re.IGNORECASE)
_BULLET = re.compile(r"\A(?:[-*•]|[0-9]{1,3}[.)])\s")
_WRAPPING = "[]{}()"


@reward(
    "set", source="SQuAD's F1, arXiv 1606.05250, on items", formula="F1 or Jaccard index of the items, best over gold"
)
def items(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    credit: Literal["f1", "jaccard", "all"] = "f1",
    one_list: bool = False,
    **_: object,
) -> Score:
    """How much the things named have in common with the right ones, in whatever order.

    "red, blue and green", one a line, bulleted or as a JSON list. Each gold answer is such a list; with `one_list` gold
    is one list with an item an entry. Items are compared as `exact` does. An item said twice counts as a wrong
    one. Parts: `f1`, `jaccard`, `precision`, `recall`; the value is F1, the Jaccard index, or with credit=all 1 for the
    whole set, else 0.

    Limits: partial credit: one right item among wrong ones, or several answers at once, earns something. All the
    candidates at once are ambiguous where they are known, and so are denials and the word "or". "and" and commas always
    separate, so "salt and pepper" is two items. More than 1,000 items are malformed.
    """
    judged = _items(completion, gold, template, candidates, question, read, one_list)
    if isinstance(judged, Extraction):
        return unpaid(judged, "f1", "jaccard", "precision", "recall")
    if isinstance(judged, Score):
        return judged
    said, wanted = judged
    parts = max((_shares(said, one) for one in wanted), key=lambda shares: shares["f1"])
    value = float(parts["jaccard"] == 1) if credit == "all" else parts[credit]
    return Score(value, parts, ", ".join(said))


@reward(
    "ordered-list",
    source="positional accuracy; LCS as in Lin 2004, ACL W04-1013",
    formula="items in their place, or longest common subsequence, / longer length; best over gold",
)
def ordered_list(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    credit: Literal["positions", "lcs", "all"] = "positions",
    one_list: bool = False,
    **_: object,
) -> Score:
    """How much of a list is right and in the right order. Lists, `one_list` and items as for `set`.

    Parts: `positions`, the share of items in their place, and `lcs`, the share in the right order even if something is
    missing before them; both by the longer of the two lists. With credit=all the value is 1 for the whole list, else 0.

    Limits: those of `set` (partial credit, several answers). One item missing at the start loses all positions.
    """
    judged = _items(completion, gold, template, candidates, question, read, one_list)
    if isinstance(judged, Extraction):
        return unpaid(judged, "positions", "lcs")
    if isinstance(judged, Score):
        return judged
    said, wanted = judged
    chosen = "positions" if credit == "all" else credit
    parts = max((_order(said, one) for one in wanted), key=lambda shares: shares[chosen])
    value = float(parts["positions"] == 1) if credit == "all" else parts[credit]
    return Score(value, parts, ", ".join(said))


def split_items(text: str) -> list[str]:
    """The normalised items of a list: by commas, semicolons, lines, bars, "and", "&"; bullets and quotes left out."""
    parts = (_BULLET.sub("", part.strip().strip(_WRAPPING).strip()) for part in _BETWEEN.split(text))
    return [item for part in parts if (item := normalise(part))]


def _items(
    completion: str,
    gold: Sequence[str],
    template: Template,
    candidates: Sequence[str],
    question: str,
    read: Read,
    one_list: bool,
) -> tuple[list[str], list[list[str]]] | Extraction | Score:
    """The items said and those of each gold list; or the reading that gave none; or the score of a useless row."""
    answers = accepted(gold)
    wanted = [[normalise(g) for g in answers]] if one_list else [split_items(g) for g in answers]
    if not all(wanted) or not wanted:
        return bad_gold(f"every gold answer has to be a list of items, not {list(gold)!r}")
    # Several candidates in one text are the very thing asked for.
    read_as = read_answer(completion, read, template, (), question)
    if read_as.status != "ok":
        return read_as
    said = split_items(read_as.raw)
    if not said:
        return Extraction("", "no_answer")
    if len(said) > MAX_ITEMS:
        return Extraction("", "malformed")
    known = {normalise(candidate) for candidate in candidates} - {""}
    everything = len(known) > 1 and known <= set(said) and not any(known <= set(one) for one in wanted)
    if everything or any(hedge(read_as.answer) and not any(map(hedge, answers)) for hedge in (prose.denies, _offers)):
        return Extraction("", "ambiguous")
    return said, wanted


def _offers(text: str) -> bool:
    """Whether it leaves a choice."""
    return "or" in prose.words(text)


def _shares(said: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """F1, Jaccard index, precision and recall of two bags of items."""
    one, other = Counter(said), Counter(wanted)
    common, either = (one & other).total(), (one | other).total()
    return {
        "f1": 2 * common / (len(said) + len(wanted)),
        "jaccard": common / either,
        "precision": common / len(said),
        "recall": common / len(wanted),
    }


def _order(said: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    from rapidfuzz.distance import LCSseq

    longer = max(len(said), len(wanted))
    in_place = sum(one == other for one, other in zip(said, wanted, strict=False))
    return {"positions": in_place / longer, "lcs": LCSseq.similarity(said, wanted) / longer}
