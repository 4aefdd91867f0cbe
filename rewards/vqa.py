"""Consensus with human annotators: VQA accuracy for TextVQA and VizWiz."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rewards.extract import Read, Template, read_answer
from rewards.match import accepted, bad_gold, unrewarded, words_of
from rewards.prose import words
from rewards.registry import reward
from rewards.remember import remembered
from rewards.score import Score
from rewards.unanswerable import UNANSWERABLE, as_unanswerable

ENOUGH = 3
"""As many other annotators have to agree with an answer for full credit."""

_LONGEST_WORDING = 100
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = {
    "none": "0",
    **{word: str(number) for number, word in enumerate(words("zero one two three four five six seven eight nine ten"))},
}
_CONTRACTIONS = words(
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd "
    "he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't "
    "must've needn't not've o'clock oughtn't shan't she'd've she's should've shouldn't shouldn't've somebody'd've "
    "somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've "
    "weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll "
    "why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've"
)
_MARK = re.compile(r"""[][;/"{}()=+\\_\-><@`,?!]""")
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")


def _without_apostrophes(word: str) -> set[str]:
    """The word without its apostrophes, and without each of them."""
    return {word.replace("'", ""), *(word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'")}


_APOSTROPHES = {bare: word for word in _CONTRACTIONS for bare in _without_apostrophes(word)}


@remembered()
def vqa_normalise(text: str) -> str:
    """The official VQA normalisation, on any text.

    1. Line breaks and tabs are spaces; none at the ends.
    2. Each mark of ; / [ ] " { } ( ) = + \\ _ - > < @ ` , ? ! is left out if a space touches one of its kind anywhere
       in the text, or if a comma stands between two digits there; otherwise it becomes a space.
    3. Full stops go unless a digit follows.
    4. Lower case; none and zero to ten as digits; a, an, the left out; contractions get their apostrophes ("dont" is
       "don't"); single spaces.

    A curly apostrophe counts as a straight one, which the official code's own list can't decide on. Articles stay where
    there is nothing else: the official code makes the answer "a" (a letter on a sign) an empty text, equal to "the".
    Other differences: there "somebody'd" loses its apostrophe, "couldntve" and "shes" stay as they are, and only the
    first 32 full stops go. Its spellings of 'ow's'at are unknown here.
    """
    text = text.replace("\n", " ").replace("\t", " ").replace("’", "'").strip()
    if marks := set(_MARK.findall(text)):
        comma = _COMMA_IN_NUMBER.search(text) is not None
        gone = {ord(mark): "" if comma or f"{mark} " in text or f" {mark}" in text else " " for mark in marks}
        text = text.translate(gone)
    if "." in text:
        text = _FULL_STOP.sub("", text)
    said = [_NUMBERS.get(word, word) for word in text.lower().split()]
    said = [word for word in said if word not in _ARTICLES] or said
    return " ".join([_APOSTROPHES.get(word, word) for word in said])


def consensus(answer: str, gold: Sequence[str]) -> float:
    """VQA accuracy of one answer: min(matches / 3, 1), averaged over the annotators left out one at a time.

    Args:
        answer: normalised.
        gold: the annotators' answers, normalised. Fewer than four can't give three matches in every subset of the
            others; they are taken as accepted answers, any of which is worth 1.

    Returns:
        In [0, 1]; with ten annotators 0, 0.3, 0.6, 0.9 and 1 for 0, 1, 2, 3 and more matches.
    """
    n, matches = len(gold), sum(answer == other for other in gold)
    if not answer or not matches:
        return 0.0
    if n <= ENOUGH:
        return 1.0
    one_left_out, another_left_out = min((matches - 1) / ENOUGH, 1.0), min(matches / ENOUGH, 1.0)
    return (matches * one_left_out + (n - matches) * another_left_out) / n


@reward(
    "vqa",
    source="arXiv 1505.00468 and the official evaluation code of VQA; TextVQA, arXiv 1904.08920",
    formula="mean over annotators left out of min(matches among the others / 3, 1)",
)
def vqa(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """VQA accuracy: how many of the annotators gave this answer, three counting as all. Gold is all their answers.

    Answer and gold go through `vqa_normalise`, after Markdown and quotes (`rewards.decoration.unwrapped`); words around
    the answer count, as in the official code ("It is blue" is not "blue"). Gold may be the annotators' rows of the data
    set, {"answer": …}. One to three gold answers are accepted answers, each worth 1.

    Limits: the official code leaves gold answers as they are when the annotators all agree, and never takes articles
    and number words from gold; here both sides are always treated alike. TextVQA's code also drops commas and question
    marks without leaving a space and splits "'s" off. "2-3" and "2 3", "red/blue" and "red blue" are the same, and
    minus signs are lost ("-5" is "5"): that is the official rule (processPunctuation of vqaEval.py). Partial agreement
    earns partial credit.
    """
    answers = [vqa_normalise(g) for g in accepted(gold)]
    if not any(answers):
        return bad_gold("the row has no gold answer")
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, "consensus")
    answer = vqa_normalise(words_of(said, read))
    value = consensus(answer, answers)
    return Score(value, {"consensus": value}, answer)


@reward(
    "vizwiz",
    source="arXiv 1802.08218 and the official evaluation code of VizWiz (that of VQA)",
    formula="VQA accuracy, where all wordings of unanswerable are one answer",
)
def vizwiz(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    wordings: bool = True,
    **_: object,
) -> Score:
    """VQA accuracy in which "can't tell", "unsuitable image" and the like are "unanswerable", said or in gold.

    `wordings=False` gives the official number, where only the word itself counts. Parts: `consensus`, and
    `answerability`, 1 if answer and most annotators agree on whether there is an answer (half is not most).

    Limits: those of `vqa`, and of the wordings that `unanswerable` knows. "unanswerable" to everything earns the
    data's share of such questions, about a third in VizWiz: watch `answerability`. Partial agreement earns partial
    credit.
    """
    answers = [_vizwiz_normalise(g, wordings) for g in accepted(gold)]
    if not any(answers):
        return bad_gold("the row has no gold answer")
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, "consensus", "answerability")
    answer = _vizwiz_normalise(words_of(said, read), wordings)
    value = consensus(answer, answers)
    no_answer = 2 * answers.count(UNANSWERABLE) > len(answers)
    agrees = float((answer == UNANSWERABLE) == no_answer)
    return Score(value, {"consensus": value, "answerability": agrees}, answer)


@remembered()
def _vizwiz_normalise(text: str, wordings: bool) -> str:
    worded = wordings and len(text) <= _LONGEST_WORDING and as_unanswerable(text) == UNANSWERABLE
    return UNANSWERABLE if worded else vqa_normalise(text)
