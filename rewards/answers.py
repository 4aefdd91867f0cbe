"""Answers that are right or wrong: exact and normalised match, yes or no, unanswerable."""

from __future__ import annotations

from collections.abc import Sequence

from rewards import prose
from rewards.arithmetic import solved
from rewards.extract import Extraction, Read, Template, normalise, read_answer
from rewards.match import accepted, bad_gold, canonical, exact_match, unrewarded, words_of
from rewards.registry import reward
from rewards.score import Score
from rewards.unanswerable import UNANSWERABLE, as_unanswerable
from rewards.yes_no import verdict, verdict_of_gold

_NO_GOLD = "the row has no gold answer"


@reward("exact", source="arXiv 2507.05386 (accuracy term)", formula="1 if answer = a gold answer, else 0")
def exact(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether the answer is one of the gold ones, letter for letter, without decoration and lead-ins.

    "**Red**", "“red”", "It is red." and "The answer is red" are red, "5 + 7 = 12" is 12 (`rewards.decoration`). Case,
    white space, edge punctuation, curly apostrophes, full stops behind letters (U.S.A., St. Louis), a space between
    number and unit (3 pm) and Unicode's composed and decomposed forms do not matter.

    Limits: articles, number words, synonyms, accents, superscripts and any sign count as differences: "two" is not "2",
    "naïve" not "naive", "x²" not "x2", "C" not "C#". A minus sign at an edge counts. With read=tolerant, a candidate
    counts wherever it is mentioned alone ("dark red", "red red red" are red); without candidates, an answer inside a
    sentence counts only after words like "the answer is" or in one that states a number or a property ("There are 12.",
    "The colour is red."), so "a red car" is not red.
    """
    answers = accepted(gold)
    if not answers:
        return bad_gold(_NO_GOLD)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    value = exact_match(said.answer, answers)
    return Score(value, {"match": value}, said.answer)


@reward(
    "normalised", source="rewards.match.canonical", formula="1 if canonical(answer) = canonical(a gold answer), else 0"
)
def normalised(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    articles: bool = True,
    **_: object,
) -> Score:
    """Whether the answer is a gold one after normalisation: what `exact` does, NFKC, case, accents, hyphens, articles.

    "ice-cream" is "ice cream", "café" is "cafe", "two" is "2", "3 p.m." is "3pm". `articles` leaves a, an and the out.
    `rewards.match.canonical` states the rule step by step.

    Limits: superscripts and other compatibility forms count as the plain ones (NFKC), so "³" is "3", and accents never
    tell words apart ("resume" and "résumé"); letters of another alphabet that look the same do. An article that is part
    of a name ("The The") is lost. Texts beyond 4,096 characters are compared without NFKC. Synonyms, number words
    beyond ninety-nine and those of other languages count as differences. With read=tolerant, a candidate counts
    wherever it is mentioned alone ("dark red", "red red red" are red).
    """
    answers = accepted(gold)
    if not answers:
        return bad_gold(_NO_GOLD)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    answer = canonical(words_of(said, read), articles)
    right = {canonical(g, articles) for g in answers}
    value = float(bool(answer) and (answer in right or canonical(solved(said.answer), articles) in right))
    return Score(value, {"match": value}, answer)


@reward(
    "equality",
    source="the released scoring of CoIN, UCIT and MLLM-CL (github.com/Ghy0501/MCITlib)",
    formula="1 if the answer = a gold answer in upper case, else 0",
)
def equality(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    without: str = "",
    **_: object,
) -> Score:
    """Whether the answer is a gold one letter for letter but for case: the equality that released scripts compute.

    `without` are characters that are left out on both sides: " ." is MLLM-CL's score for finance. Its script takes them
    out of the answer alone, so that a gold answer with a space is never right there. White space at the ends and what
    `rewards.decoration.unwrapped` takes do not count.

    Limits: a full stop, an article, two spaces and a lead-in ("It is red") are differences. With read=tolerant, none of
    these is, and a candidate counts wherever it is mentioned alone ("dark red", "red red red" are red).
    """
    answers = {compared for answer in accepted(gold) if (compared := _upper(answer, without))}
    if not answers:
        return bad_gold(_NO_GOLD)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    value = float(_upper(words_of(said, read), without) in answers)
    return Score(value, {"match": value}, said.answer)


def _upper(text: str, without: str) -> str:
    return text.upper().translate(dict.fromkeys(map(ord, without))).strip()


@reward(
    "yes-no", source="POPE, arXiv 2305.10355 (the question form)", formula="1 if yes or no is said as in gold, else 0"
)
def yes_no(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether the answer says yes or no as gold does: by its first word, alone or before a sentence.

    Yes is yes, yeah, yep, yup, true, y, "it is" and the like with nothing behind, 是, 对, 有, and other languages'
    words; no is no, nope, nah, false, n, "not really", 不是, 没有, and a sentence that denies ("There is no dog").
    Gold may be any of these, or 1 and 0. A text that says both is ambiguous, wherever the second one stands, and so is
    "Yes, there is no dog"; the "no" of "Yes, but no cat" belongs to the cat. Anything else gives no answer, and so do
    "no idea" and "I can't tell".

    Limits: what follows the first word is hardly understood: "yes, that is wrong" is a yes, "no doubt about it" a no,
    and "There is no cat" a no, whatever was asked. A sentence without yes ("There is a dog") is no answer, and neither
    is "correct". Texts beyond 500 characters are malformed.
    """
    answers = accepted(gold)
    wanted = {verdict_of_gold(g) for g in answers}
    if not wanted or not wanted <= {"yes", "no"}:
        return bad_gold(f"gold has to be yes or no, not {list(gold)!r}")
    said = read_answer(completion, read, template, question=question)
    if said.status != "ok":
        return unrewarded(said, "match")
    if len(said.answer) > prose.MAX_CHARS:
        return unrewarded(Extraction("", "malformed"), "match")
    # 1 and 0 are answers only if gold has them.
    says = verdict_of_gold(said.answer) if said.answer in map(normalise, answers) else verdict(said.raw)
    if says == "both":
        return unrewarded(Extraction("", "ambiguous"), "match")
    if not says:
        return unrewarded(Extraction("", "no_answer"), "match")
    value = float(says in wanted)
    return Score(value, {"match": value}, says)


@reward(
    "unanswerable",
    source="VizWiz, arXiv 1802.08218",
    formula="1 if the answer = a gold answer, where all wordings of unanswerable are one answer, else 0",
)
def unanswerable(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether the answer is a gold one; a gold "unanswerable" is matched by its usual wordings.

    Those are: unanswerable, unsuitable (image), unknown, unclear, not visible, illegible, not sure, no idea, not enough
    information, too blurry (dark, small) to read, and cannot, unable to, impossible to, hard to with answer, tell,
    determine, see, say, know, read or identify, each with "it", "the image", "sorry" and the like around; 看不清,
    无法确定, 不知道. A reason may follow ("unanswerable, it is too dark"), made of such words alone. Any other answer
    has to be a gold one, both without decoration (`rewards.extract.bare`). Parts: `match`, and `answerability`,
    1 if the answer and the gold answers agree on whether there is an answer.

    Limits: another reason ("unanswerable, the ball is behind the wall") is not understood, and a guess beside the
    wording ("not sure, maybe red") is neither. A gold answer that is itself one of the wordings ("unknown") counts as
    unanswerable. English and Chinese only.
    """
    answers = {as_unanswerable(g) for g in accepted(gold)} - {""}
    if not answers:
        return bad_gold(_NO_GOLD)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, "match", "answerability")
    answer = as_unanswerable(said.raw)
    value = float(answer in answers)
    agrees = UNANSWERABLE in answers if answer == UNANSWERABLE else answers != {UNANSWERABLE}
    return Score(value, {"match": value, "answerability": float(agrees)}, answer)
