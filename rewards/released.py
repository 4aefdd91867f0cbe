"""Scores as released code computes them, where no other reward does: charts, MLLM-CTBench."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from difflib import SequenceMatcher

from rewards.extract import Extraction, Read, Template, read_answer, read_text
from rewards.match import accepted, bad_gold, unrewarded, words_of
from rewards.registry import reward
from rewards.score import Score

HEAD = 30
SIMILAR = 0.6
"""MLLM-CTBench's: so many first characters of gold, or so high a ratio, are enough."""

_NO_GOLD = "the row has no gold answer"
_DECIMAL = re.compile(r"[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][-+]?[0-9]{1,3}+)?")
_DIGITS = re.compile(r"-?[0-9]++\.?[0-9]*+")
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))


@reward(
    "relaxed",
    source="ChartQA, arXiv 2203.10244, end of section 5.1; relaxed_correctness of google-research/pix2struct",
    formula="1 if |x − gold| ≤ relative·|gold|, or for what is no number if the texts are equal, else 0",
)
def relaxed(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    relative: float = 0.05,
    **_: object,
) -> Score:
    """Relaxed accuracy for charts as it is computed everywhere: 5 % for numbers, the exact text for everything else.

    Its quirks are kept. A number is digits alone, with an exponent or "%" behind them: 5% is 0.05, so neither "5" for
    "5%" nor "12%" for "12" is right. "1,000", "$5" and "5 cm" are texts, right for the same text only. So is anything
    where gold is 0. A year is a number: 1950 is right for 2019 (`number` with relative=0.05 reads all of these as a
    person does). Texts are equal in any case. Unlike there, "inf", "nan" and "1_000" are texts. Part: `match`.

    Limits: the quirks above. With read=tolerant, a candidate counts wherever it is mentioned alone ("dark red").
    """
    if not relative >= 0:
        raise ValueError(f"relaxed: relative must not be negative, got {relative}")
    answers = [" ".join(answer.split()) for answer in accepted(gold) if answer.strip()]
    if not answers:
        return bad_gold(_NO_GOLD)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    text = " ".join(words_of(said, read).split())
    value = float(any(_near(text, answer, relative) for answer in answers))
    return Score(value, {"match": value}, said.answer)


def _near(said: str, gold: str, relative: float) -> bool:
    number, wanted = _float(said), _float(gold)
    if number is None or not wanted:
        return said.lower() == gold.lower()
    return abs(number - wanted) / abs(wanted) <= relative


def _float(text: str) -> float | None:
    digits = text.removesuffix("%")
    if not _DECIMAL.fullmatch(digits):
        return None
    return float(digits) / 100 if text != digits else float(digits)


@reward(
    "loose-text",
    source="MLLM-CTBench, arXiv 2508.08275, released scoring of art, OCR, medical and science",
    formula="1 if the answer contains gold or gold's first 30 characters, or is similar to it (ratio ≥ 0.6), else 0",
)
def loose_text(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    head: int = HEAD,
    ratio: float = SIMILAR,
    **_: object,
) -> Score:
    """Whether an answer in free words is about gold's: contains it, or its beginning, or is similar to it.

    Both in lower case, punctuation as spaces, single spaces. The ratio is difflib's SequenceMatcher, 2·M/T, and counts
    for gold answers of more than 8 characters. There are two released versions: the first takes gold's first `head`
    characters wherever they stand, the second (`_common_v2.py`) does not: `head=0`. Parts: `match`, and `ratio`, which
    is 0 where it does not count.

    Limits: containment pays for lists: the gold answer among other words (several answers, several tagged answers in
    one, every option, the question repeated, a denial, an extremely long text) earns all of it, and so does a text that
    shares 60 % of its letters (another colour). Signs are lost. As a reward it is gamed at once: use `exact` or
    `token-f1` there.
    """
    if head < 0 or not 0 < ratio <= 1:
        raise ValueError(f"loose-text: head must not be negative, ratio above 0 and at most 1; got {head} and {ratio}")
    answers = [plain for answer in accepted(gold) if (plain := _plain(answer))]
    if not answers:
        return bad_gold("the row has no gold answer with a letter or a digit")
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "match", "ratio")
    text = _plain(said.raw)
    similar = max(_ratio(answer, text, ratio) for answer in answers)
    contained = any(answer in text or (head and answer[:head] in text) for answer in answers)
    value = float(contained or similar >= ratio)
    return Score(value, {"match": value, "ratio": similar}, said.answer)


def _plain(text: str) -> str:
    return " ".join(text.lower().translate(_PUNCTUATION).split())


def _ratio(gold: str, said: str, least: float) -> float:
    """difflib's ratio; 0 for a short gold answer, and where the lengths alone say that it is below `least`."""
    if len(gold) <= 8 or 2 * min(len(gold), len(said)) < least * (len(gold) + len(said)):
        return 0.0
    return SequenceMatcher(None, gold, said).ratio()


def no_last_number(*, gold: Sequence[str], **_: object) -> str:
    """The problem of a row's gold answers, or ""."""
    answers = accepted(gold)
    missing = [answer for answer in answers if _last_number(answer) is None]
    return f"gold answer {missing[0][:60]!r} holds no number" if missing else "" if answers else _NO_GOLD


@reward(
    "last-number",
    source="MLLM-CTBench, arXiv 2508.08275, released scoring of math and numglue",
    formula="1 if |last number of the answer − last number of gold| < tolerance, else 0",
    check_gold=no_last_number,
)
def last_number(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    tolerance: float = 1e-3,
    **_: object,
) -> Score:
    """Whether the last number that is said is gold's.

    A number is digits with a point and a minus sign; commas are left out first. So "3 of 12" is 12,
    "5-3" is −3, "1e5" is 5, "1/2" is 2, and the list "1, 2" is the number 2.

    Limits: whatever stands before the last number costs nothing (several answers, several tagged answers in one, every
    option, the question repeated, a denial, an extremely long text). Units, percent signs, exponents and the words
    around a number are not understood. As a reward use `number`.
    """
    if not tolerance > 0:
        raise ValueError(f"last-number: tolerance has to be above 0, got {tolerance}")
    if problem := no_last_number(gold=gold):
        return bad_gold(problem)
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    number = _last_number(said.raw)
    if number is None:
        return unrewarded(Extraction("", "no_answer"), "match")
    wanted = [one for answer in accepted(gold) if (one := _last_number(answer)) is not None]
    value = float(any(abs(number - one) < tolerance for one in wanted))
    return Score(value, {"match": value}, f"{number:g}")


def _last_number(text: str) -> float | None:
    found = _DIGITS.findall(text.replace(",", ""))
    return float(found[-1]) if found else None


@reward(
    "first-letter",
    source="TRACE, arXiv 2310.06762, released scoring of ScienceQA",
    formula="1 if the first character of the answer is gold's, else 0",
)
def first_letter(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether an answer that begins with its option's letter ("B", or "B" with the reasons behind it) begins as gold.

    Limits: nothing but the first character counts: what stands behind it costs nothing (several answers, several tagged
    answers in one, every option, part of a word, an extremely long text). As a reward use `choice`.
    """
    first = {answer.strip()[0] for answer in accepted(gold) if answer.strip()}
    if not first:
        return bad_gold(_NO_GOLD)
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    value = float(said.raw[0] in first)
    return Score(value, {"match": value}, said.raw[0])


def no_label(
    *,
    gold: Sequence[str],
    choices: Sequence[str] = (),
    candidates: Sequence[str] = (),
    labels: Sequence[str] = (),
    **_: object,
) -> str:
    """The problem of a row's labels and gold answers, or ""."""
    known, answers = _known(labels, choices, candidates), accepted(gold)
    if not known:
        return "there are no labels: give the parameter labels, or a column of choices"
    missing = [answer for answer in answers if not _first(answer, known)]
    shown = f"gold answer {missing[0][:60]!r} has none of the labels {', '.join(known)}" if missing else ""
    return shown if answers else _NO_GOLD


@reward(
    "first-label",
    source="MLLM-CTBench, arXiv 2508.08275, released scoring of fomc (hawkish, dovish, neutral)",
    formula="1 if the label that comes first in the answer is gold's, else 0",
    check_gold=no_label,
)
def first_label(
    completion: str,
    *,
    gold: Sequence[str],
    choices: Sequence[str] = (),
    candidates: Sequence[str] = (),
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    labels: tuple[str, ...] = (),
    **_: object,
) -> Score:
    """Which of the known labels comes first in the answer, in any case and also within a word (neutral in neutrality).

    The labels are `labels`, else the row's choices, else its candidates. Of two that begin in the same place the longer
    one counts (not relevant before not). Gold is a label, or a text that has one.

    Limits: what stands behind the first label costs nothing (several answers, several tagged answers in one, every
    option, a denial, an extremely long text), and neither does what stands before it ("not hawkish" is hawkish, the
    question repeated answers with its own first label).
    """
    if problem := no_label(gold=gold, choices=choices, candidates=candidates, labels=labels):
        return bad_gold(problem)
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    known = _known(labels, choices, candidates)
    label = _first(said.raw, known)
    if not label:
        return unrewarded(Extraction("", "no_answer"), "match")
    value = float(label in {_first(answer, known) for answer in accepted(gold)})
    return Score(value, {"match": value}, label)


def _known(*columns: Sequence[str]) -> list[str]:
    """The first column that has labels, in lower case."""
    chosen = next(filter(None, columns), ())
    return [label for one in chosen if (label := " ".join(str(one).lower().split()))]


def _first(text: str, labels: Sequence[str]) -> str:
    """The label that comes first; empty if none does."""
    text = " ".join(text.lower().split())
    found = [(at, -len(label), label) for label in labels if (at := text.find(label)) >= 0]
    return min(found)[2] if found else ""
