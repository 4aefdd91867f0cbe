"""Several things as one answer: sets and ordered lists, with partial credit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence, Set
from itertools import islice
from typing import Literal

from rapidfuzz.distance import LCSseq

from rewards import prose
from rewards.extract import Extraction, Read, Template, bare, read_answer
from rewards.match import accepted, bad_gold, spelled, unrewarded
from rewards.registry import reward
from rewards.score import Score

MAX_ITEMS = 1_000
"""A longer list is malformed."""

_BETWEEN = re.compile(
    r"[,;\n\t|、，；]|(?<=[^\W\d_])\s+[-–—+*•·]\s+(?=[^\W\d_])|->|=>|→|⇒|⟶|(?<=\s)>(?=\s)|(?<=[^\W\d_])\s?/\s?(?=[^\W\d_])|&|以及|[和与及]"
    r"|(?<=\s)(?:and|then|followed by)(?=\s)",
    re.IGNORECASE,
)
# The comma of 1,000 is none between items, unless the list is 100,200.
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_BULLET = re.compile(r"\A(?:[-*•·]|\(?[0-9]{1,3}[.)])\s|\A[①-⑳]")
_NUMBERED = re.compile(r"(?:\A|(?<=\s))\(?([0-9]{1,3})[.):、]\s*(?![0-9])|([①-⑳])")
_ORDER = re.compile(r"\A(?:and|then|next|finally|lastly|first|firstly)\s+(?=\S)", re.IGNORECASE)
_WRAPPING = "[]{}()<>"
# "The colours are red and blue", "Colours: red, blue", 颜色是红色、蓝色
_LEAD_IN = re.compile(
    r"(?:(?:the|these|those|there|they|it|i|we)(?: [^\W\d_]+){0,5}? (?:are|is|include|includes|has|have|see|contains?)"
    r"|[^\W\d_]+(?: [^\W\d_]+){0,4}(?=:)|[^\W\d_]{0,10}?(?:分别)?(?:是|有|为|包括))(?::\s*|\s+|(?<=[是有为括])):?",
    re.IGNORECASE,
)
_OR = re.compile("或|还是")


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
    """How many of the things named are right, in any order.

    "red, blue and green", one a line, bulleted, numbered, with slashes, arrows or bars between, as a JSON list, after
    "The colours are"; AC is A and C where gold has letters. Each gold answer is such a list; with `one_list` gold is
    one list with an item an entry. Items are compared as `exact` does. An item said twice counts as a wrong one. Parts:
    `f1`, `jaccard`, `precision`, `recall`; the value is F1, the Jaccard index, or with credit=all 1 for the whole set,
    else 0.

    Limits: partial credit: one right item among wrong ones, or several answers at once, earns something. All the
    candidates at once are ambiguous where they are known, and so are denials and the word "or". "and", commas and
    slashes between letters always separate, so "salt and pepper" is two items; the comma of "1,000" does where that is
    nearer to gold. More than 1,000 items are malformed.
    """
    pairs = _items(completion, gold, template, candidates, question, read, one_list)
    if isinstance(pairs, Extraction):
        return unrewarded(pairs, "f1", "jaccard", "precision", "recall")
    if isinstance(pairs, Score):
        return pairs
    said, parts = max(
        ((one, _shares(one, other)) for one in pairs[0] for other in pairs[1]), key=lambda pair: pair[1]["f1"]
    )
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
    pairs = _items(completion, gold, template, candidates, question, read, one_list)
    if isinstance(pairs, Extraction):
        return unrewarded(pairs, "positions", "lcs")
    if isinstance(pairs, Score):
        return pairs
    chosen = "positions" if credit == "all" else credit
    said, parts = max(
        ((one, _order(one, other)) for one in pairs[0] for other in pairs[1]), key=lambda pair: pair[1][chosen]
    )
    value = float(parts["positions"] == 1) if credit == "all" else parts[credit]
    return Score(value, parts, ", ".join(said))


def split_items(text: str) -> list[str]:
    """The items of a list as `exact` compares them: by commas, semicolons, lines, bars, arrows, slashes between
    letters, "and", "then", "&", or the numbers before them; bullets, quotes and the like left out.
    """
    # The text after the last allowed item is one more item, so that `MAX_ITEMS` is exceeded.
    parts = _by_numbers(text) or _BETWEEN.split(text, maxsplit=2 * MAX_ITEMS)
    unbulleted = (_BULLET.sub("", part.strip().strip(_WRAPPING).strip()) for part in parts)
    return [item for part in unbulleted if (item := _item(_ORDER.sub("", part)))]


def readings(text: str) -> list[list[str]]:
    """The lists that a text may be, the plain one first: with its thousands together, and without its lead-in."""
    lead_in = _LEAD_IN.match(text)
    texts = [text, text[lead_in.end() :]] if lead_in else [text]
    found = [split_items(one) for one in dict.fromkeys((*texts, *(_THOUSANDS.sub("", one) for one in texts)))]
    return [one for i, one in enumerate(found) if one and one not in found[:i]]


def _item(text: str) -> str:
    return spelled(bare(text)).replace(",", "") if text[:1].isdigit() else spelled(bare(text))


def _by_numbers(text: str) -> list[str]:
    """The items after the numbers of "1) red 2) blue"; empty if the text is no such list."""
    found = list(islice(_NUMBERED.finditer(text), 2 * MAX_ITEMS))
    numbers = [int(match[1]) if match[1] else ord(match[2]) - ord("①") + 1 for match in found]
    if len(found) < 2 or text[: found[0].start()].strip() or numbers != list(range(1, len(numbers) + 1)):
        return []
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [text[match.end() : end].strip(" \n,;、") for match, end in zip(found, ends, strict=True)]


def _items(
    completion: str,
    gold: Sequence[str],
    template: Template,
    candidates: Sequence[str],
    question: str,
    read: Read,
    one_list: bool,
) -> tuple[list[list[str]], list[list[str]]] | Extraction | Score:
    """The possible items of answer and gold; or the reading without an answer; or the score of an unusable row."""
    answers = accepted(gold)
    lists = [[[_item(g) for g in answers]]] if one_list else [readings(g) for g in answers]
    wanted = [items for one in lists for items in one]
    if not all(lists) or not wanted or not all(map(all, wanted)):
        return bad_gold(f"every gold answer has to be a list of items, not {list(gold)!r}")
    # Several candidates in one text are expected here.
    read_as = read_answer(completion, read, template, (), question)
    if read_as.status != "ok":
        return read_as
    said = readings(read_as.raw)
    if not said:
        return Extraction("", "no_answer")
    if len(said[0]) > MAX_ITEMS:
        return Extraction("", "malformed")
    letters = all(len(item) == 1 and item.isalpha() for one in wanted for item in one)
    if letters and len(said[0]) == 1 and re.fullmatch("[A-Z]{2,8}|[A-Z]( [A-Z]){1,7}", read_as.raw.rstrip(".")):
        said = [[*said[0][0].replace(" ", "")]]
    known = {_item(candidate) for candidate in candidates} - {""}
    everything = len(known) > 1 and _covered(known, said) and not _covered(known, wanted)
    if everything or any(hedge(read_as.answer) and not any(map(hedge, answers)) for hedge in (prose.denies, _offers)):
        return Extraction("", "ambiguous")
    return said, wanted


def _covered(known: Set[str], lists: Sequence[Sequence[str]]) -> bool:
    """Whether one of the lists has all candidates."""
    return any(known <= set(one) for one in lists)


def _offers(text: str) -> bool:
    """Whether the text offers a choice ("or")."""
    return "or" in prose.words(text) or _OR.search(text) is not None


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
    longer = max(len(said), len(wanted))
    in_place = sum(one == other for one, other in zip(said, wanted, strict=False))
    return {"positions": in_place / longer, "lcs": LCSseq.similarity(said, wanted) / longer}
