"""General benchmarks with the extraction of their official scripts: MMMU, MMLU-Pro, POPE, MME.

An official script finds an answer in whatever a model writes. Here it looks where the reading says: in the format that
was asked for (strict), or in all that the completion says outside of its reasoning (tolerant). Where a script guesses,
there is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rewards.choice import options_of_gold, without_labels
from rewards.extract import Extraction, Read, Template, read_text
from rewards.match import accepted, bad_gold, unrewarded
from rewards.mmmu import open_answers, open_match, option
from rewards.registry import reward
from rewards.score import Score

_ANSWER_IS = re.compile(r"answer is \(?([A-J])\)?")
_ANSWER = re.compile(r"[aA]nswer:(?=\s*([A-J]))")
_LONE = re.compile(r"\b[A-J]\b")


@reward(
    "mmmu",
    source="MMMU, arXiv 2311.16502, parse_multi_choice_response and parse_open_response of its evaluation",
    formula="1 if the option that is named last, or a phrase or number of an open answer, is a gold one, else 0",
)
def mmmu(
    completion: str,
    *,
    gold: Sequence[str],
    choices: Sequence[str] = (),
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """MMMU's accuracy: an option's letter where the row has choices, else an open answer.

    Options: `rewards.mmmu.option`; gold as for `choice`. Open answers: `rewards.mmmu.open_answers`; a phrase is right
    if gold's text stands in it, a number if it is gold's after rounding to two decimals. MMMU draws an option at random
    where it finds none; here that is no answer, which costs a share of such responses. The script of
    MMMU-Pro, which looks behind "Answer:" first, is another one.

    Limits: containment pays for lists: of several options the last one counts, whatever is said of it (several answers,
    several tagged answers in one, every option, a denial, the question repeated, an extremely long text), and gold
    within a phrase is right (longer word). As a reward use `choice`, `number` or `exact`.
    """
    options = without_labels(tuple(map(str, choices)))
    answers = [answer for answer in accepted(gold) if answer.strip()]
    right = _letters(answers, options)
    if not answers or (options and not right):
        return bad_gold(f"gold has to be an answer, or one of the choices or its letter or index, not {list(gold)!r}")
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "match")
    if options:
        return _of_letter(option(said.raw, options), right)
    value = float(open_match(open_answers(said.raw), answers))
    return Score(value, {"match": value}, said.answer)


def _letters(answers: Sequence[str], options: tuple[str, ...]) -> set[str]:
    """The letters of the options that gold answers stand for."""
    return {chr(ord("A") + index) for answer in answers for index in options_of_gold(answer, options)}


def _of_letter(letter: str, right: set[str]) -> Score:
    if not letter:
        return unrewarded(Extraction("", "no_answer"), "match")
    value = float(letter in right)
    return Score(value, {"match": value}, letter)


@reward(
    "mmlu-pro",
    source="MMLU-Pro, arXiv 2406.01574, extract_answer of evaluate_from_api.py in TIGER-AI-Lab/MMLU-Pro",
    formula="1 if the letter that is read is a gold one, else 0",
)
def mmlu_pro(
    completion: str,
    *,
    gold: Sequence[str],
    choices: Sequence[str] = (),
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """MMLU-Pro's accuracy: the letter A to J of "answer is (C)", else of "Answer: C", else the last lone capital.

    The first "answer is" counts, and of "Answer:" the last one in the first line that has one, in exactly this case.
    A lone capital may be the article A or the pronoun I; the script for local models (evaluate_from_local.py) takes
    even a capital within a word. Both draw an option at random where there is none; here that is no answer. Gold as for
    `choice`.

    Limits: of several letters one counts, whatever is said of it (several answers, several tagged answers in one, every
    option, a denial, the question repeated, an extremely long text). An option's text is not read. As a reward use
    `choice`.
    """
    options = without_labels(tuple(map(str, choices)))
    right = _letters(accepted(gold), options)
    if not right:
        return bad_gold(f"gold has to be a letter, one of the choices or its index, not {list(gold)!r}")
    said = read_text(completion, read, template, question)
    return _of_letter(_letter(said.raw), right) if said.status == "ok" else unrewarded(said, "match")


def _letter(text: str) -> str:
    if stated := _ANSWER_IS.search(text):
        return stated[1]
    labelled = list(_ANSWER.finditer(text))
    if labelled:
        end = text.find("\n", labelled[0].start()) % (len(text) + 1)
        return [one[1] for one in labelled if one.start() < end][-1]
    lone = _LONE.findall(text)
    return lone[-1] if lone else ""


def no_verdict(*, gold: Sequence[str], **_: object) -> str:
    """The problem of a row's gold answers, or ""."""
    return "" if _yes_or_no(gold) else f"gold has to be yes or no, not {list(gold)!r}"


@reward(
    "pope",
    source="POPE, arXiv 2305.10355, evaluate.py of AoiDragon/POPE",
    formula="1 if gold is no and the first sentence has the word no, No or not, or gold is yes and it has none, else 0",
    check_gold=no_verdict,
)
def pope(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """POPE's accuracy. Parts: `match`, and `yes`, whether the answer counts as yes: F1 and the yes ratio need both.

    The first sentence is what stands before a full stop, and a word what stands between spaces; commas do not count.
    "NO" and "No!" are no such words, so they are a yes. An empty answer is a yes in the script and none here.

    Limits: everything that is no "no" is a yes: where gold is yes, several answers, several tagged answers in one,
    every option, the question repeated, an injected verdict, a placeholder, a refusal (declined), nonsense, and an
    extremely long text earn all of it; where gold is no, a denial of anything, and "no" among other words. As a reward
    use `yes-no`.
    """
    wanted = _yes_or_no(gold)
    if not wanted:
        return bad_gold(no_verdict(gold=gold))
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "match", "yes")
    if not any(map(str.isalnum, said.raw)):
        return unrewarded(Extraction("", "no_answer"), "match", "yes")
    words = said.raw.partition(".")[0].replace(",", "").split(" ")
    return _verdict("no" if {"no", "No", "not"}.intersection(words) else "yes", wanted)


@reward(
    "mme",
    source="MME, arXiv 2306.13394, parse_pred_ans of its evaluation tool and of lmms-eval",
    formula="1 if the answer counts as gold does: yes or no, whichever is in its first four characters; else 0",
    check_gold=no_verdict,
)
def mme(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """MME's accuracy, in any case and without full stops. Parts: `match`, and `yes`, whether the answer counts as yes.

    "y" and "n" alone are yes and no. Yes goes first, and "note" is a no, "eyes" a yes; anything else is neither. The
    benchmark's acc+ needs both questions of a picture and is no score of one answer.

    Limits: what stands behind the first four characters costs nothing (several answers, several tagged answers in one,
    every option, taken back, both, an extremely long text), and neither do words that begin like yes or no (part of a
    word, not sure, a denial). As a reward use `yes-no`.
    """
    wanted = _yes_or_no(gold)
    if not wanted:
        return bad_gold(no_verdict(gold=gold))
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "match", "yes")
    text = said.raw.lower().replace(".", "").strip()
    text = {"y": "yes", "n": "no"}.get(text, text)[:4]
    says = next((word for word in ("yes", "no") if word in text), "")
    return _verdict(says, wanted) if says else unrewarded(Extraction("", "no_answer"), "match", "yes")


def _yes_or_no(gold: Sequence[str]) -> set[str]:
    """What gold accepts; empty if there is none or something is neither."""
    answers = {answer.lower().replace(".", "").strip() for answer in accepted(gold)}
    return answers if answers <= {"yes", "no"} else set()


def _verdict(says: str, wanted: set[str]) -> Score:
    value = float(says in wanted)
    return Score(value, {"match": value, "yes": float(says == "yes")}, says)
